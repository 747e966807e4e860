"""Sequences: their states, and next values that are unused after a load."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from psycopg import sql

from perfdata.errors import SchemaError
from perfdata.postgres.catalog import table_key
from perfdata.postgres.link import Check

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from perfdata.postgres.catalog import Catalog, ColumnSequence, Table
    from perfdata.postgres.link import Link, Rows

_NUMBERS = {"smallint", "integer", "bigint", "numeric"}

_ALL = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname <> 'public', n.nspname, c.relname"""


class SequenceState(NamedTuple):
    """The state of a sequence, as in PostgreSQL."""

    last_value: int
    is_called: bool


class _Current(NamedTuple):
    """The present state of a sequence, and the furthest value in the columns that it feeds.

    Values outside the sequence's bounds are not considered.
    """

    last_value: int
    is_called: bool
    increment: int
    minimum: int
    maximum: int
    cycle: bool
    start: int
    furthest: int | None

    def upcoming(self, state: SequenceState) -> int:
        """Return the next value in a state; it is out of bounds if the sequence is used up."""
        return state.last_value + self.increment if state.is_called else state.last_value

    def restart_at(self, saved: SequenceState | None, *, anew: bool) -> int | None:
        """Return the next value to set, None if it is right; ``anew`` ignores the present state."""
        current = self.upcoming(SequenceState(self.last_value, self.is_called))
        further = max if self.increment > 0 else min
        wanted = self.start if anew else current
        if saved is not None:
            wanted = self.upcoming(saved) if anew else further(wanted, self.upcoming(saved))
        if self.furthest is not None:
            wanted = further(wanted, self.furthest + self.increment)
        return wanted if wanted != current else None


def read_sequences(link: Link) -> dict[str, SequenceState]:
    """Read the state of every sequence, by key, except those of extensions."""
    names = {table_key(*row): sql.Identifier(*row) for row in link.rows(_ALL)}
    if not names:
        return {}
    query = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}::text, last_value, is_called FROM {}").format(sql.Literal(key), name)
        for key, name in names.items()
    )
    return {key: SequenceState(*state) for key, *state in link.rows(query)}


def sequences_check(wanted: Collection[str]) -> Check:
    """Check that a snapshot's sequences exist; SchemaError names the missing ones."""

    def judge(answers: Sequence[Rows]) -> None:
        present = {table_key(*row) for rows in answers for row in rows}
        if missing := [key for key in wanted if key not in present]:
            raise SchemaError(
                f"the snapshot's sequences {', '.join(missing)} are not in the database",
                remedy="Nothing was touched. Migrate the database to the snapshot's revision, "
                "or create the snapshot again",
            )

    return Check([_ALL] if wanted else [], judge)


def advance_sequences(
    link: Link,
    catalog: Catalog,
    tables: Iterable[Table],
    saved: Mapping[str, SequenceState] | None = None,
    *,
    anew: bool = False,
) -> None:
    """Advance sequences past the values in the columns that they feed.

    The sequences are the ones that feed one of the tables, and the ones in ``saved``. No sequence
    is moved backwards, except that with ``anew`` a sequence that feeds no other table starts from
    its state in ``saved``, or from its START value, so that all new databases are equal.
    """
    saved = saved or {}
    names = {}
    if saved:
        names = {table_key(*row): sql.Identifier(*row) for row in link.rows(_ALL)}
    feeding: dict[str, list[ColumnSequence]] = {key: [] for key in saved}
    for sequence in catalog.sequences:
        key = table_key(sequence.schema, sequence.name)
        feeding.setdefault(key, []).append(sequence)
        names[key] = sequence.identifier
    oids = {table.oid for table in tables}
    feeding = {
        key: fed
        for key, fed in feeding.items()
        if key in saved or any(column.table in oids for column in fed)
    }
    if not feeding:
        return
    queries = [
        _current_query(catalog, number, names[key], fed)
        for number, (key, fed) in enumerate(feeding.items())
    ]
    found = sorted(link.rows(sql.SQL(" UNION ALL ").join(queries)))
    for key, (_, *fields) in zip(feeding, found, strict=True):
        current = _Current(*fields)
        alone = anew and all(column.table in oids for column in feeding[key])
        value = current.restart_at(saved.get(key), anew=alone)
        if value is not None:
            _restart(link, names[key], current, value)


def _current_query(
    catalog: Catalog, number: int, name: sql.Identifier, feeding: Collection[ColumnSequence]
) -> sql.Composed:
    up = all(column.increment > 0 for column in feeding)
    furthest, rounded = ("max", "floor(greatest({}))") if up else ("min", "ceil(least({}))")
    # One subquery per column, with bounds on the column itself, so that an index can answer it.
    values = [
        sql.SQL("(SELECT {}({})::numeric FROM {} WHERE {} BETWEEN s.seqmin AND s.seqmax)").format(
            sql.SQL(furthest),
            sql.Identifier(column.column),
            catalog.by_oid[column.table].only,
            sql.Identifier(column.column),
        )
        for column in feeding
        # Defaults of other types are made from the number by an expression.
        if catalog.by_oid[column.table].column(column.column).base in _NUMBERS
    ]
    value = sql.SQL(rounded).format(sql.SQL(", ").join(values)) if values else sql.NULL
    return sql.SQL(
        "SELECT {}, q.last_value, q.is_called, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle, "
        "s.seqstart, {}::bigint FROM {} q "
        "JOIN pg_catalog.pg_sequence s ON s.seqrelid = q.tableoid"
    ).format(sql.Literal(number), value, name)


def _restart(link: Link, name: sql.Identifier, current: _Current, value: int) -> None:
    within = max(current.minimum, min(current.maximum, value))
    if within != value and current.cycle:
        return  # it cycles: none of its values is sure to be unused
    # Unlike setval, ALTER SEQUENCE is rolled back with the transaction: it makes a new file, which
    # also holds the effect of the nextval that uses up the last value.
    with link.own_path():
        link.later(sql.SQL("ALTER SEQUENCE {} RESTART WITH {}").format(name, sql.Literal(within)))
    if within != value:
        link.later(
            sql.SQL("SELECT nextval({}::regclass)").format(sql.Literal(name.as_string(None)))
        )
