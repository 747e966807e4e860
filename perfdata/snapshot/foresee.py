"""Foresee: what a restore would do, by the very checks that it makes; nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.database.loading import foresee
from perfdata.postgres.connection import open_link
from perfdata.snapshot.format import check_file
from perfdata.snapshot.looking import UnableError, look_at
from perfdata.snapshot.provide import with_current
from perfdata.snapshot.restore import prepare_load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfdata.database.emptying import Before
    from perfdata.database.loading import Plan
    from perfdata.database.target import Target
    from perfdata.progress import Report
    from perfdata.snapshot.restore import Options
    from perfdata.snapshot.store import Snapshot


@dataclass(frozen=True)
class ForeseenTable:
    """One table: what becomes of its rows (None: the whole database goes), and how many come."""

    key: str
    whole: bool
    before: Before | None
    coming: int


@dataclass(frozen=True)
class Foreseen:
    """What a restore would do: the snapshot, table by table, and what a user should know.

    ``lost`` are rows that would not be in a fresh database (see lost_words).
    """

    snapshot: Snapshot
    tables: tuple[ForeseenTable, ...]
    lost: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def fresh(self) -> bool:
        """Tell whether a new database would take the place of the target."""
        return all(table.before is None for table in self.tables)


def foresee_dataset(
    target: Target, name: str, *, build: bool, options: Options, report: Report
) -> tuple[Foreseen | None, str]:
    """Say what provide_dataset would do, and why; None where it would build.

    Raises what a restore raises before its first change.
    """

    def foreseen(snapshot: Snapshot) -> Foreseen:
        return _foresee(target, snapshot, options, report)

    found, _, reason = with_current(
        target, name, foreseen, build=build, options=options, report=report, dry=True
    )
    return found, reason


def _foresee(target: Target, snapshot: Snapshot, options: Options, report: Report) -> Foreseen:
    notes: tuple[str, ...] = ()
    if options.fresh:
        try:
            asked = look_at(target.conninfo, snapshot, target.settings, options, report)
        except UnableError as error:
            notes = (f"would be restored without --fresh: {error}",)
        else:
            return _foreseen(snapshot, asked.plan, {}, asked.lost)
    checked = check_file(snapshot.path)
    with open_link(target.conninfo) as link:
        plan = prepare_load(link, snapshot, checked, target.settings, options.in_place)
        found, read_notes = foresee(link, plan)
    before = {one.table.oid: one for one in found}
    return _foreseen(snapshot, plan, before, notes=(*notes, *read_notes))


def _foreseen(
    snapshot: Snapshot,
    plan: Plan,
    before: Mapping[int, Before],
    lost: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> Foreseen:
    coming = snapshot.manifest.stats
    tables = [
        ForeseenTable(
            table.key, table.oid in plan.whole, before.get(table.oid), coming.get(table.key, 0)
        )
        for table in plan.tables
    ]
    return Foreseen(snapshot, tuple(tables), lost, (*notes, *plan.notes))
