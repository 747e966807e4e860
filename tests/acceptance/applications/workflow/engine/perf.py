"""The dataset for perf tests."""

import uuid
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path

from perfdata import Dataset, Project, TableRows

STATES = ("done", "done", "done", "failed")


def generate(dataset: Dataset) -> Iterator[TableRows]:
    """Yield flows with 50 runs each."""
    count = dataset.parameters["flows"]
    today = datetime.combine(dataset.as_of, time())
    yield TableRows(
        "flows",
        ("id", "name", "is_test_data"),
        (f"{uuid.UUID(int=n)}\tflow {n:04}\tt\n".encode() for n in range(count)),
    )
    yield TableRows(
        "runs",
        ("id", "flow_id", "state", "started_at", "is_test_data"),
        (
            f"{uuid.UUID(int=n)}\t{uuid.UUID(int=n % count)}\t{STATES[n * 7 // count % 4]}"
            f"\t{today - timedelta(minutes=n)}+00\tt\n".encode()
            for n in range(count * 50)
        ),
    )


project = Project(
    name="engine",
    migrations=Path("alembic.ini"),
    datasets=(
        Dataset(
            name="200_flows",
            generate=generate,
            parameters={"flows": 200},
            as_of=date(2026, 1, 1),
        ),
    ),
)
