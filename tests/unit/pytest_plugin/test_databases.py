"""The databases of a pytest session."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from perfdata import RefusedError, SchemaError, Settings, Target
from perfdata.pytest_plugin.databases import SessionDatabases

if TYPE_CHECKING:
    from pathlib import Path

    from perfdata import PerfdataError

WAY_OUT = (
    "Build or create the snapshot again, or give perf tests a database of their own "
    "(PERFDATA_DATABASE_URL; without it they use the embedded server)"
)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (
            SchemaError("a is new", remedy="Every row still fits: allow_drift=True accepts this"),
            f"a is new. {WAY_OUT}",
        ),
        (
            RefusedError("1 session is connected. End them (terminate=True does)"),
            "1 session is connected. End them",
        ),
        (
            RefusedError(
                "code of others: f. Use the owner (a), or, if you trust it, as_superuser=True"
            ),
            "code of others: f. Use the owner (a)",
        ),
        (
            SchemaError(
                "a is new",
                remedy="Nothing was touched. Every row still fits: allow_drift=True accepts this",
            ),
            f"a is new. Nothing was touched. {WAY_OUT}",
        ),
        (
            SchemaError(
                "a is gone",
                remedy="Nothing was touched. Create it again. allow_drift=True would accept: s.b",
            ),
            "a is gone. Nothing was touched. Create it again.",
        ),
        (
            RefusedError(
                "rows reference others",
                remedy="Make them reference others, or restore without fresh=True; if a key is NOT "
                "VALID, have the server check it",
            ),
            "rows reference others. Make them reference others; if a key is NOT VALID, have the "
            "server check it",
        ),
        (
            RefusedError(
                "rows", remedy="Use fresh=True, or keep them and restore with unflagged_rows=True"
            ),
            f"rows. {WAY_OUT}",
        ),
        (
            RefusedError("locked: wait until it is free, or wait longer (lock_timeout_s)"),
            "locked: wait until it is free, or wait longer",
        ),
        (
            SchemaError("no", remedy="Make its tables with Project(tables_from_metadata=True)"),
            "no. Make its tables with Project(tables_from_metadata=True)",
        ),
        (
            RefusedError(
                "no",
                remedy="Add it; or restore with fresh=True, or mark the database as perfdata's "
                "(perfdata db.adopt); or leave it out",
            ),
            "no. Add it, or mark the database as perfdata's (perfdata db.adopt); or leave it out",
        ),
        (RefusedError("no", remedy="Run: perfdata db.migrate"), "no. Run: perfdata db.migrate"),
    ],
)
def test_errors_name_nothing_that_a_pytest_user_cannot_pass(
    error: PerfdataError, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr("perfdata.snapshot.provide.provide_dataset", refuse)
    settings = Settings(root=tmp_path, home=tmp_path / ".perfdata")
    announcer: Any = SimpleNamespace(report=None)
    databases = SessionDatabases(settings, announcer)
    monkeypatch.setattr(databases, "_clones", SimpleNamespace(template=refuse))
    target = Target(settings, conninfo="", embedded=True)
    for provide in (databases._load, databases._template):
        with pytest.raises(type(error)) as raised:
            provide(target, "10_offices")
        assert str(raised.value) == shown
