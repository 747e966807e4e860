"""A scratch database: a clone of the target to work in, which is dropped afterwards."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from perfdata.postgres.connection import open_link
from perfdata.snapshot.template import (
    check_clone_space,
    connect_target,
    open_clone,
    refuse_obstacle,
    refuse_pooler,
    working_clone,
)
from perfdata.target.guard import check_guard
from perfdata.templates.databases import (
    drop_database,
    list_databases,
    lock_number,
    unfinished_databases,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings
    from perfdata.postgres.link import Link
    from perfdata.progress import Report


@contextmanager
def scratch_clone(
    conninfo: str, settings: Settings, report: Report, *, terminate: bool
) -> Iterator[Link]:
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
        with working_clone(target) as work:
            with open_clone(target, work, conninfo, search_path) as private:
                yield private.link
            drop_database(target.link, work, force=True)
