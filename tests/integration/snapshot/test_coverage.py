"""Tables without the flag whose rows count as flagged by the row that they reference."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perfdata import (
    BoundaryError,
    LoadError,
    RefusedError,
    SchemaError,
    SnapshotDiffersError,
    Target,
    build_dataset,
    create_snapshot,
    diff_snapshots,
    find_snapshot,
    provide_dataset,
    restore_snapshot,
    verify_snapshot,
)
from perfdata.postgres.connection import open_link
from perfdata.postgres.url import normalise_url
from perfdata.progress import silent
from perfdata.project import load_project
from perfdata.snapshot.build import preview_build
from perfdata.snapshot.options import RestoreOptions
from perfdata.snapshot.perf_clones import Clones
from perfdata.snapshot.preview import RestorePreview, preview_restore
from perfdata.tasks.dry_run import tell_build
from perfdata.tasks.snapshot_output import manifest_notes
from perfdata.templates.provenance import find_owned, rows_of_others
from tests.integration.covered_shop import ADDED, EMPTIED, TABLES, THROUGH
from tests.integration.databases import mark_owned, run
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Callable

    State = Callable[[str], Any]

BESIDE = {"products": 1, "orders": 2, "lines": 3, "audit.log": 3}  # the real rows


def counts(target: Target) -> dict[str, int]:
    query = " UNION ALL ".join(f"SELECT '{key}', count(*) FROM {key}" for key in BESIDE)
    return dict(run(target.conninfo, query))


def with_orders(count: int) -> dict[str, int]:
    """Return the numbers of rows by table: the real ones and the dataset's."""
    return {key: rows + (count if key != "products" else 0) for key, rows in BESIDE.items()}


def restore(target: Target, name: str, **options: Any) -> Any:
    return restore_snapshot(target.conninfo, name, settings=target.settings, **options)


def through(target: Target, *entries: str) -> Target:
    return replace(target, settings=replace(target.settings, flag_through=entries))


def preview(target: Target, name: str, **options: Any) -> RestorePreview:
    found = preview_restore(target, name, RestoreOptions(**options), silent, may_build=False)
    assert isinstance(found, RestorePreview)
    return found


def others(url: str) -> list[str]:
    """Return the tables that have rows of others (see rows_of_others)."""
    with open_link(url) as link:
        own = find_owned(link)
        assert own
        return rows_of_others(link, replace(own.mark, flag="is_test_data"))


def test_rows_that_hang_on_flagged_rows_are_replaced_beside_real_ones(
    covered_shop: Target, state: State
) -> None:
    """A chain of two keys, null keys, rows that somebody added to the dataset's."""
    url = covered_shop.conninfo
    before = state(url)
    built = build_dataset(covered_shop, "100")
    assert built.rows == {"orders": 100, "lines": 100, "audit.log": 100}
    assert built.strategy == "beside other data"
    assert built.snapshot
    manifest = built.snapshot.manifest
    assert manifest.stats == {"orders": 100, "products": 0, "lines": 100, "audit.log": 100}
    assert manifest.flag_through == list(THROUGH)
    assert (manifest.whole_tables, manifest.left_out) == ([], [])
    assert manifest_notes(built.snapshot) == ["flagged through lines.order_id, audit.log.line_id"]
    after_build = state(url)
    run(url, *ADDED)
    for _ in range(2):
        assert provide_dataset(covered_shop, "100").reason == "current"
        assert state(url) == after_build
        verify_snapshot("100", covered_shop.settings, database=url)
    build_dataset(covered_shop, "10")
    assert counts(covered_shop) == with_orders(10)
    run(url, *EMPTIED)
    assert state(url) == before


def test_a_snapshot_of_flagged_rows_has_those_that_hang_on_them(covered_shop: Target) -> None:
    url, settings = covered_shop.conninfo, covered_shop.settings
    build_dataset(covered_shop, "10")
    run(url, *ADDED)
    made = create_snapshot(url, "mine", settings=settings)
    assert made.manifest.stats == {"orders": 10, "products": 0, "lines": 11, "audit.log": 12}
    assert [required.table for required in made.manifest.requires] == ["products"]
    run(url, "UPDATE lines SET product_id = null WHERE id = 900")
    with pytest.raises(SnapshotDiffersError, match=r"differ: lines \(11 rows in both"):
        verify_snapshot("mine", settings, database=url)
    found = diff_snapshots("mine", database=url, settings=settings)
    assert [(table.table, table.changed) for table in found.tables] == [("lines", 1)]
    run(url, *EMPTIED)
    assert counts(covered_shop) == BESIDE
    restore(covered_shop, "mine")
    assert counts(covered_shop) == {"products": 1, "orders": 12, "lines": 14, "audit.log": 15}
    verify_snapshot("mine", settings, database=url)


