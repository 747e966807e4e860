"""Migrations: what Alembic's scripts are, where a database stands, and bringing it to the head."""

from __future__ import annotations

import hashlib
import heapq
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import sql

from perfdata.database.catalog import VERSION_TABLE, Versions
from perfdata.database.connection import describe, make_engine, open_link
from perfdata.database.url import make_url
from perfdata.errors import MigrationError, PrivilegesError
from perfdata.progress import Event, silent
from perfdata.project import Migration

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from alembic.config import Config
    from alembic.script import Script, ScriptDirectory

    from perfdata.database.link import Asked, Link, Rows
    from perfdata.progress import Report
    from perfdata.project import Project

_VERSIONS = """
SELECT n.nspname, c.relname, false,
  CASE WHEN NOT has_table_privilege(c.oid, 'SELECT') THEN quote_ident(current_user) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = %s AND c.relkind = 'r' AND c.relpersistence <> 't'
  AND ARRAY(SELECT a.attname::text FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) = '{version_num}'
ORDER BY 1"""


@dataclass(frozen=True)
class History:
    """A project's migrations, parents before children, ties by revision id.

    ``paths`` name each one's file the same on every machine (see _portable).
    """

    migrations: tuple[Migration, ...]
    parents: Mapping[str, Sequence[str]]
    paths: Mapping[str, str] = field(default_factory=dict)

    def led_to(self, heads: Iterable[str]) -> tuple[Migration, ...]:
        """Return all that must have run where a database stands on ``heads``.

        A revision that the project does not have comes last, with no hash.
        """
        waiting, led = list(heads), set()
        while waiting:
            revision = waiting.pop()
            if revision not in led:
                led.add(revision)
                waiting += self.parents.get(revision, ())
        known = tuple(one for one in self.migrations if one.revision in led)
        strange = sorted(led - self.parents.keys())
        return (*known, *(Migration(revision, None) for revision in strange))


def read_history(project: Project | None) -> History:
    """Read and hash a project's migrations; none where there is no project or it has none."""
    if project is None or project.migrations is None:
        return History((), {})
    with _script_errors(project):
        directory = _scripts(_config(project))
        scripts = {one.revision: one for one in directory.walk_revisions()}
    parents = {revision: _parents(script) for revision, script in scripts.items()}
    migrations = tuple(
        Migration(revision, hashlib.sha256(Path(scripts[revision].path).read_bytes()).hexdigest())
        for revision in _topological(parents)
    )
    anchors = (_anchor(project.migrations), Path(directory.dir).resolve())
    paths = {revision: _portable(Path(one.path), anchors) for revision, one in scripts.items()}
    return History(migrations, parents, paths)


def _anchor(migrations: Path) -> Path:
    """Return the folder that migrations are named from: that of alembic.ini, or of env.py."""
    return (migrations.parent if migrations.is_file() else migrations).resolve()


def _portable(path: Path, anchors: Sequence[Path]) -> str:
    """Name a file from the first folder that it lies below; one below none by its own name."""
    path = path.resolve()
    for anchor in anchors:
        if path.is_relative_to(anchor):
            return path.relative_to(anchor).as_posix()
    return path.name


def database_heads(link: Link) -> tuple[str, ...]:
    """Return the revisions that a database stands on, sorted; none where Alembic never ran."""
    found = [Versions(*row) for row in link.rows(_VERSIONS, (VERSION_TABLE,))]
    return stood_on(link.together(version_queries(found)))


def version_queries(tables: Collection[Versions]) -> list[Asked]:
    """Make the queries for the revisions in Alembic's tables; PrivilegesError names the closed."""
    if closed := [one for one in tables if one.denied is not None]:
        raise PrivilegesError(
            f"refused, nothing was touched: role {closed[0].denied} may not read on which "
            "migrations the database stands. Who owns this, or a superuser, may give it by:",
            [f"GRANT SELECT ON {one.written} TO {one.denied};" for one in closed],
        )
    return [sql.SQL("SELECT version_num FROM {}").format(one.identifier) for one in tables]


