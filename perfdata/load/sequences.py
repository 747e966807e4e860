"""Sequences: where they stand, and that their next value is free after a load."""

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
    """Where a sequence stands, in PostgreSQL's own words."""

    last_value: int
    is_called: bool


class _Standing(NamedTuple):
    """A sequence as it is, and the furthest value within its bounds of what it feeds."""

    last_value: int
    is_called: bool
    increment: int
    minimum: int
    maximum: int
    cycle: bool
    start: int
    found: int | None

    def upcoming(self, state: SequenceState) -> int:
        """Return what comes next where it stands so; out of bounds where nothing does."""
        return state.last_value + self.increment if state.is_called else state.last_value

    def free(self, saved: SequenceState | None, *, anew: bool) -> int | None:
        """Return the next value to set, or None where the sequence stands right.

        ``anew``: where it stands now counts for nothing.
        """
        current = self.upcoming(SequenceState(self.last_value, self.is_called))
        further = max if self.increment > 0 else min
        wanted = self.start if anew else current
        if saved is not None:
            wanted = self.upcoming(saved) if anew else further(wanted, self.upcoming(saved))
        if self.found is not None:
            wanted = further(wanted, self.found + self.increment)
        return wanted if wanted != current else None


def read_sequences(link: Link) -> dict[str, SequenceState]:
    """Read where every sequence stands, owned or free; an extension's are its own."""
    names = {table_key(*row): sql.Identifier(*row) for row in link.rows(_ALL)}
    if not names:
        return {}
    query = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}::text, last_value, is_called FROM {}").format(sql.Literal(key), name)
        for key, name in names.items()
    )
    return {key: SequenceState(*state) for key, *state in link.rows(query)}


def sequences_check(wanted: Collection[str]) -> Check:
    """Check that a snapshot's sequences are there; SchemaError names those missing."""

    def judge(answers: Sequence[Rows]) -> None:
        present = {table_key(*row) for rows in answers for row in rows}
        if missing := [key for key in wanted if key not in present]:
            raise SchemaError(
                f"the snapshot's sequences {', '.join(missing)} are not in the database; nothing "
                "was touched. Migrate it to the same, or create the snapshot again"
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
    """Put sequences ahead of the values of the columns that they feed, and of where they stood.

    Those that feed one of the tables, and those of ``saved``; none is put back. With ``anew``,
    where no row of the tables stayed, those that feed no other table stand as in ``saved``, or at
    their start, wherever they stood: each new database has the same.
    """
    saved = saved or {}
    names = {}
    if saved:
        names = {table_key(*row): sql.Identifier(*row) for row in link.rows(_ALL)}
    feeding: dict[str, list[ColumnSequence]] = {key: [] for key in saved}
    for one in catalog.sequences:
        key = table_key(one.schema, one.name)
        feeding.setdefault(key, []).append(one)
        names[key] = one.identifier
    oids = {table.oid for table in tables}
    feeding = {
        key: fed
        for key, fed in feeding.items()
        if key in saved or any(one.table in oids for one in fed)
    }
    if not feeding:
        return
    looks = [_look(catalog, n, names[key], fed) for n, (key, fed) in enumerate(feeding.items())]
    found = sorted(link.rows(sql.SQL(" UNION ALL ").join(looks)))
    for key, (_, *fields) in zip(feeding, found, strict=True):
        standing = _Standing(*fields)
        alone = anew and all(one.table in oids for one in feeding[key])
        _restart(link, names[key], standing, standing.free(saved.get(key), anew=alone))


def _look(
    catalog: Catalog, number: int, name: sql.Identifier, feeding: Collection[ColumnSequence]
) -> sql.Composed:
    up = all(one.increment > 0 for one in feeding)
    furthest, rounded = ("max", "floor(greatest({}))") if up else ("min", "ceil(least({}))")
    # One query a column, its bounds on the column itself, so that an index answers it.
    values = [
        sql.SQL("(SELECT {}({})::numeric FROM {} WHERE {} BETWEEN s.seqmin AND s.seqmax)").format(
            sql.SQL(furthest),
            sql.Identifier(one.column),
            catalog.by_oid[one.table].only,
            sql.Identifier(one.column),
        )
        for one in feeding
        # Of other types the default makes something else of the number.
        if catalog.by_oid[one.table].column(one.column).base in _NUMBERS
    ]
    found = sql.SQL(rounded).format(sql.SQL(", ").join(values)) if values else sql.NULL
    return sql.SQL(
        "SELECT {}, q.last_value, q.is_called, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle, "
        "s.seqstart, {}::bigint FROM {} q "
        "JOIN pg_catalog.pg_sequence s ON s.seqrelid = q.tableoid"
    ).format(sql.Literal(number), found, name)


def _restart(link: Link, name: sql.Identifier, standing: _Standing, free: int | None) -> None:
    if free is None:
        return
    within = max(standing.minimum, min(standing.maximum, free))
    if within != free and standing.cycle:
        return  # it begins anew: no value of it is ever sure to be free
    # Unlike setval, ALTER SEQUENCE is undone by a rollback: it makes a new file, in which the
    # nextval that uses up the last value is undone too.
    with link.own_path():
        link.later(sql.SQL("ALTER SEQUENCE {} RESTART WITH {}").format(name, sql.Literal(within)))
    if within != free:
        link.later(
            sql.SQL("SELECT nextval({}::regclass)").format(sql.Literal(name.as_string(None)))
        )
