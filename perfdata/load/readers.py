"""Others that read the tables of a load: subscribers, pg_dump, transactions with old snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from perfdata.errors import RefusedError
from perfdata.postgres.catalog import table_key
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from perfdata.load.existing import Removal
    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import AnyQuery, Deferred, Link, Rows

# Publications name a partitioned table or its partitions; deletes are published by each partition's
# own replica identity.
_PUBLISHED = """
WITH RECURSIVE part (root, oid) AS (
  SELECT o, o FROM unnest(%s::oid[]) o
  UNION ALL SELECT p.root, i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition)
SELECT DISTINCT part.root::bigint, p.pubname, n.nspname, c.relname,
  p.pubdelete AND c.relkind = 'r' AND NOT (c.relreplident = 'f' OR EXISTS (
    SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid
      AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END)),
  ARRAY(SELECT s.slot_name::text FROM pg_replication_slots s
        WHERE s.slot_type = 'logical' AND s.database = current_database() ORDER BY 1)
FROM part JOIN pg_class c ON c.oid = part.oid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN (SELECT p.*, t.relid FROM pg_publication p, pg_get_publication_tables(p.pubname) t) p
  ON p.relid IN (part.root, part.oid)
ORDER BY 1, 2, 3, 4"""

_DUMPS = """
SELECT format('pid %s (user %s)', pid, usename) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'pg_dump'"""

# Who may still see rows that transaction xid deleted; walsenders stand for a standby's readers.
_HOLDERS = """
WITH deleted (age) AS (SELECT age(%(xid)s::text::xid))
SELECT format('pid %%s (%%s, user %%s, %%s since %%s)', a.pid,
  coalesce(nullif(a.application_name, ''), 'no application name'), a.usename,
  coalesce(a.state, a.backend_type), to_char(a.xact_start, 'HH24:MI:SS TZ'))
FROM pg_stat_activity a, deleted WHERE a.pid <> pg_backend_pid()
  AND (a.datname = current_database() OR a.datname IS NULL) AND age(a.backend_xmin) >= deleted.age
UNION ALL SELECT format('prepared transaction %%s', p.gid) FROM pg_prepared_xacts p, deleted
WHERE p.database = current_database() AND age(p.transaction) >= deleted.age
UNION ALL SELECT format('replication slot %%s', s.slot_name) FROM pg_replication_slots s, deleted
WHERE age(s.xmin) >= deleted.age"""


class _Published(NamedTuple):
    root: int
    publication: str
    schema: str
    name: str
    unidentified: bool
    slots: Sequence[str]


@dataclass(frozen=True)
class Publications:
    """The publications that send what is written to the tables of a load to their subscribers."""

    found: Sequence[_Published]

    @classmethod
    def of(cls, rows: Rows) -> Publications:
        """Read the rows of publications_of."""
        return cls([_Published(*row) for row in rows])

    @property
    def tables(self) -> set[int]:
        """The tables, by oid."""
        return {one.root for one in self.found}

    def refuse_unidentified(self, before: Iterable[Removal]) -> None:
        """Raise RefusedError where rows would be deleted that no subscriber could find."""
        deleted = {one.table.oid for one in before if one.going and not one.truncate}
        lacking = {
            table_key(one.schema, one.name): one.publication
            for one in self.found
            if one.unidentified and one.root in deleted
        }
        if lacking:
            named = [f"{key} (publication {name})" for key, name in lacking.items()]
            raise RefusedError(
                "refused, nothing was touched: these tables publish deletes but have no replica "
                f"identity, so no row of theirs can be deleted: {first(named)}. Give each of them "
                "one: ALTER TABLE … REPLICA IDENTITY USING INDEX …, or FULL"
            )

    def notes(self, before: Iterable[Removal]) -> Iterator[str]:
        """Name the publications that send the changes on, and the replication slots."""
        keys = {one.table.oid: one.table.key for one in before}
        by_name: dict[str, list[str]] = {}
        for one in self.found:
            by_name.setdefault(one.publication, []).append(keys[one.root])
        for name, tables in by_name.items():
            slots = first(self.found[0].slots) or "none"
            yield (
                f"publication {name} sends the removed and the loaded rows of "
                f"{first(list(dict.fromkeys(tables)))} to its subscribers (logical replication "
                f"slots: {slots})"
            )


def publications_of(tables: Collection[Table]) -> AnyQuery:
    """Make the query for the publications of tables and their partitions."""
    return _PUBLISHED, ([table.oid for table in tables],)


def refuse_dumps(link: Link) -> None:
    """Raise RefusedError while pg_dump reads this database: it would miss rebuilt indexes."""
    _, rows = link.together(["SELECT pg_stat_clear_snapshot()", _DUMPS])
    if found := [row[0] for row in rows]:
        raise RefusedError(
            "refused, everything is as it was: --rebuild-indexes drops indexes, and a dump that "
            f"runs meanwhile would lack them: {first(found)}. Wait until the dump has ended, or "
            "leave out --rebuild-indexes"
        )


@dataclass(frozen=True)
class Deletion:
    """The rows that a transaction deleted, and its id, which is there after its next statement."""

    rows: int
    xid: Deferred

    def unreclaimed(self, link: Link) -> list[str]:
        """Say, after VACUUM, whose snapshot kept it from giving the rows' space to others."""
        holders = link.rows(_HOLDERS, {"xid": self.xid.rows[0][0]})
        if not holders:
            return []
        said = (
            f"the space of {self.rows:,} deleted rows can't be used again yet: VACUUM keeps what "
            f"these may still read: {first([row[0] for row in holders])}"
        )
        return [said]


def deletion_of(link: Link, before: Iterable[Removal]) -> Deletion | None:
    """Return what the open transaction deletes; None where it deletes nothing."""
    rows = sum(one.going for one in before if not one.truncate)
    return Deletion(rows, link.later("SELECT pg_current_xact_id()::text")) if rows else None
