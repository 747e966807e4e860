"""Python rows and Arrow data of datasets on every path: in place, stored first, dry, fresh."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from perfdata import (
    BoundaryError,
    Dataset,
    LoadError,
    RowsRefusedError,
    TableRows,
    build_dataset,
    provide_dataset,
)
from perfdata.snapshot.build import preview_build
from perfdata.snapshot.options import RestoreOptions
from tests.integration import unflagged_shop
from tests.integration.databases import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from perfdata import Target


def dicts(count: int, **more: object) -> TableRows:
    rows = ({"id": n, "name": f"customer {n}", **more} for n in range(1, count + 1))
    return TableRows("customer", rows=rows)


def arrow(count: int, **more: object) -> TableRows:
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pgpq")
    ids = list(range(1, count + 1))
    columns: dict[str, Any] = {"id": ids, "name": [f"customer {n}" for n in ids]}
    columns |= {name: [value] * count for name, value in more.items()}
    return TableRows("customer", arrow=pa.table(columns))


WAYS = pytest.mark.parametrize("way", [dicts, arrow])


def use(monkeypatch: pytest.MonkeyPatch, *tables: Any, **fields: Any) -> None:
    """Make a dataset of tables, which are functions, as the shop's only one."""

    def generate(_dataset: Dataset) -> Iterator[TableRows]:
        for table in tables:
            yield table()

    dataset = replace(unflagged_shop.project.datasets[0], name="given", generate=generate, **fields)
    project = replace(unflagged_shop.project, datasets=(dataset,))
    monkeypatch.setattr(unflagged_shop, "project", project)


def read(target: Target) -> Iterable[Any]:
    return run(target.conninfo, "SELECT id, name FROM customer ORDER BY id")


CUSTOMERS = [(n, f"customer {n}") for n in range(1, 6)]


@WAYS
def test_rows_are_stored_first_where_tables_have_no_flag(
    owned_shop: Target, monkeypatch: pytest.MonkeyPatch, way: Any
) -> None:
    use(
        monkeypatch,
        lambda: way(3),
        lambda: way(0),
        lambda: TableRows("order", rows=[{"customer_id": 2}]),
    )
    for _ in range(2):
        built = build_dataset(owned_shop, "given")
        assert built.rows["customer"] == 3
        assert built.rows["order"] == 1
    assert read(owned_shop) == CUSTOMERS[:3]
    use(monkeypatch, lambda: way(40_000))
    assert build_dataset(owned_shop, "given").rows["customer"] == 40_000
    restored = provide_dataset(owned_shop, "given", fresh=True).restored
    assert restored is not None
    assert restored.rows["customer"] == 40_000


@WAYS
def test_rows_go_in_place_beside_real_ones_and_shared_keys_are_found(
    shop_elsewhere: Target, monkeypatch: pytest.MonkeyPatch, way: Any
) -> None:
    run(
        shop_elsewhere.conninfo,
        "ALTER TABLE customer ADD COLUMN is_test_data boolean",
        "INSERT INTO customer VALUES (4, 'real', false)",
    )
    use(monkeypatch, lambda: way(3, is_test_data=True))
    preview_build(shop_elsewhere, "given", RestoreOptions())
    assert build_dataset(shop_elsewhere, "given").rows == {"customer": 3}
    assert read(shop_elsewhere) == [*CUSTOMERS[:3], (4, "real")]
    use(monkeypatch, lambda: way(5, is_test_data=True))
    for run_it in (
        lambda: preview_build(shop_elsewhere, "given", RestoreOptions()),
        lambda: build_dataset(shop_elsewhere, "given"),
    ):
        with pytest.raises(BoundaryError, match=r"customer \(id\): 4; the loaded rows have 1 to 5"):
            run_it()
    assert read(shop_elsewhere) == [*CUSTOMERS[:3], (4, "real")]


def test_a_dry_run_finds_rows_that_can_not_be_written(
    shop_elsewhere: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(shop_elsewhere.conninfo, "ALTER TABLE customer ADD COLUMN is_test_data boolean")
    rows = [{"name": "a", "is_test_data": True}, {"name": object(), "is_test_data": True}]
    use(monkeypatch, lambda: TableRows("customer", rows=rows))
    with pytest.raises(LoadError, match="dataset given: customer, row 2, column name: <object"):
        preview_build(shop_elsewhere, "given", RestoreOptions())


def test_what_the_server_refuses_names_the_dataset_too(
    owned_shop: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the rows come from a temporary file."""
    use(monkeypatch, lambda: TableRows("customer", rows=[{"name": "b", "id": "first"}]))
    with pytest.raises(
        RowsRefusedError,
        match="the server refused: dataset given: customer, row 1, column id: invalid input syntax",
    ):
        build_dataset(owned_shop, "given")


def test_two_rows_of_a_dataset_with_one_key_are_told_from_a_row_that_stays(
    owned_shop: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": 7, "name": "a"}, {"id": 7, "name": "b"}]
    use(monkeypatch, lambda: TableRows("customer", rows=rows))
    with pytest.raises(LoadError, match=r"two of the rows .* customer_pkey: Key \(id\)=\(7"):
        build_dataset(owned_shop, "given")
