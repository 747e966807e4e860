"""Fresh databases: what is in the replaced one and nowhere else is not gone before db.gc."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfdata import (
    BoundaryError,
    LoadError,
    RefusedError,
    ServerRefusedError,
    create_snapshot,
    find_snapshot,
    open_target,
    restore_snapshot,
)
from perfdata.postgres.drivers import PsycopgLink
from perfdata.progress import silent
from perfdata.snapshot import fresh as fresh_module
from perfdata.snapshot import template as template_module
from perfdata.snapshot.perf_clones import Clones
from perfdata.snapshot.template import make_template
from perfdata.target.garbage import collect_databases
from perfdata.templates import swap as swap_module
from perfdata.templates import template as templates
from perfdata.templates.databases import list_databases, write_mark
from perfdata.templates.marks import Kind, Mark
from perfdata.templates.swap import swap
from tests.integration.databases import run
from tests.integration.fresh_shop import CLONED, MADE, NAME, REAL, count, database_of, others

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perfdata import Restored, Settings
    from tests.integration.conftest import Databases

pytestmark = pytest.mark.slow


def test_a_replaced_database_that_got_its_name_back_is_not_removed(
    fresh: Callable[..., Restored], shop: str, settings: Settings, maintenance: str
) -> None:
    fresh()
    name = database_of(shop)
    (before,) = others(maintenance, shop)[Kind.BEFORE]
    run(maintenance, f'DROP DATABASE "{name}"', f'ALTER DATABASE "{before}" RENAME TO "{name}"')
    run(shop, REAL)
    done = collect_databases(maintenance, settings)
    assert name not in {one.name for one in done.removed}
    assert any(line.startswith(f"{name}: carries a mark") for line in done.left)
    assert count(shop) == 21


def test_one_that_was_given_another_name_is_not_removed_by_a_restore(
    fresh: Callable[..., Restored],
    shop: str,
    settings: Settings,
    maintenance: str,
    databases: Databases,
) -> None:
    fresh()
    fresh()
    mine = f"{database_of(shop)}_mine"
    before = others(maintenance, shop)[Kind.BEFORE][-1]
    run(maintenance, f'ALTER DATABASE "{before}" RENAME TO "{mine}"')
    databases.made.append(mine)
    fresh()
    fresh()
    collect_databases(maintenance, settings)
    assert count(databases.url(mine)) == 20


def test_rows_put_into_a_fresh_database_are_kept_until_they_are_collected(
    fresh: Callable[..., Restored], shop: str, settings: Settings, maintenance: str
) -> None:
    fresh()
    run(shop, REAL)
    notes = " ".join(fresh().notes)
    assert "not test data" in notes
    assert "customers: 1" in notes
    assert count(shop) == 20
    fresh()
    last = fresh()
    assert any(note.startswith("removed, ") for note in last.notes)
    held = [
        one
        for one in others(maintenance, shop)[Kind.BEFORE]
        if count(make_conninfo(shop, dbname=one)) == 21
    ]
    assert len(held) == 1
    said = f"has rows that {database_of(shop)} does not have: customers: 1"
    for dry in (True, False):
        done = collect_databases(maintenance, settings, dry=dry)
        assert [line for line in done.left if said in line and "--lost-rows" in line] == [
            f"{held[0]}: {said}; db.gc --lost-rows removes it"
        ]
        assert held[0] not in {one.name for one in done.removed}
    assert others(maintenance, shop)[Kind.BEFORE] == held
    done = collect_databases(maintenance, settings, lost_rows=True)
    assert any(said in one.reason for one in done.removed)
    assert Kind.BEFORE not in others(maintenance, shop)


def test_the_first_copy_of_a_database_that_perfdata_never_made_stays_until_it_is_collected(
    fresh: Callable[..., Restored], shop: str, maintenance: str
) -> None:
    """Whatever else was in it (functions, other schemas) is nowhere else."""
    fresh()
    (first,) = others(maintenance, shop)[Kind.BEFORE]
    for _ in range(3):
        fresh()
        assert first in others(maintenance, shop)[Kind.BEFORE]


def test_the_first_copy_of_a_database_that_a_user_renamed_stays_until_it_is_collected(
    fresh: Callable[..., Restored], shop: str, maintenance: str
) -> None:
    """Perfdata made it under another name; the mark came along."""
    with psycopg.connect(maintenance, autocommit=True) as connection:
        link, name = PsycopgLink(connection), database_of(shop)
        oid = link.value("SELECT oid FROM pg_database WHERE datname = %s", (name,))
        write_mark(link, name, "", Mark(Kind.MADE, oid, "its_former_name"))
    fresh()
    (first,) = others(maintenance, shop)[Kind.BEFORE]
    for _ in range(3):
        fresh()
        assert first in others(maintenance, shop)[Kind.BEFORE]


def test_rows_that_a_snapshot_of_all_has_are_not_lost_and_others_are(
    fresh: Callable[..., Restored], shop: str, settings: Settings
) -> None:
    run(shop, REAL)
    create_snapshot(shop, NAME, settings=settings, all_rows=True, replace=True)
    run(shop, "TRUNCATE customers, orders, countries")
    fresh()
    assert " alone: " not in " ".join(fresh().notes)
    run(shop, "INSERT INTO countries VALUES ('de')",
        "INSERT INTO customers VALUES (1001, 'another of them', true)")  # fmt: skip
    notes = " ".join(fresh().notes)
    assert "countries: 1" in notes
    assert "customers: 1" in notes
    assert "not test data" not in notes


def test_rows_written_between_the_look_and_the_swap_are_kept(
    fresh: Callable[..., Restored],
    shop: str,
    settings: Settings,
    maintenance: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fresh()
    assert "meanwhile" not in " ".join(fresh().notes)

    def late(*args: Any, **options: Any) -> Any:
        run(shop, REAL)
        return swap(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(swap_module, "swap", late)
        notes = " ".join(fresh().notes)
        assert "meanwhile" in notes
        assert "until db.gc --lost-rows" in notes
    fresh()
    fresh()
    kept = others(maintenance, shop)[Kind.BEFORE]
    assert sorted(count(make_conninfo(shop, dbname=one)) for one in kept).count(21) == 1
    left = collect_databases(maintenance, settings).left
    said = f"was written to during the restore of {database_of(shop)} that replaced it"
    assert sum(said in line for line in left) == 1
    (held,) = others(maintenance, shop)[Kind.BEFORE]
    assert count(make_conninfo(shop, dbname=held)) == 21
    assert any(
        said in one.reason
        for one in collect_databases(maintenance, settings, lost_rows=True).removed
    )


def test_another_restore_between_the_look_and_the_template_is_no_obstacle(
    fresh: Callable[..., Restored],
    shop: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It drops the foreign keys and adds them again, which gives them other oids."""
    real = make_template

    def late(*args: Any, **options: Any) -> Any:
        restore_snapshot(shop, NAME, settings=settings)
        return real(*args, **options)

    monkeypatch.setattr(fresh_module, "make_template", late)
    assert fresh().strategy == "a new template and its clone"
    assert count(shop) == 20


