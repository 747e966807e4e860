"""The dataset for perf tests."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from perfdata import Dataset, Project, TableRows

FIRST = 1_000_000  # above the keys of real accounts


def generate(dataset: Dataset) -> Iterator[TableRows]:
    """Yield accounts with five invoices each."""
    accounts = range(FIRST, FIRST + dataset.parameters["accounts"])
    yield TableRows(
        "accounts",
        ("id", "owner", "is_test_data"),
        (f"{n}\towner {n}\tt\n".encode() for n in accounts),
    )
    yield TableRows(
        "invoices",
        ("id", "account_id", "amount", "is_test_data"),
        (f"{n * 5 + k}\t{n}\t{n % 100 + k}\tt\n".encode() for n in accounts for k in range(5)),
    )


project = Project(
    name="billing",
    migrations=Path("alembic.ini"),
    metadata="billing.models:Base.metadata",
    tables_from_metadata=True,
    datasets=(
        Dataset(
            name="1000_accounts",
            generate=generate,
            parameters={"accounts": 1000},
            as_of=date(2026, 1, 1),
        ),
    ),
)
