"""The steps of an upgrade: which revision runs, and what its failure means.

Only for the child process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from perfdata.errors import MigrationFailedError, PerfdataError
from perfdata.postgres.url import describe
from perfdata.progress import Event
from perfdata.text import join_first
from perfdata.tracebacks import code_error, describe_exception

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from alembic.script import ScriptDirectory

    from perfdata.errors import ProjectCodeError
    from perfdata.migrations.job import Job
    from perfdata.progress import Report

_STATEMENT_LENGTH = 160
# A schema, table, column, object or function that does not exist.
_UNDEFINED = {"3F000", "42P01", "42703", "42704", "42883"}
_FROM_METADATA = (
    "If these migrations can't build an empty database, let the metadata make its tables: with "
    'Project(metadata="package.module:Base.metadata", tables_from_metadata=True) perfdata stamps '
    "the newest revision of a database without revisions, and runs later ones"
)


class Steps:
    """The revisions that an upgrade runs; an exception of one leaves the block with its name.

    ``heads`` are the database's revisions before, ``tables`` those that it has without any.
    ``owned`` says that perfdata made the database, so that it was empty once.
    """

    def __init__(
        self,
        job: Job,
        directory: ScriptDirectory,
        report: Report,
        *,
        heads: Sequence[str],
        tables: Sequence[str],
        owned: bool,
    ) -> None:
        self._job = job
        self._directory = directory
        self._report = report
        self._heads = heads
        self._tables = tables
        self._owned = owned
        self._running: str | None = None

    def upgrade(self, heads: Any, _context: object) -> Iterator[Any]:
        """Yield Alembic's steps to the job's revisions, or to the heads."""
        wanted: Any = self._job.revisions or ("heads",)  # Alembic says str, and takes both
        pending = self._directory._upgrade_revs(wanted, heads)  # noqa: SLF001  as alembic.command
        if pending:
            shown = self._job.revisions or sorted(self._directory.get_heads())
            self._report(Event(f"migrating to {', '.join(shown)}"))
        for step in pending:
            self._running = step.revision.revision
            yield step
        self._running = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        own = isinstance(error, Exception) and not isinstance(error, PerfdataError)
        if error is not None and own and self._running is not None:
            raise self._failure(error, self._running) from error

    def _failure(self, error: BaseException, revision: str) -> ProjectCodeError:
        database = describe(self._job.conninfo or "")
        said = f"revision {revision} can't run in {database}: {describe_failure(error)}"
        return failure(self._job, error, said, self._remedy(error))

    def _remedy(self, error: BaseException) -> str:
        refused = getattr(error, "orig", error)  # the driver's error in SQLAlchemy's
        sqlstate = getattr(refused, "sqlstate", None) or getattr(refused, "pgcode", None)
        if sqlstate is None:
            return ""
        if self._tables:
            return (
                f"{join_first(self._tables)} were there before, without alembic_version. If "
                f"migrations made them, run: {self._job.program} db.stamp --revision REV (the "
                "newest one that they have, or heads)"
            )
        if not self._heads:
            return _FROM_METADATA
        if self._owned and sqlstate in _UNDEFINED:
            return f"{_FROM_METADATA}. {self._job.program} db.reset makes such a database"
        return ""


def describe_failure(error: BaseException) -> str:
    """Return an exception's message, and the beginning of the statement that was refused."""
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError

    if isinstance(error, CommandError):
        return str(error)
    if not isinstance(error, DBAPIError):
        return describe_exception(error)
    statement = " ".join((error.statement or "").split())
    if len(statement) > _STATEMENT_LENGTH:
        statement = f"{statement[:_STATEMENT_LENGTH]} …"
    message = str(error.orig).partition("\nLINE ")[0]
    return f"{message}; statement: {statement}" if statement else message


def failure(job: Job, error: BaseException, said: str, remedy: str = "") -> ProjectCodeError:
    """Make the error for an exception of a job's code, without the target's password."""
    from psycopg.conninfo import conninfo_to_dict

    places = (conninfo_to_dict(place or "") for place in (job.conninfo, job.loopback))
    return code_error(
        job.code,
        error,
        said,
        remedy=remedy,
        passwords=[str(place.get("password") or "") for place in places],
        present=job.variables,
        kind=MigrationFailedError,
    )
