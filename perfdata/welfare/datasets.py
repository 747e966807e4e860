"""The datasets of the welfare project, by number of offices."""

from __future__ import annotations

from datetime import date

from perfdata.dataset import Dataset
from perfdata.welfare.pools import pools_digest
from perfdata.welfare.tables import generate

AS_OF = date(2026, 4, 1)
"""The reference date of every dataset: the first day of a fiscal year."""

SEED = 1

# The modules that decide the rows: any change in them changes every fingerprint.
_SOURCES = tuple(
    f"perfdata.welfare.{module}"
    for module in ("copytext", "draw", "pools", "rows", "staff_rows", "tables")
)


def _dataset(offices: int, staff: int = 10, recipients: int = 100, cycles: int = 1) -> Dataset:
    return Dataset(
        name=f"{offices}_offices",
        generate=generate,
        as_of=AS_OF,
        parameters={
            "offices": offices,
            "staff_per_office": staff,
            "recipients_per_office": recipients,
            "cycles_per_recipient": cycles,
        },
        seed=SEED,
        description=f"{offices:,} offices with {staff} staff and {recipients} recipients each",
        sources=_SOURCES,
        pools=pools_digest,
    )


DATASETS = (
    _dataset(10, staff=5, recipients=10),
    _dataset(100),
    _dataset(500, recipients=10),
    _dataset(1000),
    _dataset(5000),
    _dataset(10_000),
)
