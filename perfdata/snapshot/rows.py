"""A snapshot's rows for the loader: JSON lines as COPY's CSV, and what they would overwrite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import RefusedError, SnapshotDamagedError
from perfdata.load.plan import TableLoad
from perfdata.postgres.copy import JSON_CSV, csv_blocks
from perfdata.snapshot.losses import lost_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from perfdata.load.plan import Plan
    from perfdata.postgres.catalog import Catalog
    from perfdata.postgres.link import Link
    from perfdata.postgres.statistics import Statistics
    from perfdata.snapshot.format.reader import SnapshotFile, TableBody


@dataclass(frozen=True)
class SnapshotRows:
    """The rows of a snapshot file, as a RowSource."""

    file: SnapshotFile

    @property
    def statistics(self) -> Statistics | None:
        """The planner's statistics, where the file has them; known when it was read."""
        return self.file.statistics

    def check(self, link: Link, plan: Plan) -> None:
        """Raise RefusedError where a whole table has a row that the snapshot does not have."""
        manifest = self.file.manifest
        tables = [plan.catalog.table(key) for key in manifest.whole_tables]
        if lost := lost_rows(link, tables, self.file):
            raise RefusedError(
                f"refused, nothing was touched: snapshot {manifest.name} has these tables whole, "
                "and rows of theirs that differ from the snapshot's, or are not in it, would be "
                f"lost: {'; '.join(lost)}. Remove them or undo what was changed, create the "
                "snapshot again with them, or take the tables out of [tool.perfdata] whole_tables "
                "and create it again"
            )

    def tables(self, catalog: Catalog, keys: Collection[str] | None = None) -> Iterator[TableLoad]:
        """Yield the tables in the order of the file; those without a key in ``keys`` are skipped.

        Raises SnapshotDamagedError.
        """
        for body in self.file.tables():
            if keys is None or body.key in keys:
                yield TableLoad(catalog.table(body.key), body.columns, _csv(body), JSON_CSV)
            else:
                # Neither checked nor turned into CSV, which is most of what reading takes.
                body.skip()


def _csv(body: TableBody) -> Iterator[bytes]:
    for block in body.blocks:
        try:
            yield from csv_blocks(block)
        except UnicodeDecodeError as error:
            raise SnapshotDamagedError(f"table {body.key}: {error}") from error
        del block  # a row may be of any size: it is not held while the next is read
