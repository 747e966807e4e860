"""Migrations of another tool than Alembic: its files, its command, and what it has applied."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from perfdata.config import TARGET_VARIABLE
from perfdata.errors import ConfigError, MigrationError, ServerRefusedError
from perfdata.libpq import SECRETS, program_environment
from perfdata.passwords import without_passwords
from perfdata.postgres.url import describe, make_url
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perfdata.postgres.link import Link
    from perfdata.project import Migrations
    from perfdata.server.environment import Variables

_NO_TABLE = {"42P01", "3F000"}  # undefined_table, invalid_schema_name: nothing ran yet
_LAST_LINES = 5
_SHOWN = 5
# 20260401 in 20260401_users.sql, 1.2 in V1_2__users.sql
_VERSION = re.compile(r"[Vv]?(\d+(?:[._]\d+)*)(?=[^\d]|$)")


@dataclass(frozen=True)
class AppliedQuery:
    """The query that returns what a database has, and the files that its values refer to."""

    query: str
    files: Sequence[str]

    @property
    def statement(self) -> sql.SQL:
        """Return the query as a statement of psycopg's."""
        return sql.SQL(self.query.strip().removesuffix(";"))

    def revisions(self, link: Link) -> tuple[str, ...]:
        """Return the files that are applied in a database; none if the tool's table is missing.

        Raises MigrationError if the query fails in any other way.
        """
        try:
            with link.transaction(reading=True):
                rows = link.rows(self.statement)
        except ServerRefusedError as error:
            if error.sqlstate in _NO_TABLE:
                return ()
            raise self._failed(error.server_message) from error
        return self.revisions_of(row[0] for row in rows if row)

    def revisions_of(self, answers: Iterator[object]) -> tuple[str, ...]:
        """Return the file of each value, sorted; a value without a file stays as it is."""
        names: dict[str, set[str]] = {}
        for file in self.files:
            for name in names_of(file):
                names.setdefault(name, set()).add(file)
        found = set[str]()
        for value in answers:
            name = str(value)
            files = names.get(name, {name})
            if len(files) > 1:
                raise MigrationError(
                    f"{name!r}, which the query of Migrations(applied=…) returned, can be "
                    f"{join_first(sorted(files), _SHOWN)}",
                    remedy="Let it return paths, such as app || '/migrations/' || name || '.py'",
                )
            found |= files
        return tuple(sorted(found))

    def _failed(self, message: str) -> MigrationError:
        return MigrationError(f"the query of Migrations(applied=…) failed: {message}")


def names_of(file: str) -> Iterator[str]:
    """Yield what the ``applied`` query may call a file.

    Its path or the end of it, with or without the suffix, or the version that its name begins with.
    """
    path = PurePosixPath(file)
    for start in range(len(path.parts)):
        end = PurePosixPath(*path.parts[start:])
        yield str(end)
        yield str(end.with_suffix(""))
    if version := _VERSION.match(path.name):
        yield version[1]
        yield version[1].replace("_", ".")
        if version[1].isdecimal():
            yield str(int(version[1]))


def hash_files(migrations: Migrations, root: Path) -> dict[str, str]:
    """Hash the files of a project's migrations by their path in its root, in natural order.

    Raises MigrationError if there are none.
    """
    patterns = [migrations.files] if isinstance(migrations.files, str) else migrations.files
    paths = {path for pattern in patterns for path in _matching(root, pattern)}
    if not paths:
        raise MigrationError(
            f"no file in {root} matches Migrations(files={migrations.files!r})",
            remedy="Name the migrations by a pattern relative to that folder",
        )
    names = {path.relative_to(root).as_posix(): path for path in paths}
    return {name: _hash(names[name]) for name in sorted(names, key=_natural)}


def _matching(root: Path, pattern: str) -> Iterator[Path]:
    try:
        found = list(root.glob(pattern))
    except (NotImplementedError, ValueError) as error:
        raise ConfigError(f"Migrations(files={pattern!r}): {error}") from error
    return (path for path in found if path.is_file() and path.name != "__init__.py")


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts V2 before V10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def run_command(migrations: Migrations, root: Path, conninfo: str, variables: Variables) -> None:
    """Run a project's command in its root; raise MigrationError, with its last lines, if it fails.

    Its environment has the target as PERFDATA_TARGET_URL and as libpq's variables (PGHOST, …),
    then ``variables``. ``conninfo`` must be explicit (see explicit_conninfo).
    """
    command = [*migrations.command]
    target = {**program_environment(conninfo), TARGET_VARIABLE: make_url(conninfo)}
    if command[0] in {"python", "python3"}:
        command[0] = sys.executable
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env={**target, **variables.values},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise MigrationError(
            f"{migrations.command[0]}, which runs the migrations, can't be started "
            f"({error.strerror})"
        ) from error
    if done.returncode:
        output = "\n".join(done.stdout.strip().splitlines()[-_LAST_LINES:])
        parts = conninfo_to_dict(conninfo)
        passwords = [*(str(parts.get(name) or "") for name in SECRETS), variables.password]
        raise MigrationError(
            f"{' '.join(migrations.command)} exited with code {done.returncode} on "
            f"{describe(conninfo)}:\n{without_passwords(output, passwords)}"
        )
