"""The datasets of the welfare project, by number of offices."""

from __future__ import annotations

from datetime import date

from perfdata.dataset import Dataset
from perfdata.welfare.rows import generate

AS_OF = date(2026, 4, 1)
"""The reference date of every dataset: the first day of a fiscal year."""

SEED = 1

# The modules that decide the rows: any change in them changes every fingerprint.
_SOURCES = ("perfdata.welfare.rows", "perfdata.welfare.staffs")


def _dataset(
    offices: int,
    staff: int = 10,
    recipients: int = 100,
    variant: str = "",
    description: str = "",
    **parameters: int,
) -> Dataset:
    """Return a dataset, or a variant of it with other parameters."""
    described = f"{offices:,} offices with {staff} staff and {recipients} recipients each"
    return Dataset(
        name=f"{offices}_offices{variant}",
        generate=generate,
        as_of=AS_OF,
        parameters={
            "offices": offices,
            "staff_per_office": staff,
            "recipients_per_office": recipients,
            "cycles_per_recipient": 1,
            **parameters,
        },
        seed=SEED,
        description=description or described,
        sources=_SOURCES,
    )


DATASETS = (
    _dataset(10, staff=5, recipients=10),
    _dataset(100),
    _dataset(
        100,
        variant="_history",
        description="100 offices whose recipients have 2 to 6 cycles, one of them the latest",
        cycles_per_recipient=2,
        most_cycles_per_recipient=6,
    ),
    _dataset(
        100,
        variant="_skewed",
        description="as many rows as 100_offices, a tenth of them in the largest office",
        zipf_tenths=7,
    ),
    _dataset(500, recipients=10),
    _dataset(1000),
    _dataset(5000),
    _dataset(10_000),
)
