"""What the dataset and snapshot tasks print: facts, results, differences and cache keys."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING

from perfdata.tasks.output import (
    human_duration,
    human_rows,
    human_size,
    one_line,
    print_facts,
    print_notes,
    print_table,
    show,
    shown_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perfdata.config import Settings
    from perfdata.dataset import Dataset
    from perfdata.snapshot.cache_key import CacheKey
    from perfdata.snapshot.diff.difference import Difference, TableDifference
    from perfdata.snapshot.diff.matching import RowSample
    from perfdata.snapshot.options import Built, Provided
    from perfdata.snapshot.store import Snapshot
    from perfdata.target.target import Target

    # {part: (now, in the snapshot)} of parts that differ; the reason where that is unknown; None
    # where there is no snapshot.
    Compared = dict[str, tuple[str | None, str | None]] | str | None

_LISTED_REQUIREMENTS = 5
_VALUE_CHARACTERS = 60
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}
_SHA256 = re.compile("[0-9a-f]{64}")


def parameters(dataset: Dataset) -> str:
    """Return a dataset's parameters in one line: ``offices=100 staff=10``."""
    return " ".join(f"{name}={value:,}" for name, value in dataset.parameters.items())


def in_short(snapshot: Snapshot) -> str:
    """Return a snapshot's name, rows, path and size in one line."""
    rows, size = human_rows(snapshot.manifest.rows), human_size(snapshot.size_bytes)
    return f"{snapshot.name}: {rows}, {shown_path(snapshot.path)} ({size})"


def snapshot_facts(snapshot: Snapshot) -> dict[str, object]:
    """Return the JSON of a snapshot in snapshot.list and snapshot.info."""
    manifest = snapshot.manifest
    return {
        "name": snapshot.name,
        "description": manifest.description,
        "created_at": manifest.created_at,
        "rows": manifest.rows,
        "stats": dict(manifest.stats),
        "path": snapshot.path,
        "size_bytes": snapshot.size_bytes,
    }


def print_snapshots(snapshots: Sequence[Snapshot]) -> None:
    """Print a table of snapshots."""
    print_table(
        ("snapshot", "rows", "size", "created", "description"),
        [
            (
                snapshot.name,
                f"{snapshot.manifest.rows:,}",
                human_size(snapshot.size_bytes),
                snapshot.manifest.created_at,
                snapshot.manifest.description,
            )
            for snapshot in snapshots
        ],
        right=("rows", "size"),
    )


def print_snapshot(snapshot: Snapshot) -> None:
    """Print what a snapshot holds, what it was made from, and its rows by table."""
    manifest = snapshot.manifest
    print_facts(
        {
            "name": snapshot.name,
            "description": manifest.description or "-",
            "file": f"{shown_path(snapshot.path)} ({human_size(snapshot.size_bytes)})",
            "created": manifest.created_at,
            "as of": manifest.as_of or "-",
            "rows": "all rows" if manifest.all_rows else "flagged rows",
            "server": manifest.server_version,
            "schema": manifest.schema_fingerprint,
            "migrations": ", ".join(item.revision for item in manifest.migrations) or "none",
            "dataset": manifest.dataset_fingerprint or "-",
            "requires": "rows outside it, listed below" if manifest.requires else "nothing",
        }
    )
    print_notes(manifest_notes(snapshot))
    print()
    print_table(
        ("table", "rows"),
        [
            (f"{table} (whole)" if table in manifest.whole_tables else table, f"{rows:,}")
            for table, rows in manifest.stats.items()
        ],
        right=("rows",),
    )


def manifest_notes(snapshot: Snapshot) -> list[str]:
    """Return a snapshot's own notes, the tables it leaves out, and the rows it requires."""
    from perfdata.snapshot.checks.requirements import describe_requirements

    manifest = snapshot.manifest
    notes = list(manifest.notes)
    if manifest.flag_through:
        notes.append(f"flagged through {', '.join(manifest.flag_through)}")
    if manifest.left_out:
        tables = ", ".join(manifest.left_out)
        notes.append(f"left out, without column {manifest.flag_column}: {tables}")
    requirements = describe_requirements(manifest.requires)
    shown, more = requirements[:_LISTED_REQUIREMENTS], len(requirements) - _LISTED_REQUIREMENTS
    notes += [f"requires rows outside it: {one_line(requirement)}" for requirement in shown]
    if more > 0:
        notes.append(f"and rows for {more:,} more foreign keys")
    return notes


def name_notes(target: Target, name: str) -> list[str]:
    """Return a note where a snapshot made by hand takes the name of a dataset."""
    if target.project is None or target.project.find_dataset(name) is None:
        return []
    note = (
        f"{name} is also a dataset's name: snapshot.restore will use this snapshot instead of the "
        "dataset's, and dataset.build needs --replace to overwrite it. Another name keeps both"
    )
    return [note]


