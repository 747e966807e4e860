"""Distribution: a table's ranges, spread over the workers of an executor."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import ConnectError, LoadError, PerfdataError, ServerRefusedError
from perfdata.load.ranges.blocks import split
from perfdata.load.ranges.done import DoneRanges
from perfdata.load.ranges.jobs import RangeJob, load_range
from perfdata.progress import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor, Future

    from perfdata.load.plan import TableLoad
    from perfdata.load.private import PrivateDatabase
    from perfdata.load.ranges.blocks import BlockRange
    from perfdata.load.ranges.dask_cluster import DaskCluster
    from perfdata.load.ranges.jobs import DatasetReference
    from perfdata.progress import Report

# How often a range is tried. The scheduler itself gives a task to other workers when one dies.
_ATTEMPTS = 3
# Enough for hundreds of workers, and the scheduler need not hold the ranges of a whole dataset.
_SUBMITTED = 512
_WATCH_S = 5.0
# SQLSTATE classes of lost connections, scarce resources and shutdowns.
_PASSING = {"08", "53", "57"}


@dataclass(frozen=True)
class Workers:
    """A cluster's workers, and the dataset that they load."""

    cluster: DaskCluster
    dataset: DatasetReference

    def open(self, database: PrivateDatabase) -> Distribution:
        """Prepare a private database for them."""
        cluster, done = self.cluster, DoneRanges.create(database.link)
        return Distribution(cluster.executor, self.dataset, database, done, cluster.watch)


@dataclass(frozen=True)
class Distribution:
    """Loads the ranges of generated tables into a private database, by an executor's workers.

    ``watch`` is called every few seconds while nothing is finished, and raises an error if nothing
    can be.
    """

    executor: Executor
    dataset: DatasetReference
    database: PrivateDatabase
    done: DoneRanges
    watch: Callable[[], None]

    def copy(self, load: TableLoad, expected: int | None, report: Report) -> int:
        """Load a table's generated rows, each once and in order, and return their number.

        Raises LoadError, which names the range, for one that could not be loaded in three attempts;
        an error that another attempt would raise too is raised at once.
        """
        key = load.table.key
        ranges = list(split(key, load.parts))
        total = sum(blocks.rows for blocks in ranges)
        if expected is not None and expected != total:
            raise LoadError(f"{key}: expected {expected:,} rows, received {total:,}")
        report(Event(key, 0, total))
        loaded: set[BlockRange] = set()
        done = moved = 0
        for blocks in self._loaded(load, ranges):
            loaded.add(blocks)
            done += blocks.rows
            if done < total:
                report(Event(key, done, total))
            while moved < len(ranges) and ranges[moved] in loaded:
                self._move(load, ranges[moved])
                moved += 1
        report(Event(key, total, total))
        return total

    def _loaded(self, load: TableLoad, ranges: Sequence[BlockRange]) -> Iterator[BlockRange]:
        """Have ranges loaded into tables of their own; yield each when it is."""
        running: dict[Future[None], BlockRange] = {}
        attempts: Counter[BlockRange] = Counter()
        queue = list(reversed(ranges))
        try:
            while queue or running:
                while queue and len(running) < _SUBMITTED:
                    blocks = queue.pop()
                    running[self._submit(load, blocks)] = blocks
                finished, _ = wait(running, _WATCH_S, FIRST_COMPLETED)
                if not finished:
                    self.watch()
                for future in finished:
                    blocks = running.pop(future)
                    error = _error_of(future)
                    # What is done is in the table, whatever became of the task.
                    if error is None or (not _is_lasting(error) and self.done.has(blocks)):
                        yield blocks
                        continue
                    attempts[blocks] += 1
                    if _is_lasting(error) or attempts[blocks] == _ATTEMPTS:
                        raise _failed(blocks, error)
                    queue.append(blocks)
        finally:
            for future in running:
                future.cancel()

    def _move(self, load: TableLoad, blocks: BlockRange) -> None:
        try:
            self.done.move(load, blocks)
        except ServerRefusedError as error:
            raise _failed(blocks, error) from error

    def _submit(self, load: TableLoad, blocks: BlockRange) -> Future[None]:
        database = self.database
        job = RangeJob(
            self.dataset, blocks, load.table, database.conninfo, database.search_path,
            self.done.schema,
        )  # fmt: skip
        return self.executor.submit(load_range, job)


def _error_of(future: Future[None]) -> BaseException | None:
    return CancelledError() if future.cancelled() else future.exception()


def _is_lasting(error: BaseException) -> bool:
    """Tell whether another attempt would end with the same error."""
    if isinstance(error, ServerRefusedError):
        return error.sqlstate is not None and error.sqlstate[:2] not in _PASSING
    return isinstance(error, PerfdataError) and not isinstance(error, ConnectError)


def _failed(blocks: BlockRange, error: BaseException) -> PerfdataError:
    """Make the error of a range that is not loaded, which names the range and the cause."""
    if isinstance(error, PerfdataError) and _is_lasting(error):
        error.reason = f"{blocks} could not be loaded: {error.reason}"
        return error
    return LoadError(
        f"{blocks} could not be loaded in {_ATTEMPTS} attempts: {type(error).__name__}: {error}",
        remedy="See the logs of the workers, and run it again",
    )
