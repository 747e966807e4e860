"""Logical replication: subscribers receive the rows that a load removes and loads."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from perfdata.errors import RefusedError
from perfdata.postgres.catalog import table_key
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from perfdata.load.removals import Removal
    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import AnyQuery, Rows

# A publication names a partitioned table or its partitions. Deletes are published by the replica
# identity of each partition.
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


class _PublishedTable(NamedTuple):
    root: int
    publication: str
    schema: str
    name: str
    lacks_identity: bool
    slots: Sequence[str]


class Publications:
    """The publications of a load's tables; ``rows`` are those of publications_query."""

    def __init__(self, rows: Rows) -> None:
        self.published = [_PublishedTable(*row) for row in rows]

    @property
    def tables(self) -> set[int]:
        """The oids of the published tables."""
        return {table.root for table in self.published}

    def check_identities(self, removals: Iterable[Removal]) -> None:
        """Raise RefusedError if rows would be deleted that subscribers can't identify."""
        deleted = {
            removal.table.oid for removal in removals if removal.going and not removal.truncate
        }
        lacking = {
            table_key(table.schema, table.name): table.publication
            for table in self.published
            if table.lacks_identity and table.root in deleted
        }
        if lacking:
            names = [f"{key} (publication {name})" for key, name in lacking.items()]
            raise RefusedError(
                "refused, nothing was touched: these tables publish deletes but have no replica "
                f"identity, so PostgreSQL lets no row be deleted: {join_first(names)}",
                remedy="Give each of them one: ALTER TABLE … REPLICA IDENTITY USING INDEX …, "
                "or FULL",
            )

    def notes(self, removals: Iterable[Removal]) -> Iterator[str]:
        """Name the publications that send the changes to subscribers, and replication slots."""
        keys = {removal.table.oid: removal.table.key for removal in removals}
        by_publication: dict[str, list[str]] = {}
        for table in self.published:
            by_publication.setdefault(table.publication, []).append(keys[table.root])
        for publication, tables in by_publication.items():
            slots = join_first(self.published[0].slots) or "none"
            yield (
                f"publication {publication} sends the removed and the loaded rows of "
                f"{join_first(list(dict.fromkeys(tables)))} to its subscribers (logical "
                f"replication slots: {slots})"
            )


def publications_query(tables: Collection[Table]) -> AnyQuery:
    """Make the query for the publications of tables and their partitions."""
    return _PUBLISHED, ([table.oid for table in tables],)
