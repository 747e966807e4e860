"""The embedded server's launcher, on real servers: every test stops those that it starts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from perfdata.config import Settings
from perfdata.errors import ServerError
from perfdata.postgres.connection import open_link
from perfdata.postgres.drivers import PsycopgLink
from perfdata.server import state
from perfdata.server.accounts import server_account
from perfdata.server.aside import set_aside_other_major
from perfdata.server.binaries import find_binaries, make_runnable
from perfdata.server.embedded import EmbeddedServer
from perfdata.server.postmaster import is_running
from perfdata.target.garbage import collect_garbage
from perfdata.target.target import reset_target
from tests.homes import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perfdata.progress import Event
    from perfdata.server.status import ServerStatus

OLD_BINARIES = Path("/usr/lib/postgresql/15/bin")
needs_15 = pytest.mark.skipif(
    not OLD_BINARIES.is_dir(), reason="PostgreSQL 15 of the distribution is not installed"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="is about root")


class Server(EmbeddedServer):
    """A server that remembers what it told."""

    def __init__(self, home: Path, pg_bin: Path | None = None) -> None:
        self.told: list[str] = []
        self.home = home
        super().__init__(Settings(root=home.parent, home=home, pg_bin=pg_bin), self._tell)

    def _tell(self, event: Event) -> None:
        self.told.append(event.text)

    def run(self, query: str) -> object:
        """Run a statement in database postgres; return the first column of its first row."""
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def keep_table(self) -> None:
        """Make a table that is written out: the last commits before a kill are not."""
        self.run("CREATE TABLE kept AS SELECT 1")
        self.run("CHECKPOINT")

    def kill(self) -> ServerStatus:
        """End the postmaster as kill -9 does; its status before is returned."""
        status = self.status()
        assert status.pid is not None
        os.kill(status.pid, signal.SIGKILL)
        while is_running(status.pid):
            time.sleep(0.005)
        return status

    def change_state(self, **values: object) -> None:
        """Change what is recorded."""
        path = self.home / "server" / "state.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that every account can get into, as pytest's own are not."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as path:
        yield path


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    """Start one server for the tests that only ask."""
    with open_folder() as path:
        server = Server(path / "性能 'x' \\ %20")
        server.start()
        yield server
        server.stop()


@pytest.fixture
def make_server(folder: Path) -> Iterator[Callable[..., Server]]:
    """Make servers in ``folder``; they are stopped and removed afterwards."""
    made: list[Server] = []

    def make(home: Path | str = "home", pg_bin: Path | None = None) -> Server:
        server = Server(folder / home, pg_bin)
        made.append(server)
        return server

    yield make
    for server in made:
        data = server.status().data
        server.stop()
        if not data.is_relative_to(folder):
            shutil.rmtree(data.parent, ignore_errors=True)


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    """Make one server, not started."""
    return make_server()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_settings_are_in_force(running: Server) -> None:
    server, status = running, running.status()
    assert status.settings == {
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "wal_level": "minimal",
        "autovacuum": "off",
        "jit": "off",
        "shared_buffers": "256MB",
        "max_wal_size": "4GB",
        "lc_collate": "C",
        "lc_ctype": "C.utf8",
        "locale_provider": "builtin",
        "locale": "C.UTF-8",
        "server_encoding": "UTF8",
    }
    assert server.run("SHOW listen_addresses") == ""
    assert server.run("SELECT current_user") == "perfdata"
    assert mode_of(status.socket) == 0o700
    server.run("CREATE EXTENSION pg_trgm")
    assert server.run("SELECT cardinality(show_trgm('サトウハナコ'))") == 7


def test_starts_once_and_stops_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the user's environment; and nobody's child: no zombie is left in its starter."""
    monkeypatch.setenv("LANG", "xx_XX.UTF-8")
    monkeypatch.setenv("LC_ALL", "xx_XX.UTF-8")
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nowhere")
    assert server.stop() is False
    assert not server.home.exists()
    assert not server.status().running
    first = server.start()
    assert len(server.told) == 1
    assert server.told[0].startswith("embedded PostgreSQL 18.")
    assert f"created and started in {server.home} (" in server.told[0]
    assert server.start() == first
    assert len(server.told) == 1
    assert first.pid is not None
    with pytest.raises(ChildProcessError):
        os.waitpid(first.pid, os.WNOHANG)
    assert os.getsid(first.pid) != os.getsid(0)
    assert server.stop() is True
    assert not is_running(first.pid)
    assert server.stop() is False
    stopped = server.status()
    assert (stopped.running, stopped.pid, stopped.settings) == (False, None, {})


