"""Drift: how a database's tables and migrations differ from a snapshot's.

Drift is compatible if every row of the snapshot still fits: newer migrations, a new column that is
nullable or has a default, a dropped NOT NULL, an enum with more labels, a wider type. It is
accepted with ``allow_drift`` and then reported in the notes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from perfdata.errors import SchemaError, SnapshotStaleError
from perfdata.migrations.history import heads_of, version_queries
from perfdata.postgres.link import Check
from perfdata.postgres.types import accepts
from perfdata.snapshot.checks.staleness import compare_migrations
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from perfdata.migrations.history import History
    from perfdata.postgres.catalog import Catalog, Column
    from perfdata.postgres.link import Rows
    from perfdata.snapshot.checks.staleness import MigrationDifferences
    from perfdata.snapshot.format.manifest import Manifest

_NOT_NULL = " not null"
_INTEGERS = ("smallint", "integer", "bigint")  # from narrow to wide; their text is the same
_TEXT = re.compile(r"(character varying|character)(?:\((\d+)\))?|text")
_SHOWN = 20


class Drift:
    """The differences between a snapshot and a database; ``allowed`` accepts compatible ones."""

    def __init__(self, manifest: Manifest, *, allowed: bool) -> None:
        self._manifest = manifest
        self._allowed = allowed
        self._newer: Sequence[str] = ()
        self._compatible: list[str] = []

    def migrations_check(self, history: History, catalog: Catalog) -> Check:
        """Return the check that the database has the snapshot's migrations.

        Its judge raises SnapshotStaleError naming the migrations that differ.
        """

        def judge(heads: Sequence[Rows]) -> None:
            database_heads = heads_of(heads, history)
            found = compare_migrations(self._manifest.migrations, history.applied(database_heads))
            self._newer = found.newer
            if differences := found.describe("the database", allow_newer=self._allowed):
                raise SnapshotStaleError(
                    f"snapshot {self._manifest.name} was made with other migrations "
                    f"({differences})",
                    remedy=f"No row was touched{self._remedy(found, database_heads, catalog)}",
                )

        return Check(version_queries(catalog.versions, history), judge)

    def _remedy(self, found: MigrationDifferences, heads: Sequence[str], catalog: Catalog) -> str:
        """Return the remedy for other migrations; a database is never downgraded."""
        if found.only_snapshot or found.changed:
            return (
                ". Migrate the database to the snapshot's revision, or build or create the "
                "snapshot again"
            )
        stays = (
            f", and the database stays at {join_first(heads)}. Upgrade the snapshot "
            f"(snapshot.upgrade --name {self._manifest.name}), or build or create it again"
        )
        if incompatible := self._compare(catalog)[0]:
            return f"{stays}: its rows no longer fit ({join_first(incompatible)})"
        return f"{stays}, or use allow_drift=True: every row still fits"

    def check_schema(self, catalog: Catalog) -> None:
        """Raise SchemaError naming the columns that differ, unless the drift is accepted."""
        incompatible, self._compatible = self._compare(catalog)
        if not incompatible and (self._allowed or not self._compatible):
            return
        remedy = "Every row still fits: allow_drift=True accepts this"
        if incompatible:
            remedy = "Migrate the database to the snapshot's revision, or create the snapshot again"
            if self._compatible:
                remedy += f". allow_drift=True would accept: {join_first(self._compatible, _SHOWN)}"
        raise SchemaError(
            f"snapshot {self._manifest.name} does not fit the database: "
            f"{join_first(incompatible or self._compatible, _SHOWN)}",
            remedy=f"Nothing was touched. {remedy}",
        )

    def _compare(self, catalog: Catalog) -> tuple[list[str], list[str]]:
        """List the incompatible differences, then the compatible ones."""
        incompatible: list[str] = []
        compatible: list[str] = []
        for key, columns in self._manifest.schema.items():
            if key not in catalog.by_key:
                incompatible.append(f"table {key} is missing")
                continue
            present = {column.name: column for column in catalog.by_key[key].stored}
            generated = self._manifest.generated.get(key, ())
            for difference, fits in _differences(key, columns, present, generated):
                (compatible if fits else incompatible).append(difference)
        return incompatible, compatible

    def notes(self) -> tuple[str, ...]:
        """Return a note that lists the accepted drift, if there is any."""
        newer = (
            [f"migrations only in the database: {join_first(self._newer)}"] if self._newer else []
        )
        accepted = [*newer, *self._compatible]
        return (f"accepted drift: {join_first(accepted, _SHOWN)}",) if accepted else ()


def _differences(
    key: str,
    wanted: Mapping[str, str],
    present: Mapping[str, Column],
    generated: Collection[str],
) -> Iterator[tuple[str, bool]]:
    """Yield each column's difference, and whether every row still fits."""
    for name in {**wanted, **present}:
        column, was = present.get(name), wanted.get(name)
        if column is None:
            yield f"{key}.{name} is missing", False
        elif was is None and name in generated:
            yield f"{key}.{name} was generated, so the snapshot lacks its values", False
        elif was is None:
            fits = column.has_default or not column.not_null
            yield f"{key}.{name} ({column.described()}) is not in the snapshot", fits
        elif was not in {column.described(), column.described_in_short()}:
            difference = f"{key}.{name} is {column.described()}, in the snapshot {was}"
            yield difference, _accepts_column(column, was)


def _accepts_column(column: Column, was: str) -> bool:
    """Tell whether a column accepts every value of a column with the description ``was``."""
    was_nullable = not was.endswith(_NOT_NULL)
    if was_nullable and column.not_null:
        return False
    kind = was.removesuffix(_NOT_NULL)
    return (
        accepts((column.type, *column.detail), kind)
        or _has_labels(column, kind)
        or kind == column.type
        or _is_wider(column.type, kind)
    )


def _has_labels(column: Column, was: str) -> bool:
    """Tell whether a column's enum still has all its labels, in the same order.

    Older snapshots list labels without quotes, as in ``public.mood (happy, sad)``.
    """
    rest = was.removeprefix(f"{column.type} (")
    if not column.labels or rest == was:
        return False
    rest = f"{rest.removesuffix(')')}, "
    for label in column.labels:
        rest = rest.removeprefix(f"{label}, ")
    return not rest


def _is_wider(now: str, was: str) -> bool:
    if now in _INTEGERS and was in _INTEGERS:
        return _INTEGERS.index(now) >= _INTEGERS.index(was)
    new, old = _TEXT.fullmatch(now), _TEXT.fullmatch(was)
    # char(n) pads with blanks, so converting from or to it changes the text.
    if not new or not old or "character" in (new[1], old[1]):
        return False
    return new[2] is None or (old[2] is not None and int(new[2]) >= int(old[2]))
