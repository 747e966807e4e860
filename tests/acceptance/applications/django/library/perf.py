"""The dataset for perf tests."""

import sys
from collections.abc import Iterator
from datetime import date

from perfdata import Dataset, Migrations, Project, TableRows


def generate(dataset: Dataset) -> Iterator[TableRows]:
    """Yield authors with ten books each."""
    authors = dataset.parameters["authors"]
    yield TableRows(
        "library_author",
        ("id", "name"),
        (f"{n}\tAuthor {n}\n".encode() for n in range(1, authors + 1)),
    )
    yield TableRows(
        "library_book",
        ("id", "author_id", "title", "year"),
        (
            f"{n}\t{(n - 1) // 10 + 1}\tBook {n}\t{1900 + n % 125}\n".encode()
            for n in range(1, authors * 10 + 1)
        ),
    )


project = Project(
    name="library",
    migrations=Migrations(
        command=[sys.executable, "manage.py", "migrate"],
        files="library/migrations/*.py",
        applied="SELECT name FROM public.django_migrations WHERE app = 'library'",
    ),
    datasets=(
        Dataset(
            name="500_authors",
            generate=generate,
            parameters={"authors": 500},
            as_of=date(2026, 1, 1),
        ),
    ),
)
