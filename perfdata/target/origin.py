"""The origin of a database's tables: the migrations that ran in it, or the metadata.

On the embedded server a setting of the database, ``perfdata.migrations``, records the hashes of the
project's migrations, so that a migration that was edited after it ran is noticed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.migrations.history import MADE_FROM, database_heads, read_history, tables_digest
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfdata.postgres.link import Link
    from perfdata.project import Project

_RECORDED = "SELECT nullif(current_setting('perfdata.migrations', true), '')"
_HASH_DIGITS = 16
_FILE = "file "


@dataclass(frozen=True)
class Origin:
    """What a database's tables were made from.

    Attributes:
        heads: the revisions in its alembic_version, or what another tool has applied.
        recorded: the hashes of the migrations, by revision, and of the files that they may read
            (``file PATH``) that the project had when perfdata last migrated the database; empty if
            an earlier version or somebody else migrated it.
        tables: the digest of the metadata, None if the tables were not made from metadata.
    """

    heads: tuple[str, ...] = ()
    recorded: Mapping[str, str] = field(default_factory=dict)
    tables: str | None = None

    @property
    def state(self) -> str:
        """A hash of the origin; equal for a project's (see origin_of) and its database's."""
        hashes = dict.fromkeys(self.heads, "") | dict(self.recorded)
        facts = [sorted(hashes.items()), None if hashes else self.tables]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def difference(self, project: Project) -> str:
        """Return why the database can't be brought to the project's present state, or ""."""
        if project.migrations is not None:
            return self._other_migrations(project)
        return self._other_tables(project) if project.has_only_metadata else ""

    def _other_migrations(self, project: Project) -> str:
        if self.tables is not None and not self.heads:
            return f"its tables were made from metadata, not by the migrations of {project.name}"
        applied = read_history(project).applied(self.heads)
        if unknown := [each.revision for each in applied if each.sha256 is None]:
            return (
                f"it is at migration {join_first(unknown)}, which project {project.name} does not "
                "have"
            )
        present = origin_of(project).recorded
        if not self.heads and self.recorded and not self.recorded.keys() & present.keys():
            return f"another tool than that of project {project.name} migrated it"
        return self._edited(present, {each.revision for each in applied})

    def _edited(self, present: Mapping[str, str], ran: set[str]) -> str:
        """Return which of the migrations that ran, or of their files, were edited since, or ""."""
        edited = [
            name for name in present if self.recorded.get(name, present[name]) != present[name]
        ]
        if revisions := [name for name in edited if name in ran]:
            return f"migration {join_first(revisions)} was edited after it ran"
        files = [name for name in edited if name.startswith(_FILE)]
        # A file of a migration that has not run may be edited, but it is not known which ones are.
        if files and all(name in ran or name.startswith(_FILE) for name in self.recorded):
            return f"{join_first(files)}, which migrations may read, was edited after they ran"
        return ""

    def _other_tables(self, project: Project) -> str:
        if ran := self.heads or tuple(self.recorded):
            return f"it has migrations ({join_first(ran)}), and project {project.name} has none"
        if self.tables is not None and self.tables != tables_digest(project):
            return f"its tables were made from other metadata of project {project.name}"
        return ""


def read_origin(link: Link, project: Project | None) -> Origin:
    """Read the origin of a database's tables, where the project's tool keeps it."""
    (recorded,), (made_from,) = link.together([_RECORDED, MADE_FROM])
    heads = database_heads(link, read_history(project))
    return Origin(heads, _parsed(recorded[0]), made_from[0])


def origin_of(project: Project) -> Origin:
    """Return the origin that a database has once it is at the project's present state."""
    if project.migrations is None:
        return Origin(tables=tables_digest(project) if project.has_only_metadata else None)
    history = read_history(project)
    hashes = {each.revision: each.sha256 or "" for each in history.migrations}
    hashes |= {f"{_FILE}{path}": digest for path, digest in history.files.items()}
    return Origin(recorded={name: digest[:_HASH_DIGITS] for name, digest in hashes.items()})


def record_migrations(link: Link, database: str, project: Project) -> None:
    """Record the hashes of the project's migrations in a database that has, or will get, them.

    Recorded before they run: of those that fail, no hash is ever looked at.
    """
    hashes = origin_of(project).recorded
    link.execute(
        sql.SQL("ALTER DATABASE {} SET perfdata.migrations = {}").format(
            sql.Identifier(database), sql.Literal(json.dumps(hashes))
        )
    )


def _parsed(recorded: str | None) -> dict[str, str]:
    """Return recorded hashes; none if somebody changed the setting to anything else."""
    try:
        found = json.loads(recorded or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
