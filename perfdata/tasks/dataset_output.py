"""What dataset.list and dataset.describe print: facts, descriptions and their JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from perfdata.tasks.output import human_size, print_facts, print_notes, print_table, shown_path
from perfdata.tasks.snapshot_output import parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.dataset import Dataset
    from perfdata.snapshot.checks.state import SnapshotState
    from perfdata.snapshot.description.columns import ColumnDescription
    from perfdata.snapshot.description.description import DatasetDescription, TableDescription


def dataset_facts(dataset: Dataset) -> dict[str, object]:
    """Return the JSON of a dataset's definition."""
    return {
        "name": dataset.name,
        "description": dataset.description,
        "as_of": dataset.as_of,
        "seed": dataset.seed,
        "version": dataset.version,
        "parameters": dict(dataset.parameters),
    }


def state_facts(state: SnapshotState) -> dict[str, object]:
    """Return the JSON of the state of a dataset's snapshot."""
    from perfdata.snapshot.checks.state import State

    return {
        "snapshot": state.state is not State.NONE,
        "snapshot_state": state.state.name.lower(),
        "snapshot_reason": state.reason,
    }


def description_facts(description: DatasetDescription) -> dict[str, object]:
    """Return the JSON of dataset.describe."""
    return {
        **dataset_facts(description.dataset),
        "fingerprint": description.fingerprint,
        **state_facts(description.snapshot),
        "rows": description.rows,
        "snapshot_bytes": description.snapshot_bytes,
        "snapshot_bytes_measured": description.measured,
        "database_bytes_estimated": description.database_bytes,
        "tables": [
            {**asdict(table), "columns": list(map(_column_facts, table.columns))}
            for table in description.tables
        ],
    }


def _column_facts(column: ColumnDescription) -> dict[str, object]:
    return {
        "name": column.name,
        "nulls": column.nulls,
        "distinct": column.distinct.count,
        "distinct_error": column.distinct.error,
    }


def print_description(description: DatasetDescription) -> None:
    """Print a dataset's definition, the sizes of its rows, and a line for each column."""
    dataset, state = description.dataset, description.snapshot
    size = f"{human_size(description.snapshot_bytes)}, estimated: there is no current one"
    if description.measured and state.snapshot is not None:
        size = f"{human_size(description.snapshot_bytes)}, {shown_path(state.snapshot.path)}"
    print_facts(
        {
            "name": dataset.name,
            "description": dataset.description or "-",
            "parameters": parameters(dataset) or "-",
            "as of": dataset.as_of,
            "seed": dataset.seed,
            "version": dataset.version,
            "fingerprint": description.fingerprint,
            "rows": f"{description.rows:,}",
            "snapshot": size,
            "in the database": f"up to {human_size(description.database_bytes)}, estimated, with "
            "indexes and the log",
        }
    )
    print_notes([state.reason] if state.reason else [])
    print()
    lines = [line for table in description.tables for line in _lines(table)]
    print_table(
        ("table", "rows", "column", "distinct", "null"), lines, right=("rows", "distinct", "null")
    )


def _lines(table: TableDescription) -> Iterator[tuple[str, ...]]:
    name, rows = table.table, f"{table.rows:,}"
    for column in table.columns:
        yield name, rows, column.name, _distinct(column), _share(column.nulls, table.rows)
        name = rows = ""
    if name:
        yield name, rows, "-", "-", "-"


def _distinct(column: ColumnDescription) -> str:
    count, error = column.distinct.count, column.distinct.error
    return f"about {count:,} ± {error:.1%}" if error else f"{count:,}"


def _share(nulls: int, rows: int) -> str:
    """Return a share as percent; 0 % and 100 % are exact."""
    share = nulls / rows if rows else 0.0
    if 0 < share < 0.001:  # noqa: PLR2004  what would be shown as none
        return "< 0.1 %"
    shown = f"{share:.1%}".replace("%", " %").replace(".0 ", " ")
    return "> 99.9 %" if shown == "100 %" and nulls < rows else shown
