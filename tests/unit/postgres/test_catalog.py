from __future__ import annotations

import pytest

from perfdata.errors import SchemaError
from perfdata.postgres.catalog import Catalog, Table


def catalog(*names: str) -> Catalog:
    tables = (
        Table(
            schema="public",
            name=name,
            partitioned=False,
            oid=number,
            hidden=False,
            primary_key=(),
            columns=(),
        )
        for number, name in enumerate(names)
    )
    return Catalog(tuple(tables), (), (), ())


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("customers", "orders"), "has no table customer; did you mean customers?"),
        (("orders", "items"), "has no table customer; it has: items, orders"),
        ((), "has no table customer; it has: none"),
    ],
)
def test_a_missing_table_is_told_with_those_that_are_there(
    names: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SchemaError) as caught:
        catalog(*names).table("customer")
    assert caught.value.reason == f"the database {said}"
    assert "migrations" in caught.value.remedy