def test_a_dry_run_counts_as_the_restore_does(
    covered_shop: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    build_dataset(covered_shop, "100")
    build_dataset(covered_shop, "10", snapshot=False)
    run(covered_shop.conninfo, *ADDED)
    found = {
        table.key: (table.removal.staying, table.removal.going, table.coming)
        for table in preview(covered_shop, "100").tables
        if table.removal
    }
    assert found == {
        "products": (1, 0, 0),
        "orders": (2, 10, 100),
        "lines": (3, 11, 100),
        "audit.log": (3, 12, 100),
    }
    settings = replace(covered_shop.settings, database_url=covered_shop.conninfo)
    dataset = load_project(settings).dataset("10")
    tell_build(settings, dataset, snapshot=False, replace=False, as_superuser=False)
    said = "the rows that reference these by lines.order_id, audit.log.line_id, and in a database"
    assert said in capsys.readouterr().out


def test_a_loaded_row_that_hangs_on_a_real_row_is_refused(
    covered_shop: Target, state: State
) -> None:
    """No later restore would remove it."""
    before = state(covered_shop.conninfo)
    said = r"lines: 1 of the loaded rows reference no row with a true is_test_data by lines\.order"
    with pytest.raises(LoadError, match=said):
        build_dataset(covered_shop, "of_real_order")
    assert state(covered_shop.conninfo) == before


def test_a_real_row_does_not_become_flagged_by_a_load(covered_shop: Target, state: State) -> None:
    """It referenced nothing, by a key that was not checked for a while."""
    run(
        covered_shop.conninfo,
        "ALTER TABLE lines DISABLE TRIGGER ALL",
        "INSERT INTO lines VALUES (4, 77, null)",
        "ALTER TABLE lines ENABLE TRIGGER ALL",
    )
    before = state(covered_shop.conninfo)
    said = r"lines: 1 rows that are not test data referenced nothing by lines\.order_id, and would"
    with pytest.raises(LoadError, match=said):
        build_dataset(covered_shop, "of_missing_order")
    assert state(covered_shop.conninfo) == before


def test_only_the_named_tables_lose_rows(covered_shop: Target, state: State) -> None:
    """A row of another table that references a flagged row is refused, whatever a file says."""
    build_dataset(covered_shop, "10")
    before = state(covered_shop.conninfo)
    lines = through(covered_shop, "lines.order_id")
    said = r"audit\.log → lines \(\w+\): 10 of audit\.log, .*; or add audit\.log\.line_id to"
    with pytest.raises(BoundaryError, match=said):
        build_dataset(lines, "of_missing_order")
    said = r"rows of audit\.log, .* flagged through audit\.log\.line_id: name that in .*_through"
    with pytest.raises(SchemaError, match=said):
        restore(lines, "10", unflagged_rows=True)
    nothing = through(covered_shop)
    said = r"lines → orders \(\w+\): 10 of lines, .*lines\.order_id"
    with pytest.raises(BoundaryError, match=said):
        build_dataset(nothing, "of_missing_order")
    said = r"rows of lines, audit\.log, .* lines\.order_id, audit\.log\.line_id: name that in"
    with pytest.raises(SchemaError, match=said):
        restore(nothing, "10", unflagged_rows=True)
    assert state(covered_shop.conninfo) == before


def test_a_real_line_of_a_flagged_product_is_refused(covered_shop: Target, state: State) -> None:
    """The line is real by its order, which the setting names; its product is another key."""
    product, line = "INSERT INTO products VALUES (5, true)", "INSERT INTO lines VALUES (4, 1, 5)"
    run(covered_shop.conninfo, product, line)
    before = state(covered_shop.conninfo)
    said = r"lines → products \(\w+\): 1 of lines, e\.g\. 4\. Point those .*, or delete them; then"
    with pytest.raises(BoundaryError, match=said):
        build_dataset(covered_shop, "10")
    assert state(covered_shop.conninfo) == before


def test_the_error_without_the_setting_names_it(covered_shop: Target, state: State) -> None:
    before = state(covered_shop.conninfo)
    nothing = through(covered_shop)
    said = (
        r"rows for lines, which has no column is_test_data .*Add the column; or, if all of its rows"
        r" .* add lines\.order_id or lines\.product_id to .*flag_through; or restore .*db\.adopt"
    )
    with pytest.raises(SchemaError, match=said):
        build_dataset(nothing, "10")
    with pytest.raises(SchemaError, match=said):
        preview_build(nothing, "10", RestoreOptions())
    assert state(covered_shop.conninfo) == before


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (["line.order_id"], "'line.order_id', but no table .* Did you mean lines.order_id"),
        (["lines.id"], "'lines.id', but no foreign key of lines has that column"),
        (["log.line_id"], r"no table .* such a column. Did you mean audit\.log\.line_id"),
        (["lines"], "no table of the database has such a column"),
        (["audit.log.line_id"], "but lines, which that references, has no column is_test_data and"),
        (["flagged.order_id"], "but flagged has the column is_test_data itself"),
        (["lines.order_id", "lines.product_id"], "two foreign keys of lines: lines.order_id"),
        (["tree.parent_id"], "but tree, which that references, leads back to it"),
        (["a.b", "b.a"], "leads back to it"),
        (["loose.order_id"], r"its foreign key \w+ is not checked by the server"),
        (["parts.order_id"], "its foreign key only_one is one of partition part_1 only"),
        (["twice.b"], "that is a column of several foreign keys: to_other, to_pair"),
    ],
)
def test_a_setting_that_covers_nothing_is_an_error(
    covered_shop: Target, entries: list[str], said: str
) -> None:
    run(
        covered_shop.conninfo,
        "CREATE TABLE flagged (order_id int REFERENCES orders, is_test_data boolean)",
        "CREATE TABLE tree (id int PRIMARY KEY, parent_id int REFERENCES tree)",
        "CREATE TABLE a (id int PRIMARY KEY, b int)",
        "CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a)",
        "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b",
        "CREATE TABLE loose (order_id int)",
        "ALTER TABLE loose ADD FOREIGN KEY (order_id) REFERENCES orders NOT VALID",
        "CREATE TABLE parts (order_id int) PARTITION BY LIST (order_id)",
        "CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1)",
        "ALTER TABLE part_1 ADD CONSTRAINT only_one FOREIGN KEY (order_id) REFERENCES orders",
        "CREATE TABLE pair (a int, b int, is_test_data boolean, PRIMARY KEY (a, b), UNIQUE (b, a))",
        "CREATE TABLE twice (a int, b int, c int,"
        " CONSTRAINT to_pair FOREIGN KEY (a, b) REFERENCES pair (a, b),"
        " CONSTRAINT to_other FOREIGN KEY (b, c) REFERENCES pair (b, a))",
    )
    wrong = through(covered_shop, *entries)
    said = rf"\[tool\.perfdata\] flag_through names .*{said}"
    with pytest.raises(SchemaError, match=said):
        build_dataset(wrong, "10")
    with pytest.raises(SchemaError, match=said):
        create_snapshot(wrong.conninfo, "mine", settings=wrong.settings)


