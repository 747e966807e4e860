"""Every error that a caller of perfdata may meet.

PerfdataError
├── ConfigError               a setting or an argument is wrong
│   ├── InvalidNameError      not a name for a snapshot
│   └── DatasetNotFoundError  no dataset of that name
├── ConnectError              the database can't be reached
├── ServerError               the embedded server can't be run
├── MigrationError            migrations are missing, behind or broken
├── SnapshotError
│   ├── SnapshotNotFoundError
│   ├── SnapshotExistsError
│   ├── SnapshotDamagedError  the file is not what was written
│   ├── SnapshotDiffersError  the database's rows are not the snapshot's
│   └── SnapshotStaleError    made with other migrations or another dataset
├── SchemaError               the database's tables are not the ones expected
├── RefusedError              nothing was touched, because it might have cost data
│   ├── PrivilegesError       the role may not do all that this needs
│   ├── ElsewhereError        a project's code went for another database
│   ├── ProgramRefusedError   a project's code would run a program; also a PermissionError
│   ├── UserCodeError         code of other roles would run as this one
│   ├── GuardError            this database is not one to delete from
│   └── BoundaryError         unflagged rows hang on flagged ones
├── LoadError                 the server refused the rows; all was rolled back
├── ResultsError              a perf run's results can't be read
├── ComparisonError           a side of a comparison did not run to its end
├── BaselineError             a baseline can't be read or written
└── RegressedError            a scenario is red: worse than was accepted, or an N+1
    └── BudgetExceededError   it did more than its marker allows
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.text import make_printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class PerfdataError(Exception):
    """perfdata could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        """Take the message, or the first line of the class's docstring; it is made printable."""
        message = message or (type(self).__doc__ or "").splitlines()[0]
        super().__init__(make_printable(message))


class ConfigError(PerfdataError):
    """A setting or an argument is wrong."""


class InvalidNameError(ConfigError):
    """That is not a name for a snapshot or a dataset."""


class DatasetNotFoundError(ConfigError):
    """There is no dataset of that name."""


class ConnectError(PerfdataError):
    """The database can't be reached."""


class ServerError(PerfdataError):
    """The embedded server can't be run."""


class MigrationError(PerfdataError):
    """Migrations are missing, behind or broken."""


class SnapshotError(PerfdataError):
    """Something is wrong with a snapshot."""


class SnapshotNotFoundError(SnapshotError):
    """There is no snapshot of that name."""


class SnapshotExistsError(SnapshotError):
    """A snapshot of that name is there already."""


class SnapshotDamagedError(SnapshotError):
    """The snapshot file is not what was written."""


class SnapshotDiffersError(SnapshotError):
    """The database's rows are not the snapshot's; ``tables`` says for each table what differs."""

    def __init__(self, message: str, tables: Mapping[str, str]) -> None:
        """Take the message, and what differs by table."""
        super().__init__(message)
        self.tables = dict(tables)


class SnapshotStaleError(SnapshotError):
    """The snapshot was made with other migrations or another dataset definition."""


class SchemaError(PerfdataError):
    """The database's tables are not the ones expected."""


class RefusedError(PerfdataError):
    """Refused: it might have cost data. Nothing was touched."""


class PrivilegesError(RefusedError):
    """The role may not do all that this needs; ``statements`` are SQL that mends it, one a line."""

    def __init__(self, message: str, statements: Sequence[str]) -> None:
        """Take what was found, and the statements."""
        super().__init__("\n  ".join([message, *statements]))
        self.message = message
        self.statements = tuple(statements)


class ElsewhereError(RefusedError):
    """A project's code went for another database; ``statements`` are lines that mend it."""

    def __init__(self, message: str, statements: Sequence[str]) -> None:
        """Take what was refused, and what mends it."""
        super().__init__("\n".join([message, *statements]))
        self.message = message
        self.statements = tuple(statements)


class ProgramRefusedError(RefusedError, PermissionError):
    """A project's code would run a program.

    Libraries that do without a program take it for one that may not be run.
    """


class UserCodeError(RefusedError):
    """Code of other roles would run with the rights of this one."""


class GuardError(RefusedError):
    """This database is not one that perfdata may delete from."""


class BoundaryError(RefusedError):
    """Unflagged rows hang on flagged ones."""


class LoadError(PerfdataError):
    """The rows did not go in; the transaction was rolled back."""


# What mends a refusal that says so little of itself.
_REMEDIES = {
    "57014": ". A time limit of the role or the database, or somebody, ended the statement: raise "
    "statement_timeout (ALTER ROLE … SET statement_timeout), and run it again",
    "53100": ". The server's disk is full: make room, and run it again",
    "53300": ". The server takes no more connections: end some, or raise max_connections",
}


class ServerRefusedError(LoadError):
    """The server said no to a statement; the transaction, or its savepoint, was rolled back.

    ``reason`` is the server's message; ``sqlstate``, ``detail`` and ``constraint`` are what it said
    beside it.
    """

    def __init__(
        self,
        message: str,
        *,
        sqlstate: str | None,
        detail: str | None = None,
        constraint: str | None = None,
        context: str | None = None,
    ) -> None:
        """Put what the server said into one line."""
        where = (context or "").partition("\n")[0]
        text = "; ".join(part for part in (message, detail, where) if part)
        remedy = _REMEDIES.get(sqlstate or "", "")
        super().__init__(f"the server refused: {text}; everything was rolled back{remedy}")
        self.reason = message
        self.sqlstate = sqlstate
        self.detail = detail
        self.constraint = constraint


class ResultsError(PerfdataError):
    """A perf run's results can't be read."""


class ComparisonError(PerfdataError):
    """A side of a comparison did not run to its end."""


class BaselineError(PerfdataError):
    """A baseline can't be read or written."""


class RegressedError(PerfdataError):
    """A scenario is red: it does worse than was accepted, or grows, or repeats itself."""


class BudgetExceededError(RegressedError):
    """A scenario did more than its marker allows."""
