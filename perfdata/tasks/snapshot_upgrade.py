"""The task snapshot.upgrade."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.tasks.output import human_rows, human_size, print_notes, show, shown_path
from perfdata.tasks.progress import reporting
from perfdata.tasks.task import (
    LOCK_TIMEOUT,
    is_dry,
    load_settings,
    read_lock_timeout,
    snapshot_names,
    task,
    untouched_target,
    would_fail,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from invoke.context import Context

    from perfdata.config import Settings
    from perfdata.snapshot.upgrade import Upgraded


@task(
    options={
        "name": "the snapshot, as listed by snapshot.list",
        "lock-timeout": LOCK_TIMEOUT,
    },
    required={"name": snapshot_names},
)
def upgrade(context: Context, *, name: str = "", lock_timeout: str = "") -> None:
    """Run the newer migrations on a snapshot's rows in a scratch database, and replace its file."""
    from perfdata.snapshot.upgrade import plan_upgrade, upgrade_snapshot
    from perfdata.target.target import start_target

    settings = load_settings()
    lock_timeout_s = read_lock_timeout(lock_timeout)
    if is_dry(context):
        _tell_upgrade(settings, name)
        return
    plan_upgrade(name, settings)  # an unknown name must not start a server
    with reporting() as report:
        target = start_target(settings, report)
        done = upgrade_snapshot(
            target.conninfo,
            name,
            lock_timeout_s=lock_timeout_s,
            settings=settings,
            report=report,
        )
    if not done.revisions:
        print(f"{name} has all migrations: {', '.join(done.heads)}")
        return
    snapshot = done.snapshot
    show(
        f"upgraded {name} from {', '.join(done.heads)} through {', '.join(done.revisions)}: "
        f"{human_rows(snapshot.manifest.rows)}, {shown_path(snapshot.path)} "
        f"({human_size(snapshot.size_bytes)})"
    )
    print_notes(_changes(done))


def _tell_upgrade(settings: Settings, name: str) -> None:
    from perfdata.errors import PerfdataError
    from perfdata.snapshot.upgrade import check_server, plan_upgrade
    from perfdata.target.target import reachable_target

    plan = plan_upgrade(name, settings)
    if not plan.revisions:
        print(f"would do nothing: {name} has all migrations: {', '.join(plan.heads)}")
        return
    show(
        f"would upgrade {name} from {', '.join(plan.heads)} through {', '.join(plan.revisions)}\n"
        f"in a scratch database on the server of {untouched_target(settings).described()}"
    )
    try:
        plan.snapshot.open().check()
        if (target := reachable_target(settings)) is not None:
            check_server(target.conninfo, settings)
    except PerfdataError as error:
        raise would_fail(error) from error


def _changes(done: Upgraded) -> Iterator[str]:
    """Yield the tables whose number of rows changed."""
    before, after = done.rows_before, done.snapshot.manifest.stats
    for key in sorted({**before, **after}):
        if (old := before.get(key, 0)) != (new := after.get(key, 0)):
            yield f"{key}: {old:,} rows before, {new:,} now"
