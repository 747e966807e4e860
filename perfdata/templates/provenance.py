"""The provenance of an owned database's rows: read from its mark, and recorded in it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from psycopg import sql

from perfdata.errors import ServerRefusedError
from perfdata.load.provenance import MIGRATIONS_KEPT, UPCOMING, Provenance, latest
from perfdata.postgres.connection import open_link
from perfdata.postgres.reflection import VERSION_TABLE
from perfdata.postgres.sessions import remaining_sessions
from perfdata.templates.databases import write_mark
from perfdata.templates.marks import Kind, Mark, read_mark, user_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from perfdata.postgres.link import Link

# Only who may act as the owner may comment on a database.
_CURRENT = """
SELECT d.oid::bigint, d.datname, pg_catalog.shobj_description(d.oid, 'pg_database'),
  pg_catalog.pg_has_role(d.datdba, 'USAGE'),
  pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()"""


_TABLES = """
SELECT n.nspname, c.relname, EXISTS (SELECT FROM pg_attribute a
  WHERE a.attrelid = c.oid AND a.attname = %s AND a.atttypid = 'bool'::regtype)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
  AND n.nspname <> 'information_schema' AND c.relname <> %s ORDER BY 1, 2"""


class OwnedDatabase(NamedTuple):
    """A database that perfdata owns.

    ``text`` is its comment above the mark, ``recordable`` whether this role may write the mark, and
    ``upcoming`` the number one above the last transaction that has ended.
    """

    name: str
    text: str
    mark: Mark
    recordable: bool
    upcoming: int

    @property
    def provenance(self) -> Provenance:
        """Which rows are perfdata's own; none if this role can't record what it loads."""
        if not self.recordable:
            return Provenance()
        mark = self.mark
        return Provenance(mark.loads, mark.migrations, mark.filled).current(self.upcoming)


def find_owned(link: Link) -> OwnedDatabase | None:
    """Return the database of a link if perfdata owns it."""
    ((oid, name, comment, recordable, upcoming),) = link.rows(_CURRENT)
    mark = read_mark(comment, oid, link.server_identifier)
    if mark is None or mark.kind is not Kind.MADE or not mark.fits(name):
        return None
    return OwnedDatabase(name, user_text(comment), mark, recordable, upcoming)


def record_load(
    link: Link, loads: Sequence[Sequence[int]], filled: Collection[str], *, added: bool = False
) -> None:
    """Record what was loaded into the database of a link, if perfdata owns it.

    ``filled`` are the keys of tables without the flag. With ``added``, those that were filled
    before are still so.
    """
    if (own := find_owned(link)) is None or not own.recordable:
        return
    before = own.provenance
    mark = replace(
        own.mark,
        loads=latest([*before.loads, *loads]),
        migrations=before.migrations,
        filled=sorted({*filled, *(before.filled if added else ())}),
    )
    write_mark(link, own.name, own.text, mark)


def rows_of_others(link: Link, mark: Mark) -> list[str]:
    """Return the tables of a parked database with rows that would be lost with it.

    These are rows without the flag that neither a load nor a migration wrote. ``mark`` is the
    database's.
    """
    provenance = Provenance(mark.loads, mark.migrations).current(link.value(UPCOMING))
    others = sql.SQL("NOT {}").format(provenance.written())
    found = _unflagged(link, mark.flag, others, VERSION_TABLE)
    large_objects = "SELECT EXISTS (SELECT FROM pg_largeobject_metadata)"
    return [*found, *(["large objects"] if link.value(large_objects) else [])]


def _unflagged(link: Link, flag: str, condition: sql.Composable, left_out: str = "") -> list[str]:
    """Return the tables that have rows without the flag which satisfy a condition."""
    tables = link.rows(_TABLES, (flag, left_out))
    flagged = sql.SQL("{} IS TRUE").format(sql.Identifier(flag))
    query = sql.SQL("SELECT EXISTS (SELECT FROM ONLY {} WHERE {} AND NOT ({}))")
    answers = link.together(
        query.format(
            sql.Identifier(schema, name), condition, flagged if has_flag else sql.SQL("false")
        )
        for schema, name, has_flag in tables
    )
    return [
        f"{schema}.{name}"
        for (schema, name, _), ((exists,),) in zip(tables, answers, strict=True)
        if exists
    ]


@contextmanager
def recorded_migration(conninfo: str, flag: str) -> Iterator[None]:
    """Run a migration, and record that the rows which it writes are perfdata's own.

    What it wrote before it failed is recorded too. Nothing is recorded if perfdata does not own the
    database, if others are connected to it, or if it has others' rows without the flag: a migration
    that updates them, or copies them to another table, would make them perfdata's.
    """
    first = _undisturbed(conninfo)
    if first is not None and _may_have_others(conninfo, flag):
        first = None
    try:
        yield
    finally:
        last = _undisturbed(conninfo)
        if first is not None and last is not None and last - first > 1:
            _record_migration(conninfo, flag, (first + 1, last - 1))


def _may_have_others(conninfo: str, flag: str) -> bool:
    """Tell whether an owned database has rows of others, or tables that can't be read."""
    with open_link(conninfo) as link:
        own = find_owned(link)
        try:
            return own is None or bool(rows_of_others(link, replace(own.mark, flag=flag)))
        except ServerRefusedError:
            return True


def _record_migration(conninfo: str, flag: str, span: tuple[int, int]) -> None:
    """Record the transactions of a migration that wrote rows, its own revision included."""
    with open_link(conninfo) as link:
        own = find_owned(link)
        if own and _unflagged(link, flag, Provenance(migrations=[span]).written()):
            spans = latest([*own.provenance.migrations, span], MIGRATIONS_KEPT)
            write_mark(link, own.name, own.text, replace(own.mark, migrations=spans))


def _undisturbed(conninfo: str) -> int | None:
    """Return a new transaction's number in an owned database that nobody else is connected to.

    Otherwise None. Transactions that began before have lower numbers, prepared ones included.
    """
    with open_link(conninfo) as link:
        own = find_owned(link)
        if own is None or not own.recordable or remaining_sessions(link, own.mark.oid):
            return None
        return int(link.value("SELECT pg_catalog.pg_current_xact_id()::text::bigint"))