def test_keys_of_several_columns_partitions_and_types(covered_shop: Target, digests: State) -> None:
    """Any column of a key names it; keys of a user's type are compared as text."""
    url = covered_shop.conninfo
    run(
        url,
        "CREATE TYPE kind AS ENUM ('real', 'test')",
        "CREATE TABLE pair (a int, b kind, is_test_data boolean, PRIMARY KEY (a, b))"
        " PARTITION BY LIST (b)",
        "CREATE TABLE pair_real PARTITION OF pair FOR VALUES IN ('real')",
        "CREATE TABLE pair_test PARTITION OF pair FOR VALUES IN ('test')",
        'CREATE TABLE "a.b" (a int, "b.c" kind, is_test_data int, FOREIGN KEY (a, "b.c")'
        " REFERENCES pair) PARTITION BY LIST (a)",
        'CREATE TABLE "a.b_1" PARTITION OF "a.b" FOR VALUES IN (1)',
        'CREATE TABLE "a.b_2" PARTITION OF "a.b" DEFAULT',
        "INSERT INTO pair VALUES (1, 'real', null), (1, 'test', true), (2, 'test', true)",
        """INSERT INTO "a.b" VALUES (1, 'real', 1), (1, 'test', 2), (2, 'test', 3), (1, null, 4),"""
        " (null, 'test', 5)",
    )
    named = through(covered_shop, *THROUGH, '"a.b"."b.c"')
    made = create_snapshot(url, "mine", settings=named.settings)
    assert made.manifest.stats['"a.b"'] == 2
    before = digests(url)
    run(url, "INSERT INTO pair VALUES (9, 'test', true)")
    run(url, """INSERT INTO "a.b" VALUES (9, 'test', 6)""")
    restore(through(named, *THROUGH, '"a.b".a'), "mine")
    assert digests(url) == before
    verify_snapshot("mine", named.settings, database=url)