def test_two_processes_start_it_at_once(server: Server) -> None:
    code = (
        "import sys; from pathlib import Path; from perfdata.config import Settings\n"
        "from perfdata.server.embedded import EmbeddedServer\n"
        "home = Path(sys.argv[1])\n"
        "print(EmbeddedServer(Settings(root=home, home=home)).start().pid)"
    )
    command = [sys.executable, "-c", code, str(server.home)]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    pids = [int(starter.communicate()[0]) for starter in starters]
    assert pids == [server.status().pid] * 3


def test_data_survive_kill_9(server: Server) -> None:
    """Even where the recorded process id is another's by then: neither believed nor killed."""
    server.start()
    server.keep_table()
    killed = server.kill()
    assert not server.status().running
    assert server.start().pid != killed.pid
    for command in (["sleep", "60"], ["true"]):  # a process, and a zombie
        status = server.kill()
        account = server_account(status.data)
        user = None if account is None else account.uid
        with subprocess.Popen(command, user=user) as other:
            for path in (status.data / "postmaster.pid", status.socket / ".s.PGSQL.5432.lock"):
                lines = path.read_text().splitlines()
                path.write_text("\n".join([str(other.pid), *lines[1:], ""]))
            assert not server.status().running
            assert server.stop() is False
            server.start()
            assert other.poll() in (None, 0)
            other.kill()
    assert server.run("SELECT count(*) FROM kept") == 1


def test_session_that_outlives_a_killed_server(server: Server) -> None:
    """Its shared memory is waited for, never taken: two servers on one cluster destroy it."""
    server.start()
    with psycopg.connect(server.conninfo("postgres")) as connection:
        backend = connection.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        server.kill()
        command = ["sh", "-c", f"sleep 0.7; kill -KILL {backend}"]
        began = time.monotonic()
        with subprocess.Popen(command):
            server.start()
    assert time.monotonic() - began > 0.7
    assert server.run("SELECT 1") == 1


def test_next_boot(server: Server) -> None:
    """A cluster that was stopped survives it; one that ran is thrown away and made again."""
    server.start()
    server.keep_table()
    server.stop()
    server.change_state(boot_id="another")
    server.start()
    assert server.run("SELECT count(*) FROM kept") == 1
    server.kill()
    server.change_state(boot_id="another")
    server.start()
    assert "deleted and created again: the operating system was restarted" in server.told[2]
    assert server.run("SELECT to_regclass('kept')") is None


def test_long_home_with_blanks_and_japanese_letters(make_server: Callable[..., Server]) -> None:
    """A socket's path holds 107 bytes: it lies in a private folder elsewhere then."""
    server = make_server(f"性能 データ, 'quoted' 100% \\ {'長' * 40}/home")
    first = server.start()
    assert len(os.fsencode(first.socket / ".s.PGSQL.5432")) <= 107
    assert server.run("SELECT 1") == 1
    assert mode_of(first.socket) == 0o700
    server.kill()
    assert server.start().socket == first.socket
    server.kill()
    first.socket.chmod(0o777)
    second = server.start()
    assert second.socket != first.socket, "a folder that others may have been in is not used"
    shutil.rmtree(first.socket)
    server.stop()
    assert not second.socket.exists()


def test_short_home_with_blanks_and_japanese_letters(running: Server) -> None:
    status = running.status()
    assert status.socket.is_relative_to(running.home)
    with open_link(status.url("postgres")) as link:
        assert running.owns(link)


