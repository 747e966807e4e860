"""The dataset for perf tests."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from perfdata import Dataset, Project, TableRows


def generate(dataset: Dataset) -> Iterator[TableRows]:
    """Yield 20 notes for each owner, and two tags for each note."""
    notes = range(1, dataset.parameters["notes"] + 1)
    yield TableRows(
        "notes",
        ("id", "owner", "text", "is_test_data"),
        (f"{n}\towner{n // 20}\tnote {n}\tt\n".encode() for n in notes),
    )
    yield TableRows(
        "tags",
        ("note_id", "name", "is_test_data"),
        (f"{n}\tfirst\tt\n{n}\tsecond\tt\n".encode() for n in notes),
    )


project = Project(
    name="office",
    migrations=Path("alembic.ini"),
    datasets=(
        Dataset(
            name="5000_notes",
            generate=generate,
            parameters={"notes": 5000},
            as_of=date(2026, 1, 1),
        ),
    ),
)
