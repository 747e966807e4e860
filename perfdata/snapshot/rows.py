"""A snapshot's rows as the loader takes them: JSON lines turned into CSV for COPY."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import RefusedError, SnapshotDamagedError
from perfdata.load.plan import Existing, TableLoad
from perfdata.postgres.copy import JSON_CSV, csv_blocks
from perfdata.snapshot.checks.losses import rows_missing_from_file
from perfdata.snapshot.ownership import refuse_others

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
        """The planner's statistics, None if the file has none; known once the file is read."""
        return self.file.statistics

    def check(self, link: Link, plan: Plan) -> None:
        """Raise RefusedError if a whole table holds a row that would be lost."""
        if plan.existing is Existing.NONE:  # no table holds a row
            return
        manifest = self.file.manifest
        lost = rows_missing_from_file(link, plan.whole_tables, self.file, plan.selection)
        if plan.selection.provenance is not None:
            refuse_others(lost, plan.selection)
        if lost:
            raise RefusedError(
                f"refused, nothing was touched: snapshot {manifest.name} has these tables whole, "
                "and rows that differ from the snapshot's, or are not in it, would be lost: "
                f"{'; '.join(lost)}",
                remedy="Remove them or undo their changes, or create the snapshot again, with "
                "them or with the tables removed from [tool.perfdata] whole_tables",
            )

    def tables(self, catalog: Catalog, keys: Collection[str] | None = None) -> Iterator[TableLoad]:
        """Yield the tables in the order of the file, or those whose keys are given.

        Raises SnapshotDamagedError, also for a table that the manifest has no rows of: a template
        is loaded from a file of which only the checksum was compared before.
        """
        for body in self.file.tables():
            if body.key not in self.file.manifest.stats:
                raise SnapshotDamagedError(
                    f"{self.file.path.name} is damaged: its manifest counts no rows of {body.key}",
                    remedy="Build or create it again",
                )
            if keys is None or body.key in keys:
                yield TableLoad(catalog.table(body.key), body.columns, _csv(body), JSON_CSV)
            else:
                body.skip()  # checks and CSV would take most of the time of reading


def _csv(body: TableBody) -> Iterator[bytes]:
    for block in body.blocks:
        try:
            yield from csv_blocks(block)
        except UnicodeDecodeError as error:
            raise SnapshotDamagedError(
                f"table {body.key} is damaged: invalid text ({error})",
                remedy="Build or create the snapshot again",
            ) from error
        del block  # a row may be of any size: free it before the next is read