def test_programs_gone_while_it_runs(folder: Path, make_server: Callable[..., Server]) -> None:
    """As when the environment that started it is deleted."""
    found = find_binaries(Settings(root=folder, home=folder))
    programs = make_runnable(found, server_account(folder / "data"), folder).bin
    environment = folder / "bin"
    environment.mkdir()
    for name in ("postgres", "initdb"):
        (environment / name).symlink_to(programs / name)
    first = make_server("home", environment).start()
    shutil.rmtree(environment)
    server = make_server("home")
    second = server.start()
    assert second.pid != first.pid
    assert f"its programs in {environment} were removed" in server.told[0]
    assert len(server.told) == 2


@needs_15
def test_other_major(make_server: Callable[..., Server]) -> None:
    """Another PostgreSQL's programs work; their cluster is refused to others, with the remedy."""
    old, new = make_server("home", OLD_BINARIES), make_server("home")
    status = old.start()
    assert status.version is not None
    assert status.version.startswith("15.")
    assert (status.settings["locale_provider"], status.settings["lc_collate"]) == ("libc", "C")
    assert status.settings["lc_ctype"] == "C.utf8"
    with pytest.raises(ServerError, match="created by PostgreSQL 15") as running:
        new.start()
    assert new.stop() is True
    with pytest.raises(ServerError) as stopped:
        new.start()
    assert str(stopped.value) == str(running.value)
    assert "`perfdata db.reset` sets them aside" in stopped.value.remedy
    settings = Settings(root=new.home, home=new.home)
    reset_target(settings)
    version = new.start().version
    assert version is not None
    assert version.startswith("18.")
    aside = status.data.with_name("data_of_postgresql_15")
    assert any(
        line.startswith(f"{aside}: data of another") for line in collect_garbage(settings).left
    )
    assert (aside / "PG_VERSION").exists()
    (removed,) = collect_garbage(settings, lost_rows=True).removed
    assert removed.name == str(aside)
    assert removed.size_bytes > 20_000_000
    assert not aside.exists()
    assert set_aside_other_major(settings) is None


def test_port_that_is_taken(running: Server) -> None:
    """The server that runs is not stopped for nothing."""
    server, first = running, running.status()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f"can't listen on port {port} of 127.0.0.1"):
            server.start(port)
    assert server.status() == first


def test_port_wants_the_password(server: Server) -> None:
    server.start()
    port = free_port()
    status = server.start(port)
    assert f"it did not listen on port {port}" in server.told[1]
    assert f"port {port} of 127.0.0.1" in server.told[2]
    assert server.start() == server.start(port) == status, "a port that is there stays"
    with open_link(status.url("postgres", password=True)) as link:
        assert server.owns(link)
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(status.url("postgres"))
    assert status.password_file is not None
    assert mode_of(status.password_file) == 0o600
    password = status.password_file.read_text()
    assert len(password) >= 32
    assert password not in status.log.read_text()
    assert server.run("SHOW listen_addresses") == "127.0.0.1"
    server.stop()
    assert server.start().port is None


@needs_root
def test_root_with_a_home_that_its_account_cannot_reach(
    folder: Path, make_server: Callable[..., Server]
) -> None:
    """As below /root: nothing is opened, the cluster lives in the system's folder."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    server = make_server("closed/home")
    status = server.start()
    assert status.data.is_relative_to("/var/lib/perfdata")
    assert mode_of(closed) == 0o700
    assert (status.data.parent / "home").read_text() == f"{server.home}\n"
    assert status.data.stat().st_uid != 0
    assert mode_of(status.data) == mode_of(status.socket) == 0o700
    assert server.run("SELECT 1") == 1
    assert server.stop() is True
    assert server.start().data == status.data
    server.stop()


@needs_root
def test_a_cluster_whose_home_is_not_there_is_counted_and_never_removed(
    folder: Path, make_server: Callable[..., Server]
) -> None:
    """The home may be on a disk that is not mounted at the moment."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    server, other = make_server("closed/home"), make_server("closed/other")
    data = server.start().data
    server.keep_table()
    server.stop()
    server.home.rename(closed / "unmounted")
    other.start()
    left = collect_garbage(Settings(root=closed, home=other.home)).left
    assert any(line.startswith("/var/lib/perfdata: ") for line in left)
    assert (data.parent, str(server.home)) in state.orphaned_clusters()
    other.stop()
    (closed / "unmounted").rename(server.home)
    server.start()
    assert server.run("SELECT count(*) FROM kept") == 1


