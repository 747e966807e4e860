"""A project's env.py, run to upgrade or stamp a database, or to see where revisions are.

Only for the child process. Alembic calls env.py and its scripts the migration environment.
"""

from __future__ import annotations

import ast
import io
import logging
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfdata.driver_hooks import confined
from perfdata.errors import MigrationError, ProjectCodeError, RefusedError
from perfdata.migrations.history import database_heads
from perfdata.migrations.metadata import create_all
from perfdata.migrations.revisions import alembic_config, anchor_versions, read_revisions
from perfdata.migrations.steps import Steps
from perfdata.postgres.connection import make_engine, open_link
from perfdata.postgres.reflection import read_catalog
from perfdata.postgres.url import make_url
from perfdata.sources import imported_files
from perfdata.templates.provenance import find_owned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from alembic.config import Config

    from perfdata.migrations.job import Job
    from perfdata.progress import Report

_LOCATIONS = "version_locations"


class Environment:
    """A project's migration environment: its configuration, and where its revisions are."""

    def __init__(self, job: Job) -> None:
        from alembic.script import ScriptDirectory

        self.job = job
        self.config: Config = alembic_config(job)
        self.directory = ScriptDirectory.from_config(self.config)
        self._configured = self._locations()

    def run(self, steps: Callable[[Any, Any], Iterable[Any]], revisions: tuple[str, ...]) -> None:
        """Run env.py on the job's database; ``steps`` returns what it executes there.

        env.py uses ``config.attributes["connection"]``, or the ``sqlalchemy.url`` that is set here.
        """
        from alembic.runtime.environment import EnvironmentContext

        def found(heads: Any, context: Any) -> Iterable[Any]:
            self._use_locations()
            return steps(heads, context)

        with (
            _connected(self.config, self.job.conninfo or ""),
            EnvironmentContext(self.config, self.directory, fn=found, destination_rev=revisions),
        ):
            self.directory.run_env()
        self._use_locations()

    def stamp(self, revisions: tuple[str, ...]) -> None:
        """Write revisions to the alembic_version of the job's database, as env.py does it."""
        directory = self.directory
        self.run(lambda heads, _: directory._stamp_revs(revisions, heads), revisions)  # noqa: SLF001  as alembic.command

    def locate(self) -> None:
        """Run env.py without a database if it may set the folders of the revisions.

        It runs in Alembic's offline mode. Where it connects nevertheless, the folders must be set
        by then; otherwise MigrationError is raised.
        """
        sets_locations = _sets_locations(Path(self.directory.dir, "env.py"))
        if not sets_locations and any(self.directory.walk_revisions()):
            return
        try:
            with confined(self.job.code, None) as confinement:
                confinement.exclusive = True  # the worker's own block allows the target
                self._run_offline()
        except RefusedError as error:
            if sets_locations and self._locations() == self._configured:
                raise MigrationError(
                    f"the env.py of project {self.job.project} sets no {_LOCATIONS} before it "
                    "connects to a database, so the folders of the revisions are unknown without "
                    "one",
                    remedy="Set them at its beginning",
                ) from error
        except ProjectCodeError:
            if sets_locations and self._locations() == self._configured:
                raise
        self._use_locations()

    def _run_offline(self) -> None:
        from alembic.runtime.environment import EnvironmentContext

        # Alembic reads no more of it than the dialect.
        self.config.set_main_option("sqlalchemy.url", "postgresql+psycopg://")
        logging.disable(logging.INFO)  # env.py's logging would report offline SQL
        with EnvironmentContext(
            self.config,
            self.directory,
            fn=lambda *_: (),
            as_sql=True,
            output_buffer=io.StringIO(),
            destination_rev="heads",
        ):
            self.directory.run_env()

    def _locations(self) -> tuple[list[str], list[str]]:
        """Return the folders of the script directory, and those of the configuration."""
        listed = self.config.get_version_locations_list() or []
        return list(map(str, self.directory.version_locations or ())), listed

    def _use_locations(self) -> None:
        """Look for revisions where env.py said, in its configuration or in ``context.script``."""
        from alembic.script.revision import RevisionMap

        directory, (before, configured) = self.directory, self._configured
        if self._locations() == (before, configured):
            return
        if self._locations()[0] == before:
            anchor_versions(self.config, Path.cwd())
            directory.version_locations = self._locations()[1]
        vars(directory).pop("_version_locations", None)  # computed from the folders before
        directory.revision_map = RevisionMap(directory._load_revisions)  # noqa: SLF001  as ScriptDirectory does
        self._configured = self._locations()


def _sets_locations(env: Path) -> bool:
    """Tell whether env.py, or a project's module that it imports, may set version_locations."""
    if not env.is_file():
        return False
    return any(_mentions_locations(path) for path in (env, *imported_files(env)))


def _mentions_locations(path: Path) -> bool:
    text = path.read_bytes()
    if _LOCATIONS.encode() not in text:
        return False
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return False  # running it raises the error
    return any(
        getattr(node, "attr", None) == _LOCATIONS  # context.script.version_locations
        or (
            isinstance(node, ast.Call)  # config.set_main_option("version_locations", …)
            and getattr(node.func, "attr", "").startswith("set_")
            and any(getattr(argument, "value", None) == _LOCATIONS for argument in node.args)
        )
        for node in ast.walk(tree)
    )


@contextmanager
def _connected(config: Config, conninfo: str) -> Iterator[None]:
    engine = make_engine(conninfo)
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            url = make_url(conninfo, "psycopg")
            config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
            yield
            connection.commit()
    finally:
        engine.dispose()


def read_scripts(job: Job, _report: Report) -> dict[str, Any]:
    """Read and hash a project's migrations (see read_revisions)."""
    return _read(job)[1]


def _read(job: Job) -> tuple[Environment, dict[str, Any]]:
    environment = Environment(job)
    environment.locate()
    return environment, read_revisions(job, environment.directory)


def upgrade(job: Job, report: Report) -> dict[str, Any]:
    """Bring a database to the heads, or to the job's revisions; return what read_scripts does.

    With ``job.metadata``, a database without a revision gets the tables of the metadata instead,
    and is stamped with the heads.
    """
    environment, _ = _read(job)
    with open_link(job.conninfo) as link:
        heads, owned = database_heads(link), find_owned(link) is not None
        tables = () if heads else tuple(read_catalog(link).by_key)
    if job.metadata and not heads:
        create_all(job, report)
        environment.stamp(("heads",))
        return read_revisions(job, environment.directory)
    steps = Steps(job, environment.directory, report, heads=heads, tables=tables, owned=owned)
    with steps:
        environment.run(steps.upgrade, job.revisions or ("heads",))
    return read_revisions(job, environment.directory)  # env.py may have set other folders


def stamp(job: Job, _report: Report) -> dict[str, Any]:
    """Write revisions to a database's alembic_version; a dry job only looks them up.

    Returns what read_scripts does, and as ``revisions`` the full names of the revisions.
    """
    environment, answer = _read(job)
    revisions = tuple(job.revisions)
    found = environment.directory.get_revisions(revisions)
    if not job.dry:
        environment.stamp(revisions)
        answer = read_revisions(job, environment.directory)
        found = environment.directory.get_revisions(revisions)
    return answer | {"revisions": sorted({script.revision for script in found if script})}
