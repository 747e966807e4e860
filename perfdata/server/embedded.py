"""The embedded server: one PostgreSQL cluster in PERFDATA_HOME, started when it is needed.

It listens on a Unix socket in a private folder, and on a port of 127.0.0.1 on request. It keeps
running after the process that started it. Its data can be created again, so fsync is off, and after
a crash of the operating system the cluster is deleted and created again.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.errors import ServerError
from perfdata.progress import Event, silent
from perfdata.server.binaries import Binaries, find_binaries, identity, make_runnable, server_major
from perfdata.server.cluster import RESERVE_BYTES, create_reserve, release_reserve
from perfdata.server.ports import is_free, keep_port, login
from perfdata.server.postmaster import (
    ServerInfo,
    find_postmaster,
    read_info,
    recorded_postmaster,
    set_password,
    start_postmaster,
    stop_postmaster,
    wait_until_ready,
)
from perfdata.server.sockets import Socket, check_port, remove_temporary_folder
from perfdata.server.state import Home, State, boot_id
from perfdata.server.status import ServerStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.server.cluster import Cluster


class EmbeddedServer:
    """The embedded server of a project; any process may call any method."""

    def __init__(self, settings: Settings, report: Report = silent) -> None:
        """Take the settings; nothing is created or started."""
        self._settings = settings
        self._report = report
        self._home = Home(settings)

    def start(self, port: int | None = None) -> ServerStatus:
        """Start the server unless it runs; create its cluster if there is none.

        With a ``port`` it also listens on 127.0.0.1; where ``environment`` gives the application
        its address, it always does, by default on the port of ports.login. A running server is
        restarted if it does not listen on that port, or if its programs were removed or replaced.
        Raises ServerError.
        """
        if os.name == "nt":
            raise ServerError(
                "the embedded server does not support Windows yet: set PERFDATA_DATABASE_URL"
            )
        with self._explained_errors():
            if port is None and self._settings.gives_address:
                port, _ = login(self._home)
            status = self._running(port)
            if status is not None:
                create_reserve(status.data.parent)
                return status
            with self._home.locked():
                self._wait_for_transition()
                # Another process may have started it meanwhile.
                return self._running(port) or self._start(port)

    def stop(self) -> bool:
        """Stop the server, rolling back open transactions, and sync its files to the disk.

        Returns False if it was not running. Raises ServerError if it does not stop.
        """
        with self._explained_errors():
            if not self._home.folder.exists():
                return False
            with self._home.locked():
                state = self._home.read_state()
                cluster = self._home.cluster(state)
                pid = find_postmaster(cluster, self._home.socket(state))
                if pid is None:
                    return False
                stop_postmaster(pid)
                if state.recorded:
                    self._record_clean_stop(state, cluster)
                return True

    def status(self) -> ServerStatus:
        """Return the server's status, without starting it."""
        with self._explained_errors():
            state = self._home.read_state()
            return self._status(state, self._read_info(state))

    def conninfo(self, database: str) -> str:
        """Return the libpq key=value string of a database, without starting the server."""
        with self._explained_errors():
            return self._home.socket(self._home.read_state()).conninfo(database)

    @contextmanager
    def reserve_released(self) -> Iterator[None]:
        """Release the reserve if the disk is full, and create it again after the block."""
        with self._explained_errors():
            folder = self._home.cluster(self._home.read_state()).folder
            self._release_reserve(folder)
        yield
        with self._explained_errors():
            create_reserve(folder)

    def owns(self, link: Link) -> bool:
        """Return whether the link is to this cluster, judged by the system identifier.

        False if either identifier can't be read.
        """
        try:
            state = self._home.read_state()
            ours = self._home.cluster(state).identifier() if state.recorded else None
        except (OSError, ServerError):
            return False
        return ours is not None and link.server_identifier == ours

    @contextmanager
    def _explained_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._home.explain(error) from error

    def _read_info(self, state: State) -> ServerInfo | None:
        """Query the running server; None if there is none, or another cluster's."""
        info = read_info(self._home.socket(state))
        identifier = self._home.cluster(state).identifier()
        return info if info and info.identifier == identifier else None

    def _status(self, state: State, info: ServerInfo | None) -> ServerStatus:
        port = state.port if info else None
        return ServerStatus(
            running=info is not None,
            version=info.version if info else None,
            pid=info.pid if info else None,
            socket=self._home.socket(state).folder,
            data=self._home.cluster(state).data,
            log=self._home.log,
            port=port,
            password_file=None if port is None else self._home.password_file,
            settings=info.settings if info else {},
        )

    def _running(self, port: int | None) -> ServerStatus | None:
        """Return the status of a server that can be used without a restart."""
        state = self._home.read_state()
        info = self._read_info(state) if state.recorded else None
        if info is None:
            return None
        self._home.cluster(state).require_major(server_major(self._settings), self._settings)
        if port not in (None, state.port) or state.programs_replaced:
            return None
        return self._status(state, info)

    def _wait_for_transition(self) -> None:
        """Wait for a server that is starting or stopping although no process holds the lock."""
        cluster = self._home.cluster(self._home.read_state())
        if pid := recorded_postmaster(cluster):
            wait_until_ready(cluster, pid, self._home.log)

    def _start(self, port: int | None) -> ServerStatus:
        """Start the server, or restart one that can't be used; the caller holds the lock."""
        began = time.monotonic()
        state = self._home.read_state()
        self._release_reserve(self._home.cluster(state).folder)
        cluster = self._home.place_cluster(state)
        cluster.require_major(server_major(self._settings), self._settings)
        binaries = make_runnable(find_binaries(self._settings), cluster.account, cluster.folder)
        port = self._stop_unusable(state, cluster, port)
        self._delete_unsafe(state, cluster)
        created = cluster.identifier() is None
        if created:
            cluster.delete()
            cluster.create(binaries)
        if port and state.port not in (None, port) and not is_free(state.port):
            self._say(
                f"port {state.port} of 127.0.0.1 is taken by another process: the embedded server "
                f"listens on port {port} from now on"
            )
        state = self._launch(state, cluster, binaries, port)
        info = self._read_info(state)
        if info is None:
            raise ServerError(
                f"the embedded server started but accepts no connections: see {self._home.log}"
            )
        create_reserve(cluster.folder)
        self._say(
            f"embedded PostgreSQL {info.version} {'created and ' if created else ''}started in "
            f"{self._settings.home}{f', port {port} of 127.0.0.1' if port else ''} "
            f"({time.monotonic() - began:.1f} s)"
        )
        return self._status(state, info)

    def _release_reserve(self, folder: Path) -> None:
        if release_reserve(folder):
            self._say(
                f"the disk of {folder} is full: released the {RESERVE_BYTES >> 20} MB reserved "
                f"there, so that the server can run; free space on it "
                f"(`{self._settings.command('db.gc')}` removes old databases)"
            )

    def _stop_unusable(self, state: State, cluster: Cluster, port: int | None) -> int | None:
        """Stop a server that can't be used; return the port to listen on, which a restart keeps."""
        info = self._read_info(state)
        pid = find_postmaster(cluster, self._home.socket(state, cluster))
        if port is not None and not (pid and state.port == port):
            check_port(port)
        if pid is None:
            return port
        if not state.recorded or info is None:
            reason = "it did not identify itself as the recorded one"
        elif state.programs_replaced:
            reason = f"its programs in {state.binaries} were removed or replaced"
        else:
            reason = f"it did not listen on port {port}"
        self._say(f"restarting the embedded server: {reason}")
        stop_postmaster(pid, signal.SIGQUIT if cluster.identifier() is None else signal.SIGINT)
        return port or state.port

    def _delete_unsafe(self, state: State, cluster: Cluster) -> None:
        """Delete data that may be corrupt, as fsync is off."""
        if cluster.identifier() is None or not state.writes_lost:
            return
        reason = (
            "the operating system was restarted while it ran"
            if state.recorded
            else f"{self._home.folder} has no record of how it was stopped"
        )
        self._say(f"the embedded server's data are deleted and created again: {reason}")
        cluster.delete()

    def _launch(
        self, before: State, cluster: Cluster, binaries: Binaries, port: int | None
    ) -> State:
        """Configure and start the server; the state is recorded first, in case this is killed."""
        folder = self._home.socket_folders(cluster).make(before.socket)
        state = State(
            elsewhere=cluster.folder != self._home.folder,
            socket=None if folder.parent == cluster.folder else str(folder),
            binaries=str(binaries.bin),
            identity=identity(binaries.bin),
            port=port,
            boot_id=boot_id(),
        )
        cluster.configure(folder, port)
        self._home.write_state(state)
        start_postmaster(cluster, binaries, self._home.log)
        if port is not None:
            keep_port(self._home, port)
            set_password(Socket(folder, port), self._home.password())
        return state

    def _record_clean_stop(self, state: State, cluster: Cluster) -> None:
        """Sync a stopped cluster's files to the disk, and record that."""
        initdb = Path(state.binaries, "initdb")
        if not initdb.is_file():
            try:
                found = find_binaries(self._settings)
                initdb = make_runnable(found, cluster.account, cluster.folder).initdb
            except ServerError:
                return  # not clean: after a restart of the operating system it is created again
        if folder := self._home.socket_folders(cluster).recorded(state.socket):
            remove_temporary_folder(folder)
        self._home.write_state(replace(state, socket=None, clean=cluster.sync(initdb)))

    def _say(self, text: str) -> None:
        self._report(Event(text))
