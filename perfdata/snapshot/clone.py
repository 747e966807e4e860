"""A scratch database: a clone of the target to work in, which is dropped afterwards.

In a distributed build, workers load into it too.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from perfdata.errors import LoadError
from perfdata.load.plan import Loaded, Strategy
from perfdata.load.private import PrivateDatabase, load_private, open_private
from perfdata.load.ranges.distribution import Distribution
from perfdata.load.ranges.done import DoneRanges
from perfdata.postgres.connection import open_link
from perfdata.postgres.reflection import read_catalog
from perfdata.snapshot.template import (
    check_clone_space,
    connect_target,
    refuse_obstacle,
    refuse_pooler,
)
from perfdata.target.guard import check_guard
from perfdata.templates.databases import (
    Database,
    TargetDatabase,
    drop_database,
    execute_with_identifiers,
    list_databases,
    lock_number,
    unfinished_databases,
)
from perfdata.templates.template import clone, open_work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings
    from perfdata.load.plan import Plan
    from perfdata.load.ranges.dask_cluster import DaskCluster
    from perfdata.load.ranges.jobs import DatasetReference
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.snapshot.rows import DatasetRows


@dataclass(frozen=True)
class ScratchClone:
    """A scratch database, and the target that it is a clone of."""

    private: PrivateDatabase
    database: Database
    target: TargetDatabase

    def load(
        self,
        plan: Plan,
        rows: DatasetRows,
        cluster: DaskCluster,
        dataset: DatasetReference,
        report: Report,
    ) -> Loaded:
        """Load a dataset's rows, those that can be divided by a cluster's workers.

        Nobody else can connect afterwards. Raises what load_private and Distribution.copy raise.
        """
        if self.target.embedded:
            cluster.refuse_other_hosts()
        link = self.private.link
        catalog = read_catalog(link)
        if catalog != plan.catalog:
            changed = f"{self.target.name} changed while it was cloned"
            raise LoadError(changed, remedy="Run it again")
        done = DoneRanges.create(link)
        distribution = Distribution(cluster.executor, dataset, self.private, done, cluster.watch)
        plan = replace(plan, catalog=catalog)
        with ThreadPoolExecutor(1) as executor:
            notes = load_private(self.private, plan, rows, executor, report, distribution)
        # A task that is still running somewhere can write no more.
        statement = "ALTER DATABASE {} ALLOW_CONNECTIONS false"
        execute_with_identifiers(self.target.link, statement, self.database.name)
        done.drop()
        return Loaded(dict(plan.counts or {}), Strategy.WHOLE_TABLES, (*plan.notes, *notes))


@contextmanager
def scratch_clone(
    conninfo: str, settings: Settings, report: Report, *, terminate: bool
) -> Iterator[Link]:
    """Clone a database and connect to the clone (see open_scratch)."""
    with open_scratch(conninfo, settings, report, terminate=terminate) as scratch:
        yield scratch.private.link


@contextmanager
def open_scratch(
    conninfo: str, settings: Settings, report: Report, *, terminate: bool
) -> Iterator[ScratchClone]:
    """Clone a database and connect to the clone, which is dropped at the end.

    Raises GuardError, NoClonesError if the role can't make clones, and RefusedError, which names
    them, if sessions are open in the database and ``terminate`` does not end them.
    """
    with connect_target(conninfo, settings, report, terminate=terminate) as target:
        refuse_obstacle(target)
        with open_link(conninfo) as link:
            check_guard(link, settings)
            refuse_pooler(link, target)
            search_path = link.session_path()
        for database in unfinished_databases(target.link, lock_number(target.name)):
            drop_database(target.link, database, force=True)
        source = next(one for one in list_databases(target.link) if one.oid == target.oid)
        check_clone_space(target, source)
        work = clone(target, source)
        try:
            open_work(target.link, work)
            with open_private(make_conninfo(conninfo, dbname=work.name), search_path) as private:
                yield ScratchClone(private, work, target)
        finally:
            drop_database(target.link, work, force=True)
