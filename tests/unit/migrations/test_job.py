from __future__ import annotations

import json
from pathlib import Path

import pytest

from perfdata.errors import ConfigError, MigrationError, PerfdataError, PrivilegesError
from perfdata.migrations.history import read_history
from perfdata.migrations.job import error_fields, error_from
from perfdata.project import Project


def test_migrations_that_are_not_there_are_told_with_where_to_name_them() -> None:
    absent = Project(name="shop", migrations=Path("/nowhere/alembic.ini"))
    with pytest.raises(MigrationError, match=r"no /nowhere/alembic.ini\. Name the alembic"):
        read_history(absent)


class BareError(ConfigError):
    """An error whose constructor does not call perfdata's."""

    def __init__(self, text: str) -> None:
        Exception.__init__(self, text)

    def __str__(self) -> str:
        return str(self.args[0])


class OwnError(ConfigError):
    """An error of a project's own, with something that JSON can't carry."""

    def __init__(self) -> None:
        super().__init__("no tenant", remedy="Name one")
        self.tenant = object()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MigrationError("it failed"), MigrationError),
        (PrivilegesError("no", ["GRANT a;", "GRANT b;"]), PrivilegesError),
        (OwnError(), ConfigError),
        (BareError("no tenant"), ConfigError),
    ],
)
def test_an_error_of_the_child_is_raised_in_the_parent(
    error: PerfdataError, kind: type[PerfdataError]
) -> None:
    """One of a class that perfdata does not know as the nearest that it does."""
    message = json.loads(json.dumps(error_fields(error)))
    raised = error_from(**message)
    assert type(raised) is kind
    assert str(raised) == str(error)
    assert raised.args == (raised.reason,)
    if isinstance(error, PrivilegesError):
        assert getattr(raised, "statements", None) == error.statements
