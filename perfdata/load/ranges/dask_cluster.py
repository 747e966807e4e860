"""A Dask cluster, whose workers load ranges."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from perfdata.errors import ConfigError, ConnectError, LoadError, RefusedError
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor

    from distributed import Client

_CONNECT_S = 10.0
_WORKERS_S = 30.0


@dataclass(frozen=True)
class DaskCluster:
    """A cluster by the address of its scheduler, and an executor that its workers run."""

    address: str
    client: Client
    executor: Executor

    def worker_addresses(self) -> list[str]:
        """Return the addresses of its workers."""
        return sorted(self.client.scheduler_info(n_workers=-1)["workers"])

    def refuse_other_hosts(self) -> None:
        """Raise RefusedError if a worker is not on this host: it can't reach an embedded server."""
        others = [address for address in self.worker_addresses() if not _is_here(address)]
        if others:
            raise RefusedError(
                "refused, nothing was touched: the embedded server accepts connections from this "
                f"host only, and the cluster at {self.address} has workers on others: "
                f"{join_first(others)}",
                remedy="Use workers of this host, or a server that all workers reach: set "
                "PERFDATA_DATABASE_URL",
            )

    def watch(self) -> None:
        """Raise LoadError if there is no worker, after waiting for one."""
        try:
            self.client.wait_for_workers(1, timeout=_WORKERS_S)
        except TimeoutError as error:
            raise LoadError(
                f"the Dask cluster at {self.address} has no worker",
                remedy=f"Start some: dask worker {self.address} --nworkers auto --nthreads 1",
            ) from error
        except OSError as error:
            raise ConnectError(
                f"the Dask scheduler at {self.address} no longer answers: {error}",
                remedy="Start it again: dask scheduler",
            ) from error


@contextmanager
def connect_cluster(address: str) -> Iterator[DaskCluster]:
    """Connect to the scheduler of a Dask cluster; cancel what it still runs for this at the end.

    Raises ConfigError without the package distributed or for what is no address, ConnectError if
    no scheduler answers, LoadError if it has no worker.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the Dask cluster at {address} needs the package distributed, which is not installed",
            remedy="Run: pip install 'perfdata[dask]'",
        ) from error
    try:
        client = Client(address, timeout=_CONNECT_S, set_as_default=False)
    except ValueError as error:
        raise ConfigError(
            f"{address} is not the address of a Dask scheduler: {error}",
            remedy="Give one such as tcp://host:8786",
        ) from error
    except OSError as error:
        raise ConnectError(
            f"no Dask scheduler answered at {address} within {_CONNECT_S:.0f} s: {error}",
            remedy="Start one: dask scheduler",
        ) from error
    with client:
        # A task with the same arguments as one before it would not run again if it were pure.
        executor = client.get_executor(pure=False)
        cluster = DaskCluster(address, client, executor)
        try:
            cluster.watch()
            yield cluster
        finally:
            executor.shutdown(wait=False)


def _is_here(address: str) -> bool:
    """Tell whether a worker's address is one of this host."""
    parts = urlsplit(address)
    if parts.scheme == "inproc":  # a thread of this process
        return True
    host = parts.hostname or ""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