def stood_on(answers: Iterable[Rows]) -> tuple[str, ...]:
    """Gather the revisions that were found, sorted."""
    return tuple(sorted({row[0] for rows in answers for row in rows}))


def migrate(conninfo: str, project: Project, report: Report = silent) -> tuple[str, ...]:
    """Bring a database to the project's newest migrations; return the heads that it then has.

    The project's own env.py runs them: on ``config.attributes["connection"]``, or on the
    ``sqlalchemy.url`` that is set for it here. Raises MigrationError where the project has none,
    where one of them fails, or where env.py went to another database.
    """
    import sqlalchemy
    from alembic import command

    if project.migrations is None:
        raise MigrationError(f"project {project.name} names no migrations")
    config = _config(project)
    engine = make_engine(conninfo)
    with open_link(conninfo) as link:
        if database_heads(link) != _heads(config):
            report(Event(f"migrating to {', '.join(_heads(config))}"))
    try:
        with _script_errors(project), engine.connect() as connection:
            config.attributes["connection"] = connection
            url = make_url(conninfo, "psycopg")
            config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
            command.upgrade(config, "heads")
            connection.commit()
    except sqlalchemy.exc.DBAPIError as error:
        raise MigrationError(
            f"a migration of project {project.name} failed: {error.orig}"
        ) from error
    finally:
        engine.dispose()
    heads = _heads(config)
    with open_link(conninfo) as link:
        if database_heads(link) != heads:
            raise MigrationError(
                f"project {project.name} migrated some other database than {describe(conninfo)}: "
                "its env.py must use config.attributes['connection'], or the sqlalchemy.url of "
                "its config"
            )
    return heads


def _config(project: Project) -> Config:
    from alembic.config import Config

    path = project.migrations
    if path is None or not path.exists():
        raise MigrationError(f"project {project.name}: there are no migrations in {path}")
    if path.is_file():
        config = Config(str(path))
        location = config.get_main_option("script_location")
        if location and ":" not in location and not Path(location).is_absolute():
            # Alembic would look below the folder that one happens to be in.
            location = str(path.parent / location)
            config.set_main_option("script_location", location.replace("%", "%%"))
        _anchor_versions(config, path.parent)
        return config
    config = Config()
    config.set_main_option("script_location", str(path).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _anchor_versions(config: Config, folder: Path) -> None:
    """Have relative version_locations mean the same from wherever one happens to be."""
    locations = config.get_version_locations_list() or []
    anchored = [one if ":" in one else str(folder / one) for one in locations]
    if anchored != locations:
        # Joined as the file separates them: other options may be split in the same way.
        named = [config.get_main_option(f"{kind}path_separator") for kind in ("", "version_")]
        chosen = next((one for one in named if one), "space")
        separator = {"space": " ", "newline": "\n", "os": os.pathsep}.get(chosen, chosen)
        config.set_main_option("version_locations", separator.join(anchored).replace("%", "%%"))


def _scripts(config: Config) -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(config)


def _heads(config: Config) -> tuple[str, ...]:
    return tuple(sorted(_scripts(config).get_heads()))


@contextmanager
def _script_errors(project: Project) -> Iterator[None]:
    from alembic.util import CommandError

    try:
        yield
    except CommandError as error:
        raise MigrationError(f"the migrations of project {project.name}: {error}") from error


def _parents(script: Script) -> list[str]:
    """Return what must have run before, by ``down_revision`` and by ``depends_on``."""
    return [*_listed(script.down_revision), *_listed(script._resolved_dependencies)]  # noqa: SLF001  Alembic resolves labels there alone


def _listed(value: Any) -> Sequence[str]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _topological(parents: dict[str, list[str]]) -> Iterator[str]:
    """Yield parents before children, ties in alphabetical order: the same on every machine."""
    waiting = {key: {one for one in ones if one in parents} for key, ones in parents.items()}
    ready = [key for key, ones in waiting.items() if not ones]
    heapq.heapify(ready)
    while ready:
        done = heapq.heappop(ready)
        yield done
        for key, ones in waiting.items():
            if done in ones:
                ones.remove(done)
                if not ones:
                    heapq.heappush(ready, key)
