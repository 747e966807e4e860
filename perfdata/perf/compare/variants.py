"""The variants of a comparison: each a tree with its own home and database."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.config import SNAPSHOT_SUFFIX, snapshots_folder
from perfdata.errors import ComparisonError, ConfigError
from perfdata.perf.compare.build_output import refuse_missing_output
from perfdata.perf.compare.git import git_environment

if TYPE_CHECKING:
    from perfdata.config import Settings
    from perfdata.target.target import Target

PREFIX = "perfdata_compare_"
_TESTS = Path("tests", "perf")
# The entry point of the console script, whichever tree it is imported from.
_MIGRATE = "import sys; from perfdata.tasks import main; sys.argv[0] = 'perfdata'; main()"


@dataclass(frozen=True)
class Variant:
    """One variant: ``tree`` is the repository's folder, ``root`` the project's folder in it.

    ``label`` is for messages; ``url`` may contain a password.
    """

    name: str
    label: str
    tree: Path
    root: Path
    home: Path
    url: str = field(repr=False)
    allow: str

    @property
    def log(self) -> Path:
        """The file that receives pytest's output."""
        return self.home / "pytest.log"

    def environment(self, origin: Path) -> dict[str, str]:
        """Return the environment variables with which this tree's code is imported.

        PYTHONPATH's folders in ``origin``, the current tree, are replaced by those of this tree.
        """
        given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        paths = [str(self._own(Path(folder), origin)) for folder in given if folder]
        source = self.root / "src"
        first = [str(self.root), *([str(source)] if source.is_dir() else [])]
        kept = {
            name: value
            for name, value in git_environment(os.environ).items()
            if name not in {"PYTEST_ADDOPTS", "GITHUB_STEP_SUMMARY", "PERFDATA_COMPARE"}
        }
        return {
            "PYTHONHASHSEED": "0",  # the same order of sets in all variants
            **kept,
            "PYTHONPATH": os.pathsep.join([*first, *paths]),
            "PERFDATA_HOME": str(self.home),
            "PERFDATA_DATABASE_URL": self.url,
            "PERFDATA_ALLOW": self.allow,
        }

    def command(self, dataset: str) -> list[str]:
        """Return the command that runs the perf tests, with the project's own pytest options."""
        # A failed test does not end the run, and nothing distributes or slows down the tests.
        command = [sys.executable, "-m", "pytest", f"--rootdir={self.root}", "--maxfail=0"]
        command += ["--continue-on-collection-errors", f"-ocache_dir={self.home / 'cache'}"]
        for module, option in (("xdist", "-n0"), ("pytest_cov", "--no-cov")):
            if importlib.util.find_spec(module) is not None:
                command.append(option)
        if dataset:
            command.append(f"--perf-dataset={dataset}")
        return [*command, *([str(_TESTS)] if (self.root / _TESTS).is_dir() else [])]

    def _own(self, path: Path, origin: Path) -> Path:
        path = path.resolve()
        return self.tree / path.relative_to(origin) if path.is_relative_to(origin) else path


@dataclass(frozen=True)
class VariantFactory:
    """Makes variants in the folder of a comparison; ``origin`` is the current tree."""

    settings: Settings
    target: Target
    origin: Path
    folder: Path

    def make(self, name: str, label: str, tree: Path | None = None, *, like: str = "") -> Variant:
        """Make a variant of a tree (default: the current one), with its home and its database.

        The home links the existing snapshots. The variant's own code makes the tables, unless the
        database is copied: from the variant ``like``, or from the target if the project has
        neither migrations nor metadata.
        """
        from perfdata.postgres.connection import open_link
        from perfdata.postgres.url import make_url
        from perfdata.target.guard import locate

        tree = tree or self.origin
        root = tree / self.settings.root.resolve().relative_to(self.origin)
        home = self.folder / name
        _make_home(home, self.settings)
        project = self.target.project
        migrates = project and (project.migrations is not None or project.tables_from_metadata)
        source = self._database(like) if like else "" if migrates else _name(self.target)
        conninfo = _make_database(self.target, self._database(name), source)
        # An application that reads its address from ``environment`` may not understand a socket.
        url = project.variables(conninfo).loopback if project else None
        url = url or make_url(conninfo)
        with open_link(url) as link:
            allow = locate(link).entry
        variant = Variant(name, label, tree, root, home, url, allow)
        if not source:
            _migrate(variant, self.origin)
        return variant

    def _database(self, name: str) -> str:
        return f"{PREFIX}{self.folder.name}_{name}"


def _name(target: Target) -> str:
    from psycopg.conninfo import conninfo_to_dict

    return str(conninfo_to_dict(target.conninfo).get("dbname"))


def _make_home(home: Path, settings: Settings) -> None:
    """Link the existing snapshots into a variant's home; what it builds is not shared."""
    folder = snapshots_folder(home)
    folder.mkdir(parents=True)
    for path in snapshots_folder(settings.home).glob(f"*{SNAPSHOT_SUFFIX}"):
        os.link(path, folder / path.name)


def _make_database(target: Target, name: str, source: str) -> str:
    """Make a database on the target's server, as a copy of ``source``; return its conninfo."""
    from psycopg import sql
    from psycopg.conninfo import make_conninfo

    from perfdata.templates.databases import database_oid, maintenance_link, mark_made
    from perfdata.templates.properties import copy_own_settings

    query = "CREATE DATABASE {} TEMPLATE {}" if source else "CREATE DATABASE {}"
    with maintenance_link(target.conninfo) as (link, _):
        may = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
        if not link.value(may):
            raise ConfigError(
                f"each variant of a comparison needs its own database, and the role of "
                f"{target.described()} may not create one: ALTER ROLE … CREATEDB"
            )
        names = [name, *([source] if source else [])]
        link.execute(sql.SQL(query).format(*map(sql.Identifier, names)))
        mark_made(link, name)
        if source:  # CREATE DATABASE copies no settings: one says what made the tables
            copy_own_settings(link, database_oid(link, source), name)
    return make_conninfo(target.conninfo, dbname=name)


def _migrate(variant: Variant, origin: Path) -> None:
    """Make a variant's tables with its own code."""
    done = subprocess.run(
        [sys.executable, "-c", _MIGRATE, "db.migrate"],
        cwd=variant.root,
        env=variant.environment(origin),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        refuse_missing_output(done.stdout, origin, variant.label)
        output = "; ".join(done.stdout.strip().splitlines()[-3:])
        raise ComparisonError(f"the migrations of {variant.label} failed: {output}")


def drop_databases(target: Target, prefix: str) -> None:
    """Drop a comparison's databases and the clones made from them.

    The token in the prefix comes from perfdata's own folder, which proves as much as a mark; a
    run that was killed early has not written one.
    """
    from perfdata.templates.databases import drop_database, list_databases, maintenance_link

    with maintenance_link(target.conninfo) as (link, _):
        for database in list_databases(link):
            made_for = database.mark.target if database.mark else database.name
            if made_for.startswith(prefix):
                drop_database(link, database, force=True)