def test_a_fresh_database_has_the_datasets_rows_only(covered_shop: Target) -> None:
    build_dataset(covered_shop, "10")
    run(covered_shop.conninfo, *ADDED)
    lost = ("orders: 2", "products: 1", "lines: 3", "audit.log: 3")
    assert preview(covered_shop, "10", fresh=True).lost == lost
    restore(covered_shop, "10", fresh=True)
    assert counts(covered_shop) == {"products": 0, "orders": 10, "lines": 10, "audit.log": 10}
    with Clones(covered_shop, {}, silent) as clones:
        clone = clones.make(clones.template("100").template)
        assert run(clone, "SELECT count(*) FROM lines") == [(100,)]


def test_rows_can_be_added_to_flagged_ones(covered_shop: Target, state: State) -> None:
    build_dataset(covered_shop, "10")
    before = state(covered_shop.conninfo)
    with pytest.raises(BoundaryError, match=r"lines \(id\): 101, 102, 103 and 7 more"):
        restore(covered_shop, "10", clean_existing=False)
    assert state(covered_shop.conninfo) == before
    run(covered_shop.conninfo, *EMPTIED, "INSERT INTO orders VALUES (500, true)")
    run(covered_shop.conninfo, "INSERT INTO lines VALUES (500, 500)")
    restore(covered_shop, "10", clean_existing=False)
    assert counts(covered_shop) == {"products": 1, "orders": 13, "lines": 14, "audit.log": 13}


def test_the_setting_holds_in_an_owned_database(covered_shop: Target) -> None:
    """Its rows count as perfdata's own, so a parked database that has no others can go."""
    url = covered_shop.conninfo
    run(url, "TRUNCATE products, orders CASCADE")
    mark_owned(url)
    build_dataset(through(covered_shop), "100")
    whole = find_snapshot("100", covered_shop.settings).manifest.whole_tables
    assert whole == ["audit.log", "lines"]
    run(url, "INSERT INTO lines VALUES (3, null, null)")
    with pytest.raises(RefusedError, match="lines: 1"):
        restore(through(covered_shop), "100")
    restore(covered_shop, "100")
    assert counts(covered_shop) == {"products": 0, "orders": 100, "lines": 101, "audit.log": 100}
    assert others(url) == ["public.lines"]
    run(url, "DELETE FROM lines WHERE id = 3")
    build_dataset(covered_shop, "10")
    assert find_snapshot("10", covered_shop.settings).manifest.whole_tables == []
    assert others(url) == []
    restore(covered_shop, "10", fresh=True)
    assert others(url) == []
    run(url, "INSERT INTO audit.log VALUES (901, 101, 'a tester')")
    assert others(url) == ["audit.log"]


def test_a_datasets_snapshot_from_before_the_setting_can_be_restored(
    covered_shop: Target, databases: Any
) -> None:
    """It has the tables whole, from a database that perfdata owned."""
    url = databases.make("template0")
    run(url, *TABLES)
    mark_owned(url)
    settings = replace(covered_shop.settings, allow=(entry(url),), flag_through=())
    build_dataset(Target(settings, normalise_url(url), embedded=False), "10")
    restore(covered_shop, "10")
    assert counts(covered_shop) == with_orders(10)


def test_a_required_row_of_a_covered_table_must_be_real(covered_shop: Target) -> None:
    url = covered_shop.conninfo
    run(
        url,
        "CREATE TABLE visits (id int, line_id int REFERENCES lines, is_test_data boolean)",
        "INSERT INTO visits VALUES (1, 3, true)",
    )
    made = create_snapshot(url, "mine", settings=covered_shop.settings)
    assert [(required.table, required.keys) for required in made.manifest.requires] == [
        ("lines", [["3"]])
    ]
    restore(covered_shop, "mine")
    assert run(url, "SELECT line_id FROM visits") == [(3,)]
    run(
        url, "INSERT INTO orders VALUES (500, true)", "UPDATE lines SET order_id = 500 WHERE id = 3"
    )
    with pytest.raises(RefusedError, match=r"not in the database: lines \(\w+\): 3"):
        restore(covered_shop, "mine")


def test_a_writer_waits_and_is_waited_for(covered_shop: Target) -> None:
    """What it adds to a flagged order meanwhile is seen, and goes with the order."""
    build_dataset(covered_shop, "10")
    with psycopg.connect(covered_shop.conninfo) as writer, ThreadPoolExecutor(1) as executor:
        writer.execute(ADDED[0])
        with pytest.raises(LoadError, match=r"lock.* lines"):
            restore(covered_shop, "10", lock_timeout_s=0.1)
        restored = executor.submit(restore, covered_shop, "10")
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while not run(covered_shop.conninfo, waiting)[0][0]:
            time.sleep(0.01)
        writer.commit()
        restored.result()
    assert counts(covered_shop) == with_orders(10)
    assert run(covered_shop.conninfo, "SELECT id FROM lines WHERE id = 900") == []
