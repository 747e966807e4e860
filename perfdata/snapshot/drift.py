"""Drift: how a database's tables differ from a snapshot's, and whether every row fits all the same.

Compatible drift is what makes room: a column that may stay empty or fills itself, nulls allowed,
an enum with more labels, a wider type, newer migrations. It passes where that is asked for, and is
told.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from perfdata.errors import SchemaError, SnapshotStaleError
from perfdata.postgres.link import Check
from perfdata.postgres.types import accepts
from perfdata.snapshot.staleness import compare_migrations
from perfdata.target.migrations import heads_of, version_queries
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from perfdata.postgres.catalog import Catalog, Column
    from perfdata.postgres.link import Rows
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.staleness import Compared
    from perfdata.target.migrations import History

_NOT_NULL = " not null"
# Each holds whatever those before it hold, written alike.
_INTEGERS = ("smallint", "integer", "bigint")
_TEXT = re.compile(r"(character varying|character)(?:\((\d+)\))?|text")
_SHOWN = 20


class Drift:
    """The differences between a snapshot and a database; ``allowed`` lets compatible ones pass."""

    def __init__(self, manifest: Manifest, *, allowed: bool) -> None:
        """Take what the snapshot says of itself."""
        self._manifest = manifest
        self._allowed = allowed
        self._newer: Sequence[str] = ()
        self._compatible: list[str] = []

    def migrations_check(self, history: History, catalog: Catalog) -> Check:
        """Check that the database stands on the snapshot's migrations.

        It raises SnapshotStaleError naming what differs.
        """

        def judge(heads: Sequence[Rows]) -> None:
            at = heads_of(heads)
            present = history.applied(at)
            found = compare_migrations(self._manifest.migrations, present)
            self._newer = found.newer
            if said := found.said("the database", allow_newer=self._allowed):
                raise SnapshotStaleError(
                    f"snapshot {self._manifest.name} was made with other migrations ({said})",
                    remedy=f"No row was touched{self._remedy(found, at, catalog)}",
                )

        return Check(version_queries(catalog.versions), judge)

    def _remedy(self, found: Compared, at: Sequence[str], catalog: Catalog) -> str:
        """Say what can be done where the migrations differ; a database does not go back."""
        if found.only_snapshot or found.changed:
            return ". Migrate the database to the same, or build or create the snapshot again"
        stays = f", and the database stays at {first(at)}. Build or create the snapshot again"
        if misfits := self._compare(catalog)[0]:
            return f"{stays}: its rows do not fit any more ({first(misfits)})"
        return f"{stays}; or let it pass by --allow-drift, as every row fits all the same"

    def check_schema(self, catalog: Catalog) -> None:
        """Raise SchemaError, naming each column that differs, where a row may not fit."""
        refused, self._compatible = self._compare(catalog)
        if refused or (self._compatible and not self._allowed):
            remedy = "Every row fits all the same: --allow-drift lets it pass"
            if refused:
                remedy = "Create the snapshot again, or migrate the database to the same"
                if self._compatible:
                    others = first(self._compatible, _SHOWN)
                    remedy = f"{remedy}. These --allow-drift would let pass: {others}"
            raise SchemaError(
                f"snapshot {self._manifest.name} does not fit the database: "
                f"{first(refused or self._compatible, _SHOWN)}",
                remedy=f"Nothing was touched. {remedy}",
            )

    def _compare(self, catalog: Catalog) -> tuple[list[str], list[str]]:
        """Name what differs: where a row may not fit, and where every row does all the same."""
        refused: list[str] = []
        compatible: list[str] = []
        for key, columns in self._manifest.schema.items():
            if key not in catalog.by_key:
                refused.append(f"table {key} is missing")
                continue
            present = {column.name: column for column in catalog.by_key[key].stored}
            generated = self._manifest.generated.get(key, ())
            for said, fits in _differences(key, columns, present, generated):
                (compatible if fits else refused).append(said)
        return refused, compatible

    def notes(self) -> tuple[str, ...]:
        """Tell what was let pass."""
        newer = [f"migrations only in the database: {first(self._newer)}"] if self._newer else []
        passed = [*newer, *self._compatible]
        return (f"drift was let pass: {first(passed, _SHOWN)}",) if passed else ()


def _differences(
    key: str,
    wanted: Mapping[str, str],
    present: Mapping[str, Column],
    generated: Collection[str],
) -> Iterator[tuple[str, bool]]:
    """Yield what differs, column by column, and whether every row fits all the same."""
    for name in {**wanted, **present}:
        column, was = present.get(name), wanted.get(name)
        if column is None:
            yield f"{key}.{name} is missing", False
        elif was is None and name in generated:
            yield f"{key}.{name} was generated, so that the snapshot lacks its values", False
        elif was is None:
            fits = column.has_default or not column.not_null
            yield f"{key}.{name} ({column.described()}) is not in the snapshot", fits
        elif was not in {column.described(), column.described_in_short()}:
            said = f"{key}.{name} is {column.described()}, in the snapshot {was}"
            yield said, _fits(column, was)


def _fits(column: Column, was: str) -> bool:
    """Tell whether a column accepts all that one that was described so has held."""
    had_nulls = not was.endswith(_NOT_NULL)
    if had_nulls and column.not_null:
        return False
    kind = was.removesuffix(_NOT_NULL)
    return (
        accepts((column.type, *column.detail), kind)
        or _more_labels(column, kind)
        or kind == column.type
        or _wider(column.type, kind)
    )


def _more_labels(column: Column, was: str) -> bool:
    """Tell whether a column's enum has every label that it had, in the order it had them.

    This is how older snapshots tell them, with no quotes.
    """
    rest = was.removeprefix(f"{column.type} (")
    if not column.labels or rest == was:
        return False
    rest = f"{rest.removesuffix(')')}, "
    for label in column.labels:
        rest = rest.removeprefix(f"{label}, ")
    return not rest


def _wider(now: str, was: str) -> bool:
    if now in _INTEGERS and was in _INTEGERS:
        return _INTEGERS.index(now) >= _INTEGERS.index(was)
    to, of = _TEXT.fullmatch(now), _TEXT.fullmatch(was)
    # char(n) pads with blanks: what it becomes elsewhere, and what becomes it, is another text.
    if not to or not of or "character" in (to[1], of[1]):
        return False
    return to[2] is None or (of[2] is not None and int(to[2]) >= int(of[2]))
