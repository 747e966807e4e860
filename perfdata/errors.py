"""The errors that perfdata raises, each with a ``reason`` and, where there is one, a ``remedy``.

PerfdataError
├── ConfigError               a setting or an argument is wrong
│   ├── InvalidNameError      not a valid name for a snapshot or a dataset
│   └── DatasetNotFoundError  no dataset has that name
├── ConnectError              the database can't be reached
├── ServerError               the embedded server can't be run
├── ServerRefusedError        the server refused a statement
├── ProjectCodeError          a project's code raised an exception
├── MigrationError            migrations are missing, behind or broken
│   └── MigrationFailedError  a migration raised an exception; also a ProjectCodeError
├── SnapshotError
│   ├── SnapshotNotFoundError
│   ├── SnapshotExistsError
│   ├── SnapshotDamagedError  the file is not what was written
│   ├── SnapshotDiffersError  the database's rows are not the snapshot's
│   └── SnapshotStaleError    made with other migrations or another dataset
├── SchemaError               the database's tables are not the ones expected
├── RefusedError              nothing was changed, because data might have been lost
│   ├── PrivilegesError       the role lacks privileges
│   ├── ElsewhereError        a project's code connected to another database
│   ├── ProgramRefusedError   a project's code started a program; also a PermissionError
│   ├── UserCodeError         code of other roles would run with this role's rights
│   ├── GuardError            perfdata may not replace rows of this database
│   └── BoundaryError         unflagged rows reference flagged ones
├── LoadError                 rows could not be loaded, or read; nothing was changed
│   └── RowsRefusedError      the server refused them; also a ServerRefusedError
├── NoClonesError             this role can't clone this database
├── ResultsError              a perf run's results can't be read
├── ComparisonError           one side of a comparison did not finish
├── BaselineError             a baseline can't be read or written
├── NotJudgedError            something asked for could not be measured, and the run is strict
└── RegressedError            a scenario is worse than its baseline, or repeats statements
    └── BudgetExceededError   a scenario exceeds a limit of its marker
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.text import make_printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The keyword arguments that errors and notes name. Tasks show the options in their place; a pytest
# run, which takes none of them, leaves them out.
OPTIONS = {
    "all_rows=True": "--all-rows",
    "allow_drift=True": "--allow-drift",
    "as_superuser=True": "--as-superuser",
    "build=False": "--no-build",
    "clean_existing=False": "--keep-existing",
    "fresh=True": "--fresh",
    "lock_timeout_s": "--lock-timeout",
    "rebuild_indexes=True": "--rebuild-indexes",
    "replace=True": "--replace",
    "snapshot=False": "--no-snapshot",
    "strict=True": "--strict",
    "terminate=True": "--terminate",
    "unflagged_rows=True": "--unflagged-rows",
}


class PerfdataError(Exception):
    """perfdata could not do what was asked.

    ``reason`` says what was checked and what was found, ``remedy`` what fixes it (or is empty).
    Neither contains terminal control characters, whatever a server or a file said.
    """

    def __init__(self, reason: str | None = None, *, remedy: str = "") -> None:
        """Without a reason, the first line of the class's docstring is the reason."""
        reason = reason or (self.__doc__ or "").splitlines()[0].rstrip(".")
        self.reason = make_printable(reason)
        self.remedy = make_printable(remedy)
        super().__init__(self.reason)

    def __str__(self) -> str:
        if not self.remedy:
            return self.reason
        separator = "\n" if "\n" in self.reason else ". "
        return f"{self.reason}{separator}{self.remedy}"


class ConfigError(PerfdataError):
    """A setting or an argument is wrong."""


class InvalidNameError(ConfigError):
    """This is not a valid name for a snapshot or a dataset."""


class DatasetNotFoundError(ConfigError):
    """No dataset has that name."""


class ConnectError(PerfdataError):
    """The database can't be reached."""


class ServerError(PerfdataError):
    """The embedded server can't be run."""


class MigrationError(PerfdataError):
    """Migrations are missing, behind or broken."""


class ProjectCodeError(PerfdataError):
    """A project's code raised an exception.

    ``traceback`` is its traceback as text, without passwords. ``__cause__`` is the exception, or a
    ChildTraceback if the code ran in a child process.
    """

    def __init__(self, reason: str | None = None, *, remedy: str = "", traceback: str = "") -> None:
        super().__init__(reason, remedy=remedy)
        self.traceback = make_printable(traceback)


class MigrationFailedError(MigrationError, ProjectCodeError):
    """A migration, or the code that makes tables from metadata, raised an exception."""