def test_a_file_that_is_replaced_while_the_target_is_examined_is_refused(
    fresh: Callable[..., Restored],
    shop: str,
    settings: Settings,
    maintenance: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is no damage, which a build would mend; what was judged is another file."""
    judged = find_snapshot(NAME, settings)

    def late(*args: Any, **options: Any) -> Any:
        create_snapshot(shop, NAME, "another", settings=settings, replace=True)
        return make_template(*args, **options)

    monkeypatch.setattr(fresh_module, "make_template", late)
    with pytest.raises(LoadError, match="fresh was replaced meanwhile"):
        fresh()
    with pytest.raises(LoadError, match="fresh was replaced meanwhile"):
        judged.open()
    assert count(shop) == 20
    assert others(maintenance, shop) == {}


def test_rows_committed_while_a_database_is_replaced_survive_gc(
    fresh: Callable[..., Restored], shop: str, settings: Settings, maintenance: str
) -> None:
    """A writer that commits at another moment of each of 16 restores, and what gc leaves of it."""
    fresh()
    collect_databases(maintenance, settings, lost_rows=True)
    committed, named = set(), 0

    def write(key: int) -> bool:
        time.sleep(0.008 * (key % 16))
        try:
            with psycopg.connect(shop) as connection:
                connection.execute("INSERT INTO customers VALUES (%s, 'real', false)", (key,))
        except psycopg.OperationalError:  # there was no database of this name, or it was ended
            return False
        return True

    for key in range(1000, 1016):
        with ThreadPoolExecutor(1) as pool:
            writer = pool.submit(write, key)
            notes = " ".join(fresh(terminate=True).notes)
        if writer.result():
            committed.add(key)
        named += "until db.gc --lost-rows" in notes
        collect_databases(maintenance, settings)
    kept = [make_conninfo(shop, dbname=one) for one in others(maintenance, shop)[Kind.BEFORE]]
    look = "SELECT id FROM customers WHERE id >= 1000"
    assert {row[0] for url in (shop, *kept) for row in run(url, look)} == committed
    assert named == len(kept) > 0
    done = collect_databases(maintenance, settings)
    assert len([line for line in done.left if "db.gc --lost-rows removes it" in line]) == len(kept)


@pytest.mark.parametrize("whole", [False, True], ids=["flagged rows", "all rows"])
def test_what_a_quiet_database_was_replaced_by_again_and_again_is_removed_by_gc(
    shop: str, settings: Settings, maintenance: str, *, whole: bool
) -> None:
    if whole:
        create_snapshot(shop, NAME, settings=settings, replace=True, all_rows=True)
    for strategy in (MADE, *[CLONED] * 5):
        done = restore_snapshot(shop, NAME, fresh=True, settings=settings)
        assert done.strategy == strategy
        assert "--lost-rows" not in " ".join(done.notes)
        assert collect_databases(maintenance, settings).left == ()
        assert Kind.BEFORE not in others(maintenance, shop)


@pytest.mark.parametrize(
    ("begin", "change", "look", "there"),
    [
        (
            "CREATE TABLE t (t text, n int); INSERT INTO t VALUES ('a', 1)",
            "UPDATE t SET n = 2",
            "SELECT n FROM t",
            2,
        ),
        (
            "CREATE TABLE alembic_version (version_num text)",
            "INSERT INTO alembic_version VALUES ('b')",
            "SELECT version_num FROM alembic_version",
            "b",
        ),
        (
            "SELECT lo_from_bytea(4242, 'old')",
            "SELECT lo_put(4242, 0, 'new')",
            "SELECT convert_from(lo_get(4242), 'UTF8')",
            "new",
        ),
        (
            "SELECT 1",
            "COMMENT ON SCHEMA public IS 'the new'",
            "SELECT obj_description('public'::regnamespace, 'pg_namespace')",
            "the new",
        ),
        (
            "CREATE MATERIALIZED VIEW clock AS SELECT clock_timestamp() AS at",
            "REFRESH MATERIALIZED VIEW clock; CREATE TABLE seen AS SELECT at FROM clock",
            "SELECT clock.at = seen.at FROM clock, seen",
            True,
        ),
        (
            "CREATE SEQUENCE tickets",
            "SELECT setval('tickets', 77)",
            "SELECT last_value FROM tickets",
            77,
        ),
    ],
    ids=[
        *("a column t", "alembic_version", "large objects", "comments on schemas"),
        *("materialised views", "free sequences"),
    ],
)
def test_what_was_changed_since_the_template_was_made_stays(
    fresh: Callable[..., Restored],
    shop: str,
    settings: Settings,
    begin: str,
    change: str,
    look: str,
    there: object,
) -> None:
    run(shop, *begin.split("; "))
    create_snapshot(shop, NAME, settings=settings, replace=True)
    fresh()
    run(shop, *change.split("; "))
    assert fresh(allow_drift=True).strategy == MADE
    assert run(shop, look) == [(there,)]
    assert fresh(allow_drift=True).strategy == CLONED
    run(shop, look)


def test_sequences_stand_the_same_in_each_fresh_database(
    fresh: Callable[..., Restored], shop: str
) -> None:
    run(shop, "SELECT setval('orders_id_seq', 500)")
    look = "SELECT last_value, is_called FROM orders_id_seq"
    assert fresh().strategy == MADE
    first = run(shop, look)
    run(shop, "SELECT setval('orders_id_seq', 900)")
    assert fresh().strategy == CLONED
    assert run(shop, look) == first
    assert run(shop, "SELECT nextval('orders_id_seq')") == [(21,)]


def test_rows_that_reference_filled_tables_by_an_unchecked_key_are_refused(
    fresh: Callable[..., Restored], shop: str
) -> None:
    run(
        shop,
        "CREATE TABLE audit (id int, customer_id int)",
        "ALTER TABLE audit ADD CONSTRAINT audit_customer FOREIGN KEY (customer_id)"
        " REFERENCES customers NOT VALID",
        "INSERT INTO audit VALUES (1, NULL)",
    )
    assert fresh(allow_drift=True).strategy == MADE
    run(shop, "INSERT INTO audit VALUES (2, 7)")
    with pytest.raises(
        BoundaryError, match=r"audit → customers \(audit_customer\): 1 rows.*VALIDATE CONSTRAINT"
    ):
        fresh(allow_drift=True)
    assert count(shop, "audit") == 2
    run(shop, "ALTER TABLE audit VALIDATE CONSTRAINT audit_customer")
    assert fresh(allow_drift=True).strategy == MADE
    assert count(shop, "audit") == 2


@pytest.mark.parametrize(("sqlstate", "falls_back"), [("42501", True), ("53200", False)])
def test_only_what_the_role_may_not_read_leads_to_an_ordinary_restore(
    fresh: Callable[..., Restored],
    monkeypatch: pytest.MonkeyPatch,
    sqlstate: str,
    *,
    falls_back: bool,
) -> None:
    def refused(*_: object) -> str:
        raise ServerRefusedError("as told", sqlstate=sqlstate)

    monkeypatch.setattr(template_module, "fingerprint_database", refused)
    if falls_back:
        assert fresh().strategy not in (MADE, CLONED)
        return
    with pytest.raises(ServerRefusedError, match="as told"):
        fresh()


def test_rows_that_reference_rows_that_go_are_named_before_anything_is_done(
    shop: str, allowed: Settings
) -> None:
    run(shop, REAL, "CREATE TABLE audit (id int, customer_id int REFERENCES customers)")
    run(shop, "INSERT INTO audit VALUES (1, 1000)")
    with pytest.raises(BoundaryError, match=r"audit → customers .*1 rows"):
        restore_snapshot(shop, NAME, fresh=True, settings=allowed, allow_drift=True)
    assert count(shop, "audit") == 1
    run(shop, "UPDATE audit SET customer_id = 3")
    done = restore_snapshot(shop, NAME, fresh=True, settings=allowed, allow_drift=True)
    assert done.strategy == MADE


@pytest.fixture
def everything(shop: str, settings: Settings) -> Iterator[str]:
    """A snapshot of all rows of a database with a real customer, a free sequence and a view."""
    run(
        shop,
        REAL,
        "CREATE SEQUENCE tickets",
        "SELECT nextval('tickets')",
        "CREATE MATERIALIZED VIEW clock AS SELECT clock_timestamp() AS at",
    )
    create_snapshot(shop, "everything", all_rows=True, settings=settings, replace=True)
    yield "everything"
    (settings.home / "snapshots" / "everything.json.zst").unlink()


def test_a_fresh_database_with_all_rows_loses_none_and_leaves_one_copy(
    shop: str, settings: Settings, maintenance: str, everything: str
) -> None:
    run(shop, "SELECT setval('tickets', 50)", "REFRESH MATERIALIZED VIEW clock")
    strategies = [
        restore_snapshot(shop, everything, fresh=True, settings=settings).strategy for _ in range(4)
    ]
    assert strategies == [MADE, CLONED, CLONED, CLONED]
    # What was there before the first one, and what the last one replaced.
    assert len(others(maintenance, shop)[Kind.BEFORE]) == 2
    assert run(shop, "SELECT nextval('tickets')") == [(2,)]
    run(shop, "INSERT INTO customers VALUES (1001, 'another', false)")
    restore_snapshot(shop, everything, fresh=True, settings=settings)
    restore_snapshot(shop, everything, fresh=True, settings=settings)
    assert len(others(maintenance, shop)[Kind.BEFORE]) == 3


def test_restores_at_once_wait_for_each_other(shop: str, settings: Settings) -> None:
    with ThreadPoolExecutor(3) as pool:
        restores = [pool.submit(restore_snapshot, shop, NAME, settings=settings) for _ in range(3)]
        assert {one.result().strategy for one in restores} == {"whole tables"}
    assert count(shop) == count(shop, "orders") == 20


def test_a_sequence_that_other_tables_use_too_stays_ahead_of_them(
    fresh: Callable[..., Restored], shop: str
) -> None:
    run(shop, "CREATE TABLE notes (id int PRIMARY KEY DEFAULT nextval('orders_id_seq'))")
    run(shop, *["INSERT INTO notes DEFAULT VALUES"] * 5)
    for strategy in (MADE, CLONED):
        assert fresh(allow_drift=True).strategy == strategy
        assert run(shop, "SELECT last_value, is_called FROM orders_id_seq") == [(25, True)]


def test_the_template_in_use_is_not_removed_meanwhile(
    fresh: Callable[..., Restored],
    shop: str,
    maintenance: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert fresh().strategy == MADE
    monkeypatch.setitem(templates.TEMPLATES_KEPT, Kind.TEMPLATE, 0)
    assert fresh().strategy == CLONED
    assert len(others(maintenance, shop)[Kind.TEMPLATE]) == 1


@pytest.fixture
def clones(shop: str, settings: Settings) -> Callable[[], Clones]:
    target = open_target(replace(settings, database_url=shop))
    return lambda: Clones(target, {}, silent)


def names_of(maintenance: str) -> set[str]:
    with psycopg.connect(maintenance, autocommit=True) as connection:
        return {one.name for one in list_databases(PsycopgLink(connection))}


def leave(clones: Callable[[], Clones], maintenance: str, count: int) -> list[str]:
    """Leave clones behind, as an interrupted DROP leaves them: of no use, and taking no ALTER."""
    with clones() as run_that_dies:
        template = run_that_dies.template(NAME).template
        made = [database_of(run_that_dies.make(template)) for _ in range(count)]
        run_that_dies._made.clear()
    invalid = "UPDATE pg_database SET datconnlimit = -2 WHERE datname = ANY (%s)"
    with psycopg.connect(maintenance, autocommit=True) as connection:
        connection.execute(invalid, (made,))
    assert names_of(maintenance) >= set(made)
    return made


def test_what_an_interrupted_removal_left_is_removed_by_the_next_run_or_by_gc(
    clones: Callable[[], Clones], shop: str, settings: Settings, maintenance: str
) -> None:
    made = leave(clones, maintenance, 1)
    with clones():
        assert not names_of(maintenance) & set(made)
    made = leave(clones, maintenance, 1)
    collected = collect_databases(shop, settings)
    assert set(made) <= {one.name for one in collected.removed}
    assert not names_of(maintenance) & set(made)


def test_runs_that_begin_together_remove_what_is_left_once(
    clones: Callable[[], Clones], maintenance: str
) -> None:
    made = leave(clones, maintenance, 4)

    def begin() -> None:
        with clones():
            pass

    with ThreadPoolExecutor(4) as pool:
        for one in [pool.submit(begin) for _ in range(4)]:
            one.result()
    assert not names_of(maintenance) & set(made)


def test_a_session_in_the_database_is_named_and_no_reason_to_judge_nothing(
    clones: Callable[[], Clones], shop: str
) -> None:
    with (
        clones() as own,
        psycopg.connect(shop, application_name="a look"),
        pytest.raises(RefusedError, match="a look"),
    ):
        own.template(NAME)
