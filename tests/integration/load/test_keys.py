"""Keys of loaded rows that rows which stay have too: found in a dry run, and named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from perfdata import BoundaryError, build_dataset, create_snapshot, restore_snapshot
from perfdata.progress import silent
from perfdata.snapshot.build import preview_build
from perfdata.snapshot.options import RestoreOptions
from perfdata.snapshot.preview import preview_restore
from tests.integration.databases import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfdata import Target

    State = Callable[[str], Any]

FLAG = "ADD is_test_data boolean NOT NULL DEFAULT false"


@pytest.fixture
def flagged(shop_elsewhere: Target) -> Target:
    """The shop with the flag, of which 100 customers are test data."""
    run(
        shop_elsewhere.conninfo,
        f"ALTER TABLE customer {FLAG}",
        f'ALTER TABLE "order" {FLAG}',
        "INSERT INTO customer SELECT g, 'customer ' || g, true FROM generate_series(1, 100) g",
        'INSERT INTO "order" SELECT g, g, true FROM generate_series(1, 100) g',
    )
    create_snapshot(shop_elsewhere.conninfo, "mine", settings=shop_elsewhere.settings)
    run(shop_elsewhere.conninfo, "UPDATE customer SET is_test_data = false WHERE id > 92",
        'DELETE FROM "order" WHERE id > 92')  # fmt: skip
    return shop_elsewhere


FOUND = r"customer \(id\): 93, 94, 95 and 5 more; the loaded rows have 1 to 100\. Have the dataset "


def test_a_dry_restore_finds_them(flagged: Target, state: State) -> None:
    before = state(flagged.conninfo)
    with pytest.raises(BoundaryError, match=f"nothing was touched: .* that are kept: {FOUND}"):
        preview_restore(flagged, "mine", RestoreOptions(), silent, may_build=False)
    assert state(flagged.conninfo) == before


def test_a_restore_names_them_too(flagged: Target, state: State) -> None:
    before = state(flagged.conninfo)
    with pytest.raises(BoundaryError, match=rf"rolled back: .*Key \(id\)=\(93\).*: {FOUND}"):
        restore_snapshot(flagged.conninfo, "mine", settings=flagged.settings)
    assert state(flagged.conninfo) == before


def test_keys_that_are_free_pass(flagged: Target) -> None:
    run(flagged.conninfo, "UPDATE customer SET id = id + 1000 WHERE NOT is_test_data")
    preview_restore(flagged, "mine", RestoreOptions(), silent, may_build=False)
    restore_snapshot(flagged.conninfo, "mine", settings=flagged.settings)
    kept = RestoreOptions(clean_existing=False)
    with pytest.raises(BoundaryError, match=r"customer \(id\): 1, 2, 3 and 97 more; .*Leave out c"):
        preview_restore(flagged, "mine", kept, silent, may_build=False)


@pytest.mark.parametrize("real", [5, 1005])
def test_a_dry_build_finds_them(flagged: Target, state: State, real: int) -> None:
    run(flagged.conninfo, 'DELETE FROM "order"', "DELETE FROM customer",
        f"INSERT INTO customer VALUES ({real}, 'a real one', false)")  # fmt: skip
    before = state(flagged.conninfo)
    if real > 100:
        preview_build(flagged, "flagged", RestoreOptions())
        assert state(flagged.conninfo) == before
        build_dataset(flagged, "flagged")
        return
    with pytest.raises(BoundaryError, match=r"customer \(id\): 5; the loaded rows have 1 to 20"):
        preview_build(flagged, "flagged", RestoreOptions())
    preview_build(flagged, "flagged", RestoreOptions(fresh=True))  # no row stays there
    assert state(flagged.conninfo) == before