class SnapshotError(PerfdataError):
    """A snapshot can't be created or used."""


class SnapshotNotFoundError(SnapshotError):
    """No snapshot has that name."""


class SnapshotExistsError(SnapshotError):
    """A snapshot with that name exists already."""


class SnapshotDamagedError(SnapshotError):
    """The snapshot file is not what was written."""


class SnapshotDiffersError(SnapshotError):
    """The database's rows are not the snapshot's; ``tables`` says for each table what differs."""

    def __init__(
        self,
        reason: str | None = None,
        tables: Mapping[str, str] | None = None,
        *,
        remedy: str = "",
    ) -> None:
        super().__init__(reason, remedy=remedy)
        self.tables = dict(tables or {})


class SnapshotStaleError(SnapshotError):
    """The snapshot was made with other migrations or another dataset definition."""


class SchemaError(PerfdataError):
    """The database's tables are not the ones expected."""


class RefusedError(PerfdataError):
    """Refused, because data might have been lost; nothing was changed.

    ``fresh_helps`` tells whether a restore with ``fresh=True`` would not be refused for it.
    """

    def __init__(
        self, reason: str | None = None, *, remedy: str = "", fresh_helps: bool = False
    ) -> None:
        super().__init__(reason, remedy=remedy)
        self.fresh_helps = fresh_helps


class PrivilegesError(RefusedError):
    """The role lacks privileges; ``statements`` are the SQL that grants them, one each."""

    def __init__(self, reason: str | None = None, statements: Sequence[str] = ()) -> None:
        grant = "\n  ".join(["The owner or a superuser can grant this with:", *statements])
        super().__init__(reason, remedy=grant if statements else "")
        self.statements = tuple(statements)


class ElsewhereError(RefusedError):
    """A project's code connected to another database; ``statements`` are the lines that fix it."""

    def __init__(self, reason: str | None = None, statements: Sequence[str] = ()) -> None:
        super().__init__(reason, remedy="\n".join(statements))
        self.statements = tuple(statements)


class ProgramRefusedError(RefusedError, PermissionError):
    """A project's code started a program.

    It is a PermissionError too, so that libraries that can do without the program go on.
    """


class UserCodeError(RefusedError):
    """Code of other roles would run with this role's rights."""


class GuardError(RefusedError):
    """perfdata may not replace rows of this database."""


class BoundaryError(RefusedError):
    """Unflagged rows reference flagged ones."""


# Remedies for refusals whose message names none, by SQLSTATE.
_REMEDIES = {
    "57014": "A time limit of the role or database, or an administrator, ended the statement: "
    "raise statement_timeout (ALTER ROLE … SET statement_timeout) and run it again",
    "53100": "The server's disk is full: free space on it and run it again",
    "53300": "The server accepts no more connections: close some or raise max_connections",
}


class ServerRefusedError(PerfdataError):
    """The server refused a statement.

    ``server_message`` is the server's message alone; ``sqlstate``, ``detail``,
    ``constraint`` and ``context`` are the fields that came with it, None where it sent none.
    """

    _ending = ""

    def __init__(
        self,
        server_message: str | None = None,
        *,
        sqlstate: str | None = None,
        detail: str | None = None,
        constraint: str | None = None,
        context: str | None = None,
    ) -> None:
        where = (context or "").partition("\n")[0]
        text = "; ".join(part for part in (server_message, detail, where) if part)
        super().__init__(
            f"the server refused: {text}{self._ending}", remedy=_REMEDIES.get(sqlstate or "", "")
        )
        self.server_message = server_message or ""
        self.sqlstate = sqlstate
        self.detail = detail
        self.constraint = constraint
        self.context = context


class LoadError(PerfdataError):
    """Rows could not be loaded, or read; nothing was changed."""


class RowsRefusedError(ServerRefusedError, LoadError):
    """The server refused a statement of a load; everything was rolled back."""

    _ending = "; everything was rolled back"


class NoClonesError(PerfdataError):
    """This role can't clone this database."""


class ResultsError(PerfdataError):
    """A perf run's results can't be read."""


class ComparisonError(PerfdataError):
    """One side of a comparison did not finish."""


class BaselineError(PerfdataError):
    """A baseline can't be read or written."""


class NotJudgedError(PerfdataError):
    """Something that a marker or a baseline asks for could not be measured."""


class RegressedError(PerfdataError):
    """A scenario is worse than its baseline, grows with the data or repeats statements."""


class BudgetExceededError(RegressedError):
    """A scenario exceeds a limit of its marker."""
