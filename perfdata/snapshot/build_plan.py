"""The plan of a build: which tables a dataset may fill, and its rows."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from perfdata.load.plan import Existing, Plan
from perfdata.load.selection import flagged_selection
from perfdata.postgres.connection import explicit_conninfo
from perfdata.postgres.reflection import read_catalog
from perfdata.snapshot.checks.ownership import own_selection
from perfdata.snapshot.rows import DatasetRows
from perfdata.templates.provenance import find_owned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.dataset import Dataset
    from perfdata.postgres.link import Link
    from perfdata.project import Project
    from perfdata.snapshot.options import RestoreOptions
    from perfdata.target.target import Target


@contextmanager
def plan_build(
    link: Link,
    target: Target,
    project: Project,
    dataset: Dataset,
    options: RestoreOptions,
    existing: Existing = Existing.REPLACE,
    *,
    sealed: bool,
    divided: bool = False,
) -> Iterator[tuple[Plan, DatasetRows]]:
    """Plan a build; where tables without the flag may be filled, generate the rows for that.

    With ``divided``, those of tables of perfdata.generate are only counted. The application's
    variables are set meanwhile. ``Existing.ALL`` is for a scratch database only.
    """
    catalog, owned = read_catalog(link), find_owned(link)
    flag, conninfo = project.flag_column, explicit_conninfo(target.conninfo)
    variables = project.variables(conninfo)
    rows = DatasetRows(
        dataset,
        flagged_selection(catalog, flag, target.settings),
        conninfo,
        adopt=target.settings.command("db.adopt"),
        loopback=variables.loopback,
        divided=divided,
    )
    plan = Plan(
        catalog,
        rows.selection.tables(catalog),
        existing,
        rows.selection,
        owned=owned is not None,
        sealed=sealed,
        application_name=f"perfdata build {dataset.name}",
        lock_timeout_s=options.lock_timeout_s,
        rebuild_indexes=options.rebuild_indexes,
        as_superuser=options.as_superuser,
    )
    own = owned is not None or existing is Existing.ALL
    if not own or len(plan.tables) == len(catalog.tables):
        with variables.applied():
            yield plan, rows
        return
    with variables.applied(), rows.storing(catalog, target.settings) as stored:
        selection = rows.selection.with_unflagged(catalog, stored.counts or ())
        if owned:
            selection = own_selection(
                link, catalog, selection, owned.provenance, as_superuser=options.as_superuser
            )
        tables = selection.tables(catalog)
        yield (
            replace(plan, tables=tables, selection=selection, counts=stored.counts),
            replace(stored, selection=selection),
        )
