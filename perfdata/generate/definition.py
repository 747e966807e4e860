"""Tables as datasets define them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.generate.children import Children, Per
from perfdata.generate.computed import as_column, check_columns
from perfdata.generate.tables import GeneratedRows, GeneratedTable

if TYPE_CHECKING:
    from perfdata.dataset import Dataset


def table(
    dataset: Dataset, name: str, rows: int | Per, stream: str | None = None, /, **columns: object
) -> GeneratedTable:
    """Define a table's rows: what ``Dataset.generate`` yields, or returns in a list.

    Args:
        dataset: the dataset that is generated: its seed and ``as_of`` decide the values.
        name: the table; ``schema.table`` outside schema ``public``.
        rows: how many rows, or how many for each row of another table (see ``per``).
        stream: the name that values are drawn with, for a second set of rows of a table. Default:
            the table's name.
        columns: a column of this package; a function, whose parameters name the columns that it is
            computed from, or ``row``; or a value, which is the same in every row. Columns whose
            name begins with ``_`` are not loaded: others are computed from them.

    Raises ConfigError for columns that cannot have so many rows, before any row is generated.
    """
    generated = GeneratedRows(dataset, name, stream or name)
    if isinstance(rows, Per):
        generated.children = Children(generated, rows)
        generated.count = generated.children.total
    else:
        generated.count = rows
    if generated.count < 0:
        raise generated.error(f"it has {rows} rows", "Use 0 or more")
    for column_name, given in columns.items():
        generated.columns[column_name] = generated.bind(as_column(given), column_name)
    check_columns(generated)
    if not generated.loaded:
        raise generated.error("no column is loaded", "Give it columns, such as id=serial()")
    return GeneratedTable(name, generated.loaded, generated)
