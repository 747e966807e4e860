"""Perf tests of billing."""

import pytest
from billing.invoices import statement


@pytest.mark.perf(dataset="1000_accounts", max_queries=2)
def test_statement(perf):
    assert len(perf(statement, 1_000_100, 1_000_149)) == 50
