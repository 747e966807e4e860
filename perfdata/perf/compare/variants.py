"""The sides of a comparison: each a tree, with a home and a database of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.errors import ComparisonError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfdata.config import Settings
    from perfdata.target.target import Target

PREFIX = "perfdata_compare_"
# What git sets while it runs a hook, and what would send it to another repository than asked.
_GIT_PLACES = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX"}
_TESTS = Path("tests", "perf")
# The console script's own way in, whichever tree it comes from.
_MIGRATE = "import sys; from perfdata.tasks import main; sys.argv[0] = 'perfdata'; main()"


@dataclass(frozen=True)
class Variant:
    """One side: ``tree`` is its repository's folder, ``root`` the project's in it.

    ``label`` names it for people. ``url`` may hold a password.
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
        """Where its pytest writes what it says."""
        return self.home / "pytest.log"

    def environment(self, origin: Path) -> dict[str, str]:
        """Return the environment in which this tree's code is what is imported.

        A path of the environment that lies in ``origin``, the tree in hand, is this tree's own.
        """
        given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        paths = [str(self._own(Path(one), origin)) for one in given if one]
        source = self.root / "src"
        first = [str(self.root), *([str(source)] if source.is_dir() else [])]
        kept = {
            name: value
            for name, value in without_places(os.environ).items()
            if name not in {"PYTEST_ADDOPTS", "GITHUB_STEP_SUMMARY", "PERFDATA_COMPARE"}
        }
        return {
            "PYTHONHASHSEED": "0",  # the same order of sets on all sides
            **kept,
            "PYTHONPATH": os.pathsep.join([*first, *paths]),
            "PERFDATA_HOME": str(self.home),
            "PERFDATA_DATABASE_URL": self.url,
            "PERFDATA_ALLOW": self.allow,
        }

    def command(self, dataset: str) -> list[str]:
        """Return the command that runs its perf tests; options of the project's own still hold."""
        # A test that fails ends no side, and nothing spreads or slows the tests.
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
    """Makes sides in the folder of a workshop; ``origin`` is the tree in hand."""

    settings: Settings
    target: Target
    origin: Path
    folder: Path

    def side(self, name: str, label: str, tree: Path | None = None, *, like: str = "") -> Variant:
        """Make a side of a tree (default: the one in hand): its home and its database.

        The home has the snapshots that are there. The side's own code makes the tables, or they
        are those of the side ``like``, or, where no migrations make them, of the target.
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
        with open_link(conninfo) as link:
            allow = locate(link).entry
        made = Variant(name, label, tree, root, home, make_url(conninfo), allow)
        if not source:
            _migrate(made, self.origin)
        return made

    def _database(self, name: str) -> str:
        return f"{PREFIX}{self.folder.name}_{name}"


def _name(target: Target) -> str:
    from psycopg.conninfo import conninfo_to_dict

    return str(conninfo_to_dict(target.conninfo).get("dbname"))


def _make_home(home: Path, settings: Settings) -> None:
    """Link the snapshots into a side's home: what a side builds anew stays its own."""
    (home / "snapshots").mkdir(parents=True)
    for path in (settings.home / "snapshots").glob("*.zst"):
        os.link(path, home / "snapshots" / path.name)


def _make_database(target: Target, name: str, source: str) -> str:
    """Make a database on the target's server, and return its conninfo; ``source``: a copy of it."""
    from psycopg import sql
    from psycopg.conninfo import make_conninfo

    from perfdata.templates.databases import maintenance_link, mark_made

    query = "CREATE DATABASE {} TEMPLATE {}" if source else "CREATE DATABASE {}"
    with maintenance_link(target.conninfo) as (link, _):
        may = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
        if not link.value(may):
            raise ConfigError(
                f"each side of a comparison has a database of its own, and the role of "
                f"{target.described()} may make none: ALTER ROLE … CREATEDB"
            )
        names = [name, *([source] if source else [])]
        link.execute(sql.SQL(query).format(*map(sql.Identifier, names)))
        mark_made(link, name)
    return make_conninfo(target.conninfo, dbname=name)


def _migrate(side: Variant, origin: Path) -> None:
    """Have the side's own code make its tables."""
    done = subprocess.run(
        [sys.executable, "-c", _MIGRATE, "db.migrate"],
        cwd=side.root,
        env=side.environment(origin),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        said = "; ".join(done.stdout.strip().splitlines()[-3:])
        raise ComparisonError(f"{side.label} could not make its tables: {said}")


def drop_databases(target: Target, prefix: str) -> None:
    """Drop a comparison's databases, and what was made from them.

    The token in the prefix is from a folder of our own: it proves as much as a mark, which one
    that was killed too early has not written.
    """
    from perfdata.templates.databases import drop_database, list_databases, maintenance_link

    with maintenance_link(target.conninfo) as (link, _):
        for one in list_databases(link):
            made_for = one.mark.target if one.mark else one.name
            if made_for.startswith(prefix):
                drop_database(link, one, force=True)


def without_places(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment that sends git to no other place than the folder it runs in."""
    return {name: value for name, value in environ.items() if name not in _GIT_PLACES}
