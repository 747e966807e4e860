"""Perf tests of the shop's queries."""

import pytest
from shop.orders import best_sellers, latest_orders

pytestmark = pytest.mark.perf(dataset="1000_customers")


@pytest.mark.perf(max_queries=2)
def test_latest_orders(perf):
    assert len(perf(latest_orders, 3)) == 10


@pytest.mark.perf(max_queries=1)
def test_best_sellers(perf):
    assert len(perf(best_sellers)) == 10