def test_one_line_names_all_clusters_whose_home_is_not_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(5):
        (folder / f"c{n}").mkdir()
        (folder / f"c{n}" / "home").write_text(f"/gone/{n}\n")
    monkeypatch.setattr(state, "_SYSTEM_FOLDER", folder)
    stopped = Settings(root=folder, home=folder / "home")
    (line,) = [one for one in collect_garbage(stopped, dry=True).left if "PERFDATA_HOME" in one]
    assert line.startswith(
        f"{folder}: clusters whose PERFDATA_HOME does not exist: 5 (c0 of /gone/0"
    )


NOBODY = 65_534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user for a moment")
def test_a_home_in_a_folder_that_is_closed_to_this_user_is_no_matter_of_its_gc(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is there can't be seen: the cluster is another user's."""
    (folder / "one").mkdir()
    (folder / "closed").mkdir(mode=0o700)
    (folder / "one" / "home").write_text(f"{folder / 'closed' / 'home'}\n")
    monkeypatch.setattr(state, "_SYSTEM_FOLDER", folder)
    assert [home for _, home in state.orphaned_clusters()] == [str(folder / "closed" / "home")]
    os.seteuid(NOBODY)
    try:
        assert state.orphaned_clusters() == []
    finally:
        os.seteuid(0)


@needs_root
@pytest.mark.parametrize("whose", ["home", "home/server"])
def test_root_takes_no_folder_of_another_user(
    folder: Path, make_server: Callable[..., Server], whose: str
) -> None:
    """Whoever owns it could have root run other programs, or talk to another server."""
    server = make_server()
    running = server.start()
    with open_link(server.conninfo("postgres")) as link:
        os.chown(folder / whose, NOBODY, NOBODY)
        try:
            message = rf"{folder / whose} belongs to user \w+, not to root; nothing was changed"
            for act in (server.start, server.stop, server.status, lambda: server.conninfo("a")):
                with pytest.raises(ServerError, match=message):
                    act()
            assert not server.owns(link)
        finally:
            os.chown(folder / whose, 0, 0)
    assert server.status() == running


@needs_root
def test_a_user_takes_a_home_of_root_but_none_of_others(folder: Path) -> None:
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    code = (
        "import os, sys; from pathlib import Path; from perfdata.config import Settings\n"
        "from perfdata.server.state import Home\n"
        "from perfdata.errors import ServerError\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: Home(Settings(root=Path('/'), home=Path(sys.argv[1]))).read_state()\n"
        "except ServerError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(shared)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == ""
    os.chown(shared, 1, 1)
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "belongs to user daemon, not to nobody" in said


def test_a_server_folder_that_is_a_link_is_not_followed(
    folder: Path, make_server: Callable[..., Server]
) -> None:
    (folder / "home").mkdir()
    (folder / "elsewhere").mkdir()
    (folder / "home" / "server").symlink_to(folder / "elsewhere")
    server = make_server()
    with pytest.raises(ServerError, match="is a symbolic link"):
        server.start()
    assert list((folder / "elsewhere").iterdir()) == []
    (folder / "home" / "server").unlink()


def test_a_folder_named_in_an_edited_state_is_not_removed(
    folder: Path, make_server: Callable[..., Server]
) -> None:
    """Though it is private to the server's account, and named as perfdata names its own."""
    server = make_server("長" * 40)
    first = server.start()
    precious = folder / "perfdata-precious"
    precious.mkdir(mode=0o700)
    (precious / "customers.db").write_text("precious")
    (precious / "perfdata-home").write_text(str(folder / "another home"))
    account = server_account(first.data)
    if account is not None:
        os.chown(precious, account.uid, account.gid)
    server.change_state(socket=str(precious))
    assert server.stop() is True
    assert (precious / "customers.db").read_text() == "precious"
    assert first.socket.exists()
    done = collect_garbage(Settings(root=folder, home=server.home))
    assert str(first.socket) in {one.name for one in done.removed}
    assert not first.socket.exists()
    assert server.run("SELECT 1") == 1


@needs_root
def test_root_with_programs_that_its_account_cannot_reach(
    folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are copied, with their libraries, and survive the environment."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    package = find_binaries(Settings(root=folder, home=folder)).bin.parent.parent
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.parent / name, closed / name)
    monkeypatch.syspath_prepend(closed)
    status = server.start()
    programs = Path(json.loads((server.home / "server" / "state.json").read_text())["binaries"])
    assert programs.is_relative_to(server.home)
    assert mode_of(closed) == 0o700
    shutil.rmtree(closed)
    assert server.run("SELECT to_tsvector('english', 'loaded') IS NOT NULL") is True
    monkeypatch.undo()
    assert server.start() == status


def test_owns_only_its_own_cluster(running: Server, make_server: Callable[..., Server]) -> None:
    ours, other = running, make_server("other")
    with open_link(ours.conninfo("postgres")) as link:
        assert ours.owns(link)
        assert not other.owns(link), "one that was never made owns nothing"
        other.start()
        assert not other.owns(link)
    with psycopg.connect(ours.conninfo("postgres")) as connection:
        connection.execute("SELECT 1")
        assert ours.owns(PsycopgLink(connection))
        assert connection.info.transaction_status.name == "INTRANS"


def test_owns_asks_as_any_role(running: Server) -> None:
    """A server that keeps its identifier to itself is not ours; the transaction stays whole."""
    server = running
    server.run("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    server.run("CREATE ROLE somebody LOGIN")
    with psycopg.connect(server.conninfo("postgres"), user="somebody") as connection:
        connection.execute("SELECT 1")
        assert not server.owns(PsycopgLink(connection))
        connection.execute("SELECT 1")


def test_conninfo_of_any_database(running: Server) -> None:
    server = running
    name = "it's \\ 「x」 dbname=y"
    quoted = name.replace('"', '""')
    server.run(f'CREATE DATABASE "{quoted}"')
    with psycopg.connect(server.conninfo(name)) as connection:
        assert connection.info.dbname == name
    with psycopg.connect(server.status().url(name)) as connection:
        assert connection.info.dbname == name


def test_server_that_dies_tells_why(server: Server) -> None:
    data = server.start().data
    server.stop()
    shutil.rmtree(data / "pg_wal")
    with pytest.raises(ServerError, match='"pg_wal" does not exist') as raised:
        server.start()
    assert str(server.home / "server" / "server.log") in str(raised.value)


def test_socket_or_data_removed_under_a_running_server(server: Server) -> None:
    """As a cleaner of temporary files does, and a hasty user: the old one is found and stopped."""
    first = server.start()
    server.keep_table()
    shutil.rmtree(first.socket)
    second = server.start()
    assert server.run("SELECT count(*) FROM kept") == 1
    shutil.rmtree(first.data)
    third = server.start()
    assert server.run("SELECT to_regclass('kept')") is None
    for pid in (first.pid, second.pid):
        assert pid is not None
        assert not is_running(pid)
    shutil.rmtree(third.socket)
    assert server.stop() is True


def test_server_that_is_still_starting_is_waited_for(running: Server) -> None:
    """Its starter may have been interrupted."""
    server, status = running, running.status()
    lock = status.data / "postmaster.pid"
    text = lock.read_text()
    lock.write_text(text.replace("ready   ", "starting"))
    (status.socket / ".s.PGSQL.5432").rename(status.socket / "hidden")
    code = (
        "import sys, time; from pathlib import Path; time.sleep(0.3)\n"
        "socket, lock = map(Path, sys.argv[1:])\n"
        "(socket / 'hidden').rename(socket / '.s.PGSQL.5432')\n"
        "lock.write_text(lock.read_text().replace('starting', 'ready   '))"
    )
    with subprocess.Popen([sys.executable, "-c", code, status.socket, lock]):
        assert server.start() == status


@needs_root
def test_root_with_other_programs_that_its_account_cannot_reach(
    folder: Path, make_server: Callable[..., Server]
) -> None:
    """They are not copied: where their files lie only they know."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    programs = find_binaries(Settings(root=folder, home=folder)).bin
    for name in ("postgres", "initdb"):
        (closed / name).symlink_to(programs / name)
    with pytest.raises(ServerError, match="name a folder that every user can read"):
        make_server("home", closed).start()
    assert mode_of(closed) == 0o700


@needs_root
def test_disk_full(folder: Path, make_server: Callable[..., Server]) -> None:
    """What the system said is passed on, and nothing half made stays."""
    home = folder / "home"
    home.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=20m,mode=0755", "tmpfs", str(home)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("this root may not mount a small disk")
    server = make_server("home")
    try:
        with pytest.raises(ServerError, match=r"No space left on device|Check free disk space"):
            server.start()
        assert not server.status().data.exists()
        assert not (home / "server" / "data.new").exists()
    finally:
        subprocess.run(["umount", home], check=True)


def test_foreign_files_where_the_server_would_be_are_left(folder: Path) -> None:
    """A project may well have a folder ``server/data`` of its own."""
    foreign = folder / "home" / "server" / "data" / "customers.db"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("precious")
    foreign.parent.parent.chmod(0o750)
    server = Server(folder / "home")
    for act in (server.start, server.stop):
        with pytest.raises(ServerError, match="was not created by perfdata; nothing was changed"):
            act()
    assert foreign.read_text() == "precious"
    assert mode_of(foreign.parent.parent) == 0o750
    assert not (folder / "home" / ".gitignore").exists()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PGREQUIREAUTH", "scram-sha-256"),
        ("PGCHANNELBINDING", "require"),
        ("PGTARGETSESSIONATTRS", "standby"),
        ("PGSSLMODE", "verify-full"),
        ("PGSSLCERTMODE", "require"),
        ("PGGSSENCMODE", "require"),
        ("PGREQUIREPEER", "somebody"),
        ("PGHOSTADDR", "192.0.2.1"),
        ("PGCONNECT_TIMEOUT", "soon"),
        ("PGMINPROTOCOLVERSION", "4.0"),
        ("PGOPTIONS", "-c statement_timeout=1"),
        ("PGCLIENTENCODING", "LATIN1"),
        ("PGPASSFILE", "/nowhere"),
    ],
)
def test_variables_of_the_environment_do_not_reach_the_server(
    running: Server, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    before = running.status().pid
    monkeypatch.setenv(variable, value)
    assert running.start().pid == before
    with open_link(running.conninfo("postgres")) as link:
        link.rows("SELECT pg_sleep(0.01)")
        assert running.owns(link)


def test_a_service_of_the_environment_does_not_lead_elsewhere(
    running: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = running.status().pid
    (folder / "services").write_text(
        "[production]\nhost=192.0.2.1\nhostaddr=192.0.2.1\nport=1\ndbname=p\nuser=u\n"
        "sslmode=verify-full\ntarget_session_attrs=standby\noptions=-cstatement_timeout=1\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(folder / "services"))
    monkeypatch.setenv("PGSERVICE", "production")
    assert running.start().pid == before
    with open_link(running.conninfo("postgres")) as link:
        link.rows("SELECT pg_sleep(0.01)")
        assert running.owns(link)


def test_a_server_that_cannot_be_asked_is_not_stopped(
    running: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own client failed: that is no reason to end everybody's sessions."""
    before = running.status().pid
    monkeypatch.setenv("PGSERVICE", "nope")
    with pytest.raises(ServerError, match=r"can't be queried: .*nope.*unset PGSERVICE"):
        running.start()
    monkeypatch.delenv("PGSERVICE")
    assert running.status().pid == before
