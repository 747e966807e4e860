"""Garbage: what is collected, what is left and named, and the tasks that say so."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfdata import (
    Restored,
    Settings,
    open_target,
    provide_dataset,
)
from perfdata.server.embedded import EmbeddedServer
from perfdata.target.garbage import collect_databases
from perfdata.templates.marks import Kind
from tests.integration.fresh_shop import (
    KILLED,
    count,
    database_of,
    others,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.conftest import Databases

pytestmark = pytest.mark.slow


def test_collecting_removes_what_is_marked_and_nothing_else(
    fresh: Callable[..., Restored],
    shop: str,
    settings: Settings,
    maintenance: str,
    databases: Databases,
) -> None:
    fresh()
    databases.make("template0", "perfdata_work_of_mine")
    databases.make("template0", f"{database_of(shop)}_before_me")
    arguments = ["swap", "swap", "before", shop, str(settings.root), str(settings.home)]
    subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    (kept,) = others(maintenance, shop)[Kind.BEFORE]
    (left,) = others(maintenance, shop)[Kind.WORK]
    would = collect_databases(maintenance, settings, dry=True)
    assert {kept, left} <= {one.name for one in would.removed}
    assert {Kind.BEFORE, Kind.WORK} <= others(maintenance, shop).keys()
    done = collect_databases(maintenance, settings)
    assert {one.name: one.reason for one in done.removed if one.name in {kept, left}} == {
        kept: f"was replaced by a restore of {database_of(shop)}",
        left: "left by a restore that was killed",
    }
    assert done.size_bytes > 10_000_000
    assert others(maintenance, shop).keys() == {Kind.MADE, Kind.TEMPLATE}
    assert count(databases.url("perfdata_work_of_mine"), "pg_class") > 0
    assert count(databases.url(f"{database_of(shop)}_before_me"), "pg_class") > 0


def test_what_somebody_looks_at_is_left_and_named(
    fresh: Callable[..., Restored], shop: str, settings: Settings, maintenance: str
) -> None:
    fresh()
    (kept,) = others(maintenance, shop)[Kind.BEFORE]
    with psycopg.connect(make_conninfo(shop, dbname=kept)):
        done = collect_databases(maintenance, settings)
        assert any(kept in line and "accessed" in line for line in done.left)
    assert kept in others(maintenance, shop)[Kind.BEFORE]


def test_templates_of_a_database_that_is_gone_are_collected(
    fresh: Callable[..., Restored],
    shop: str,
    settings: Settings,
    maintenance: str,
    databases: Databases,
) -> None:
    fresh()
    databases.drop(database_of(shop))
    collect_databases(maintenance, settings)
    assert others(maintenance, shop) == {}


@pytest.fixture
def own_settings(settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """A server of the test's own: its database is not the one that other tests clone."""
    own = replace(settings, home=tmp_path / "home")
    yield own
    server = EmbeddedServer(own)
    server.stop()
    shutil.rmtree(server.status().data.parent, ignore_errors=True)


def test_the_tasks(own_settings: Settings, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """On the embedded database itself, which is marked as perfdata's own."""
    from invoke.context import Context

    from perfdata.tasks import db, snapshot

    monkeypatch.chdir(own_settings.root)
    monkeypatch.setenv("PERFDATA_HOME", str(own_settings.home))
    snapshot.restore(Context(), name="10_offices", fresh=True)
    out, _ = capfd.readouterr()
    assert "built" in out
    assert "(a new template and its clone)" in out
    snapshot.restore(Context(), name="10_offices", fresh=True)
    out, _ = capfd.readouterr()
    assert "(a clone of its template)" in out
    assert "is kept as perfdata_before_" in out
    db.gc(Context(), json=True)
    facts = json.loads(capfd.readouterr()[0])
    assert any(one["name"].startswith("perfdata_before_") for one in facts["removed"])
    assert facts["size_bytes"] > 0
    db.gc(Context())
    assert "freed 0 B" in capfd.readouterr()[0]
    opened = open_target(own_settings)
    assert provide_dataset(opened, "10_offices", fresh=True).restored is not None
