"""The embedded server: one PostgreSQL cluster in PERFDATA_HOME, started when it is needed.

It is reached through a Unix socket in a private folder, and over loopback only where a port was
asked for. It outlives the process that started it. Nothing in it needs to survive a crash of the
operating system: such a cluster is thrown away and made again.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfdata.database.binaries import Binaries, find_binaries, identity, reachable, server_major
from perfdata.database.cluster import DATABASE, SUPERUSER
from perfdata.database.launch import (
    check_port,
    find_postmaster,
    launch,
    postmaster_of,
    wait_until_ready,
)
from perfdata.database.probe import Answer, ask, identifier_of, make_conninfo, set_password
from perfdata.database.processes import boot_id, stop_process
from perfdata.database.reserve import RESERVE_BYTES, give_up_reserve, reserve_room
from perfdata.database.state import Home, State
from perfdata.database.status import ServerStatus
from perfdata.errors import ServerError
from perfdata.progress import Event, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from perfdata.config import Settings
    from perfdata.database.cluster import Cluster
    from perfdata.postgres.link import Link
    from perfdata.progress import Report

__all__ = ["DATABASE", "SUPERUSER", "EmbeddedServer", "ServerStatus", "server_major"]


class EmbeddedServer:
    """The embedded server of these settings; every method may be called from any process."""

    def __init__(self, settings: Settings, report: Report = silent) -> None:
        """Take the settings; nothing is started or made."""
        self._settings = settings
        self._report = report
        self._home = Home(settings)

    def start(self, port: int | None = None) -> ServerStatus:
        """Have the server running, made first where there is none; ``port``: on loopback too.

        A server that runs is left as it is, unless it lacks the port or its programs are gone.
        Raises ServerError.
        """
        if os.name == "nt":
            raise ServerError("no embedded server on Windows yet: set PERFDATA_DATABASE_URL")
        with self._refusals():
            status = self._running(port)
            if status is not None:
                reserve_room(status.data.parent)
                return status
            with self._home.locked():
                self._await_other()
                # Another process may have been quicker.
                return self._running(port) or self._start(port)

    def stop(self) -> bool:
        """Stop the server, roll back what is open, and have its files on disk.

        Returns False where it did not run. Raises ServerError where it does not stop.
        """
        with self._refusals():
            if not self._home.folder.exists():
                return False
        with self._refusals(), self._home.locked():
            state = self._home.read_state()
            cluster = self._home.cluster(state)
            pid = find_postmaster(cluster, *self._home.socket(state, cluster))
            if pid is None:
                return False
            stop_process(pid)
            if state is not None:
                self._settle(state, cluster)
            return True

    def status(self) -> ServerStatus:
        """Tell how the server stands; nothing is started."""
        with self._refusals():
            state = self._home.read_state()
            return self._status(state, self._home.cluster(state), self._ask(state))

    def conninfo(self, database: str) -> str:
        """Write the libpq key=value string of a database on this server; nothing is started."""
        with self._refusals():
            state = self._home.read_state()
            socket, number = self._home.socket(state, self._home.cluster(state))
        return make_conninfo(socket, number, database)

    @contextmanager
    def room_made(self) -> Iterator[None]:
        """Give the reserve of a full disk up, and reserve it again after a block that made room."""
        with self._refusals():
            folder = self._home.cluster(self._home.read_state()).folder
            self._give_up_reserve(folder)
        yield
        with self._refusals():
            reserve_room(folder)

    def owns(self, connection: Link | psycopg.Connection[Any]) -> bool:
        """Tell whether a connection or link, by whatever way, ends at this very cluster.

        A cluster of which we may not read the identifier is not ours.
        """
        try:
            state = self._home.read_state()
            ours = None if state is None else self._home.cluster(state).identifier()
        except (OSError, ServerError):
            return False
        return ours is not None and identifier_of(connection) == ours

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._home.refused(error) from error

    def _ask(self, state: State | None) -> Answer | None:
        """Ask the server on our socket; None also where another cluster's answers there."""
        cluster = self._home.cluster(state)
        answer = ask(*self._home.socket(state, cluster))
        return answer if answer and answer.identifier == cluster.identifier() else None

    def _status(self, state: State | None, cluster: Cluster, answer: Answer | None) -> ServerStatus:
        port = state.port if state and answer else None
        return ServerStatus(
            running=answer is not None,
            version=answer.version if answer else None,
            pid=answer.pid if answer else None,
            socket=self._home.socket(state, cluster)[0],
            data=cluster.data,
            log=self._home.log,
            port=port,
            password_file=None if port is None else self._home.password_file,
            settings=answer.settings if answer else {},
        )

    def _running(self, port: int | None) -> ServerStatus | None:
        """Return the status of a server that can be used as it is."""
        state = self._home.read_state()
        answer = None if state is None else self._ask(state)
        if state is None or answer is None:
            return None
        cluster = self._home.cluster(state)
        cluster.require_major(server_major(self._settings), self._settings)
        if port not in (None, state.port) or state.programs_gone:
            return None
        return self._status(state, cluster, answer)

    def _await_other(self) -> None:
        """Wait for a server that is starting, or stopping, without anybody holding the lock."""
        cluster = self._home.cluster(self._home.read_state())
        pid = postmaster_of(cluster)
        if pid is not None:
            wait_until_ready(cluster, pid, self._home.log)

    def _start(self, port: int | None) -> ServerStatus:
        """Start the server under the lock, once what is in its way has been stopped."""
        began = time.monotonic()
        state = self._home.read_state()
        self._give_up_reserve(self._home.cluster(state).folder)
        cluster = self._home.place_cluster(state)
        cluster.require_major(server_major(self._settings), self._settings)
        binaries = reachable(find_binaries(self._settings), cluster.account, cluster.folder)
        port = self._clear_way(state, cluster, port)
        self._drop_lost(state, cluster)
        made = cluster.identifier() is None
        if made:
            cluster.discard()
            cluster.make(binaries)
        state = self._launch(state, cluster, binaries, port)
        answer = self._ask(state)
        if answer is None:
            raise ServerError(f"the embedded server started but does not answer: {self._home.log}")
        reserve_room(cluster.folder)
        self._say(
            f"embedded PostgreSQL {answer.version} {'made and ' if made else ''}started in "
            f"{self._settings.home}{f', port {port} of 127.0.0.1' if port else ''} "
            f"({time.monotonic() - began:.1f} s)"
        )
        return self._status(state, cluster, answer)

    def _give_up_reserve(self, folder: Path) -> None:
        if give_up_reserve(folder):
            self._say(
                f"the disk of {folder} is full: the {RESERVE_BYTES >> 20} MB reserved there are "
                f"released so that the server can run; make room on it "
                f"(`{self._settings.command('db.gc')}` removes old databases)"
            )

    def _clear_way(self, state: State | None, cluster: Cluster, port: int | None) -> int | None:
        """Stop a server that can't be used as it is, drop data that can't; return the port."""
        answer = self._ask(state)
        pid = find_postmaster(cluster, *self._home.socket(state, cluster))
        if port is not None and not (pid and state and state.port == port):
            check_port(port)
        if pid is None:
            return port
        if state is None or answer is None:
            reason = "it did not answer as the one that was started here"
        elif state.programs_gone:
            reason = f"its programs in {state.binaries} are gone or replaced"
        else:
            reason = f"it is to listen on port {port}"
        self._say(f"the embedded server is stopped and started again: {reason}")
        stop_process(pid, signal.SIGQUIT if cluster.identifier() is None else signal.SIGINT)
        return port or (state.port if state else None)

    def _drop_lost(self, state: State | None, cluster: Cluster) -> None:
        """Throw away a cluster whose writes may have been lost: fsync is off."""
        if cluster.identifier() is None or not (state is None or state.lost):
            return
        reason = "the operating system was started again while it ran"
        if state is None:
            reason = f"nothing in {self._home.folder} tells of them"
        self._say(f"the embedded server's data are thrown away and made again: {reason}")
        cluster.discard()

    def _launch(
        self, before: State | None, cluster: Cluster, binaries: Binaries, port: int | None
    ) -> State:
        """Configure and start; what is recorded first holds however this ends."""
        socket = self._home.make_socket_folder(before, cluster)
        state = State(
            elsewhere=cluster.folder != self._home.folder,
            socket=None if socket.parent == cluster.folder else str(socket),
            binaries=str(binaries.bin),
            identity=identity(binaries.bin),
            port=port,
            boot_id=boot_id(),
        )
        cluster.configure(socket, port)
        self._home.write_state(state)
        launch(cluster, binaries, self._home.log)
        if port is not None:
            set_password(socket, port, self._home.password())
        return state

    def _settle(self, state: State, cluster: Cluster) -> None:
        """Have a stopped cluster's files on disk, and record that nothing can be lost now."""
        initdb = Path(state.binaries, "initdb")
        if not initdb.is_file():
            try:
                found = find_binaries(self._settings)
                initdb = reachable(found, cluster.account, cluster.folder).initdb
            except ServerError:
                return  # not recorded as clean: a crash of the system will have it made again
        state = self._home.remove_socket_folder(state, cluster)
        self._home.write_state(replace(state, clean=cluster.sync(initdb)))

    def _say(self, text: str) -> None:
        self._report(Event(text))
