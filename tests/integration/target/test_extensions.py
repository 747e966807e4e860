"""An extension that the embedded server lacks: the error says where it is, and that works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perfdata import Settings
from perfdata.server import installations
from perfdata.target import extensions
from tests.homes import discard_server
from tests.integration.databases import run
from tests.processes import run_script

OLD_BINARIES = Path("/usr/lib/postgresql/15/bin")
needs_15 = pytest.mark.skipif(
    not OLD_BINARIES.is_dir(), reason="PostgreSQL 15 of the distribution is not installed"
)
PROJECT = """
from pathlib import Path

from perfdata import Project

project = Project(name="shop", migrations=Path("migrations"))
"""
ENV = """
from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""
REVISION = """
from alembic import op

revision = "first"
down_revision = None


def upgrade():
    op.execute('CREATE EXTENSION "uuid-ossp"')
    op.execute("CREATE TABLE customers (id uuid DEFAULT uuid_generate_v4())")
"""


@needs_15
def test_another_postgresql_of_this_machine_has_it(tmp_path: Path) -> None:
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text('[tool.perfdata]\nproject = "extensions_perf:project"\n')
    (tmp_path / "extensions_perf.py").write_text(PROJECT)
    (tmp_path / "migrations" / "versions").mkdir(parents=True)
    (tmp_path / "migrations" / "env.py").write_text(ENV)
    (tmp_path / "migrations" / "versions" / "first.py").write_text(REVISION)
    failed = run_script(tmp_path, "perfdata", "db.migrate")
    assert failed.returncode == 2
    assert 'extension "uuid-ossp" is not available' in failed.stderr
    assert "The bundled PostgreSQL has amcheck, " in failed.stderr
    assert ", pg_trgm, " in failed.stderr
    line = f"pg_bin = {json.dumps(str(OLD_BINARIES))}"
    assert "PostgreSQL 15 on this machine has uuid-ossp: in [tool.perfdata] of" in failed.stderr
    assert f"pyproject.toml, set {line}, then run perfdata db.reset" in failed.stderr
    pyproject.write_text(f"{pyproject.read_text()}{line}\n")
    try:
        other = run_script(tmp_path, "perfdata", "db.migrate")
        assert "were created by PostgreSQL 18" in other.stderr
        assert "`perfdata db.reset` sets them aside" in other.stderr
        done = run_script(tmp_path, "perfdata", "db.reset")
        assert done.returncode == 0, done.stderr
        url = run_script(tmp_path, "perfdata", "db.url").stdout.strip()
        run(url, "INSERT INTO customers DEFAULT VALUES")
    finally:
        discard_server(Settings.load(tmp_path, {}))


def test_without_any_the_error_says_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extensions, "find_installations", list)
    found = extensions.find_extension("postgis", ["citext", "hstore"], settings)
    assert "has citext, hstore. No PostgreSQL on this machine has postgis: install one" in found
    assert found.endswith(
        "set pg_bin in [tool.perfdata] of pyproject.toml to the folder of its programs"
    )


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_installations_are_found_by_their_pg_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are complete and of a supported version; the one on the PATH too."""
    for version, words in (
        ("14", "14.9"),
        ("16", "16.1 (Debian)"),
        ("17", "17.2"),
        ("18", "18rc1"),
    ):
        folder = tmp_path / version / "bin"
        folder.mkdir(parents=True)
        share = tmp_path / version / "share"
        (share / "extension").mkdir(parents=True)
        (share / "extension" / "pgcrypto.control").touch()
        program(
            folder / "pg_config",
            f'test "$1" = --bindir && echo {folder} || echo "PostgreSQL {words}\n{share}"',
        )
        for name in ("initdb", "postgres"):
            program(folder / name, "")
    (tmp_path / "17" / "bin" / "initdb").unlink()
    broken = tmp_path / "broken" / "bin"
    broken.mkdir(parents=True)
    for name in ("initdb", "postgres", "pg_config"):
        program(broken / name, "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "18" / "bin"))
    places = [f"{tmp_path}/1[4-7]/bin", f"{tmp_path}/broken/bin"]
    found = installations.find_installations(places)
    assert [(each.major, each.bin) for each in found] == [
        (18, tmp_path / "18" / "bin"),
        (16, tmp_path / "16" / "bin"),
    ]
    assert {each.extensions for each in found} == {frozenset({"pgcrypto"})}
