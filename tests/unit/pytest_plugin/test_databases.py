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


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (
            SchemaError("a is new", remedy="Every row still fits: allow_drift=True accepts this"),
            "a is new. Every row still fits: snapshot.restore --allow-drift accepts this",
        ),
        (
            RefusedError("1 session is connected. End them (terminate=True does)"),
            "1 session is connected. End them (snapshot.restore --fresh --terminate does)",
        ),
        (
            RefusedError("code of other roles: if you trust it, as_superuser=True"),
            "code of other roles: if you trust it, snapshot.restore --as-superuser",
        ),
    ],
)
def test_errors_name_commands_as_nobody_can_pass_keyword_arguments(
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
