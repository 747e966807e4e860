"""What GitHub provides around a job, on this machine: cache, artifacts, Python, a service, gh.

Each behaves as the real one does where it may hurt: a cache's entries never change and are found
by a prefix of their key; an artifact leaves hidden files out unless it is told not to.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from perfdata import Settings
from perfdata.server.cluster import SUPERUSER
from perfdata.server.embedded import EmbeddedServer
from tests.rehearsal.expressions import Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_LIMITED = {"", "false"}
GH = Path(__file__).with_name("gh.py")


@dataclass
class Cache:
    """Entries that never change: a key, and files relative to the workspace."""

    folder: Path
    entries: list[tuple[str, str]] = field(default_factory=list)  # key, version; oldest first

    def restore(self, workspace: Path, inputs: Mapping[str, str]) -> dict[str, str]:
        """Put the entry for a key into the workspace, or one whose key begins with it."""
        _only(inputs, "key", "path", "restore-keys")
        key, version = inputs["key"], inputs["path"]
        matched = self._find(key, version) or next(
            filter(
                None, (self._find(one, version) for one in inputs.get("restore-keys", "").split())
            ),
            None,
        )
        outputs = {"cache-primary-key": key}
        if matched is None:
            return outputs
        shutil.copytree(self.place(matched, version), workspace, dirs_exist_ok=True)
        exact = "true" if matched == key else "false"
        return {**outputs, "cache-hit": exact, "cache-matched-key": matched}

    def _find(self, key: str, version: str) -> str | None:
        """Return the exact key, else the newest that begins with it; only for the same paths."""
        if (key, version) in self.entries:
            return key
        found = (one for one, paths in reversed(self.entries) if paths == version)
        return next((one for one in found if one.startswith(key)), None)

    def save(self, workspace: Path, inputs: Mapping[str, str]) -> str:
        """Keep files under a key; where there is one of that key already, only say so."""
        _only(inputs, "key", "path")
        key, version = inputs["key"], inputs["path"]
        if (key, version) in self.entries:
            return f"::warning::unable to reserve cache with key {key}"
        files = list(_files(workspace, version.split(), hidden=True))
        if not files:
            return f"::warning::nothing to save under {key}: {version}"
        for file in files:
            _copy(workspace / file, self.place(key, version) / file)
        self.entries.append((key, version))
        return f"saved under {key}"

    def place(self, key: str, version: str) -> Path:
        """Return the folder with an entry's files."""
        return self.folder / hashlib.sha256(f"{key}\0{version}".encode()).hexdigest()


@dataclass
class Artifacts:
    """The artifacts of one run."""

    folder: Path

    def upload(self, workspace: Path, inputs: Mapping[str, str]) -> str:
        """Keep files; those in hidden folders only with include-hidden-files."""
        _only(
            inputs, "name", "path", "include-hidden-files", "if-no-files-found",
            "compression-level", "retention-days",
        )  # fmt: skip
        place = self.folder / inputs["name"]
        if place.exists():
            raise ActionError(f"an artifact named {inputs['name']} exists already")
        hidden = inputs.get("include-hidden-files") == "true"
        paths = inputs["path"].split()
        files = list(_files(workspace, paths, hidden=hidden))
        if not files:
            message = f"no files were found with the provided path: {inputs['path']}"
            if inputs.get("if-no-files-found") == "error":
                raise ActionError(message)
            return f"::warning::{message}"
        (only,) = paths
        root = workspace / only
        root = root.parent if root.is_file() else root
        for file in files:
            _copy(workspace / file, place / (workspace / file).relative_to(root))
        return f"{len(files)} files uploaded"

    def download(self, workspace: Path, inputs: Mapping[str, str]) -> str:
        """Put an artifact's files into a folder of the workspace."""
        _only(inputs, "name", "path")
        place = self.folder / inputs["name"]
        if not place.exists():
            raise ActionError(f"artifact not found for name: {inputs['name']}")
        shutil.copytree(place, workspace / inputs["path"], dirs_exist_ok=True)
        return f"artifact {inputs['name']} downloaded"


class ActionError(Exception):
    """An action failed as the real one would."""


def make_python(folder: Path) -> Path:
    """Make a new environment of the Python that runs the rehearsal; return where its programs are.

    Whatever version a workflow asks for: there is one on this machine.
    """
    shutil.rmtree(folder, ignore_errors=True)
    base = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([base, "-m", "venv", folder], check=True)
    return folder / "bin"


def check_out(origin: Path, workspace: Path, inputs: Mapping[str, str]) -> str:
    """Clone the repository afresh into the workspace."""
    _only(inputs, "persist-credentials")
    if inputs.get("persist-credentials") not in _LIMITED:
        raise Unsupported("a checkout that keeps its credentials")
    subprocess.run(["git", "clone", "--quiet", origin, workspace], check=True)
    return "checked out"


class Postgres:
    """A PostgreSQL of the embedded package on a port of loopback, for a service container's."""

    def __init__(self, folder: Path, image: str, environ: Mapping[str, str]) -> None:
        """Start it, with the role, the password and the database that the image would make."""
        self._server = EmbeddedServer(Settings(root=folder, home=folder, configured=False))
        self.port = _free_port()
        status = self._server.start(self.port)
        if f"postgres:{str(status.version).partition('.')[0]}" != image:
            raise Unsupported(f"the image {image}: what is here is PostgreSQL {status.version}")
        _only(environ, "POSTGRES_USER", "POSTGRES_PASSWORD")
        if environ["POSTGRES_USER"] != SUPERUSER:
            raise Unsupported(f"user {environ['POSTGRES_USER']}: the stand-in's is {SUPERUSER}")
        user, password = sql.Identifier(SUPERUSER), sql.Literal(environ["POSTGRES_PASSWORD"])
        with psycopg.connect(self._server.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(user, password))
            connection.execute(sql.SQL("CREATE DATABASE {}").format(user))

    def stop(self) -> None:
        """Stop it, and remove what it held."""
        remove_server(self._server)


def stop_servers(workspace: Path) -> None:
    """Stop the embedded server that a job left running: its machine would be gone."""
    if (workspace / ".perfdata").exists():
        remove_server(EmbeddedServer(Settings.load(workspace, {})))


def remove_server(server: EmbeddedServer) -> None:
    """Stop a server and remove its data, which may lie outside its home."""
    server.stop()
    shutil.rmtree(server.status().data.parent, ignore_errors=True)


def install_gh(folder: Path) -> None:
    """Put a ``gh`` into a folder of programs."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "gh"
    program.write_text(f"#!{sys.executable}\n{GH.read_text(encoding='utf-8')}", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def _only(given: Mapping[str, str], *known: str) -> None:
    if strange := sorted(given.keys() - set(known)):
        raise Unsupported(f"inputs {', '.join(strange)}")


def _files(workspace: Path, paths: Iterable[str], *, hidden: bool) -> Iterator[Path]:
    """Yield the files of paths, relative to the workspace."""
    for path in paths:
        if any(sign in path for sign in "*?[!"):
            raise Unsupported(f"the pattern {path}")
        root = workspace / path
        for file in [root] if root.is_file() else sorted(root.rglob("*")):
            name = file.relative_to(workspace)
            if file.is_file() and (hidden or not any(part[0] == "." for part in name.parts)):
                yield name


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