def print_built(built: Built, target: Target, reason: str = "") -> None:
    """Print what a build did; ``reason`` says why, where a restore started it."""
    rows, took = human_rows(sum(built.rows.values())), human_duration(built.duration_s)
    saved = ""
    if built.snapshot is not None:
        path, size = shown_path(built.snapshot.path), human_size(built.snapshot.size_bytes)
        saved = f" and saved {path} ({size})"
    why = f"{reason}; " if reason else ""
    where = f"in a clone of {target.described()}" if built.aside else f"into {target.described()}"
    print(f"{built.name}: {why}built {rows} in {took}{saved}, {where}")
    print_notes(built.notes)


def print_provided(provided: Provided, target: Target) -> None:
    """Print what a restore did, and what it built for it."""
    if provided.built is not None:
        print_built(provided.built, target, provided.reason)
    if (done := provided.restored) is not None:
        rows, took = human_rows(sum(done.rows.values())), human_duration(done.duration_s)
        print(f"restored {done.name}: {rows} in {took} ({done.strategy}) into {target.described()}")
        print_notes(done.notes)


def difference_facts(difference: Difference) -> dict[str, object]:
    """Return the JSON of snapshot.diff."""
    return {"same": difference.same, **asdict(difference)}


def print_difference(difference: Difference) -> None:
    """Print the tables that differ, then samples of their rows."""
    if difference.same:
        print(f"same: {difference.before} and {difference.after}")
        return
    print(f"from {difference.before} to {difference.after}")
    print_table(
        ("table", "rows", "added", "removed", "changed", "columns"),
        [
            (
                table.table,
                _row_counts(table),
                f"{table.added:,}",
                f"{table.removed:,}",
                f"{table.changed:,}",
                ", ".join(_columns(table)) or "same",
            )
            for table in difference.tables
        ],
        right=("added", "removed", "changed"),
    )
    for table in difference.tables:
        for kind, samples in table.samples.items():
            for sample in samples:
                show(f"{_SIGNS[kind]} {table.table} {_sample(sample)}")


def _row_counts(table: TableDifference) -> str:
    if table.rows_before is None:
        return f"only after: {human_rows(table.rows_after or 0)}"
    if table.rows_after is None:
        return f"only before: {human_rows(table.rows_before)}"
    return f"{table.rows_before:,} to {table.rows_after:,}"


def _columns(table: TableDifference) -> Iterator[str]:
    yield from (f"+{name}" for name in table.columns_added)
    yield from (f"-{name}" for name in table.columns_removed)


def _sample(sample: RowSample) -> str:
    key = " ".join(f"{name}={_value(value)}" for name, value in sample.key.items())
    changes = ", ".join(
        f"{name}: {_value(old)} to {_value(new)}" for name, (old, new) in sample.changed.items()
    )
    return f"{key} {changes}".rstrip()


def _value(value: str | None) -> str:
    text = "null" if value is None else one_line(value)
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[:_VALUE_CHARACTERS]}…"


def compared_with_own(key: CacheKey, name: str, settings: Settings) -> Compared:
    """Compare a key with the dataset's own snapshot.

    Returns None without such a snapshot, and the reason as text if the snapshot can't be compared:
    an unreadable snapshot, or one made by hand, does not keep the key from being printed.
    """
    from perfdata.errors import SnapshotError
    from perfdata.snapshot.store import find_snapshot, snapshot_exists

    if not snapshot_exists(name, settings):
        return None
    try:
        return key.differing(find_snapshot(name, settings))
    except SnapshotError as error:
        return str(error)


def key_facts(key: CacheKey, name: str, compared: Compared) -> dict[str, object]:
    """Return the JSON of snapshot.key: the key, its parts, and what differs in the snapshot."""
    differing = compared if isinstance(compared, dict) else {}
    return {
        "key": key.key,
        "path": key.path,
        "parts": dict(key.parts),
        "snapshot": name if isinstance(compared, dict) else None,
        "not_compared": compared if isinstance(compared, str) else None,
        "differs": {
            part: {"now": now, "snapshot": then} for part, (now, then) in differing.items()
        },
    }


def print_key(key: CacheKey, name: str, compared: Compared) -> None:
    """Print a key, its parts, and what differs in the snapshot."""
    print(key)
    print()
    print_table(
        ("part", "hash", "of"), [(part, *_hashed(value)) for part, value in key.parts.items()]
    )
    if compared is None:
        return
    print()
    if isinstance(compared, str):
        print(f"not compared: {compared}")
    elif not compared:
        print(f"snapshot {name} was made from the same parts")
    else:
        for part, (now, then) in compared.items():
            show(f"snapshot {name} differs in {part}: {then or 'missing'}")
            show(f"  now: {now or 'missing'}")


def _hashed(part: str) -> tuple[str, str]:
    """Return a part's hash and what was hashed: a file by name, or the part's own text."""
    from hashlib import sha256

    digest, _, of = part.partition(" ")
    if _SHA256.fullmatch(digest):
        return digest, of
    return sha256(part.encode()).hexdigest(), part
