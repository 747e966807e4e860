"""A query of Django, counted on the driver's connection."""

import pytest


@pytest.mark.perf(dataset="500_authors", max_queries=1)
def test_shelf(perf, django_clone):
    from library.shelves import shelf

    with perf.measure(of=django_clone):
        assert len(shelf(1950)) == 40
