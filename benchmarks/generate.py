"""The time that perfdata.generate takes for a value of each kind of column, on one core.

    python benchmarks/generate.py [--rows 200000]

Prints nanoseconds a value, as COPY text, in tables with ten columns of the kind: making lines of
them is included.
"""

from __future__ import annotations

import argparse
import platform
import time
from datetime import date
from typing import TYPE_CHECKING

from perfdata import Dataset
from perfdata import generate as g

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perfdata import TableRows

COLUMNS = 10


def nothing(_dataset: Dataset) -> Iterator[TableRows]:
    """Yield no table."""
    yield from ()


DATASET = Dataset(name="measured", generate=nothing, as_of=date(2026, 1, 1))
PARENTS = g.table(
    DATASET, "parents", 20_000, id=g.serial(), key=g.uuid(), joined=g.timestamp(-900, -1)
)

KINDS: dict[str, Callable[[], object]] = {
    "constant": lambda: "t",
    "serial()": g.serial,
    "uuid()": g.uuid,
    "integer(0, 999)": lambda: g.integer(0, 999),
    "integer(0, 10 ** 9, unique=True)": lambda: g.integer(0, 10**9, unique=True),
    "decimal('0.50', '99.99')": lambda: g.decimal("0.50", "99.99"),
    "boolean(0.1)": lambda: g.boolean(0.1),
    "choice of 3, weighted": lambda: g.choice({"new": 1, "paid": 2, "sent": 7}),
    "faker('last_name')": lambda: g.faker("last_name"),
    "text('customer{row}@shop.test')": lambda: g.text("customer{row}@shop.test"),
    "text('{_x} {_y}')": lambda: g.text("{_x} {_y}"),
    "date(-900, -1)": lambda: g.date(-900, -1),
    "timestamp(-900, -1)": lambda: g.timestamp(-900, -1),
    "date(1, 30, after='_day')": lambda: g.date(1, 30, after="_day"),
    "timestamp(1, 30, after='_day')": lambda: g.timestamp(1, 30, after="_day"),
    "timestamp(1, 30, after='_time')": lambda: g.timestamp(1, 30, after="_time"),
    "nullable(integer(0, 999), 0.2)": lambda: g.nullable(g.integer(0, 999), 0.2),
    "json of two choices": lambda: g.json({"a": g.boolean(), "b": g.choice([1, 2]), "c": "d"}),
    "a function of two columns": lambda: lambda _x, _y: _x + _y,
    "ref(parents)": lambda: g.ref(PARENTS),
    "ref(parents, 'key')": lambda: g.ref(PARENTS, "key"),
    "ref(parents, zipf=1.1)": lambda: g.ref(PARENTS, zipf=1.1),
    "ref(parents)['joined']": lambda: g.ref(PARENTS)["joined"],
    "ref(parents, distinct=True)": lambda: g.ref(PARENTS, distinct=True),
    "earlier()": g.earlier,
    "parent()": g.parent,
    "parent('key')": lambda: g.parent("key"),
    "parent('joined')": lambda: g.parent("joined"),
    "position()": g.position,
}


def measured_ns(kind: Callable[[], object], rows: int) -> float:
    """Return the nanoseconds of CPU time that a value takes."""
    columns = {f"column{number}": kind() for number in range(COLUMNS)}
    table = g.table(
        DATASET,
        "measured",
        g.per(PARENTS, rows // PARENTS.count),
        _id=g.serial(),
        _x=g.integer(0, 99),
        _y=g.integer(0, 99),
        _day=g.date(-900, -1),
        _time=g.timestamp(-900, -1),
        **columns,
    )
    next(iter(table.blocks))  # what is computed once
    began = time.process_time()
    for _ in table.blocks:
        pass
    return (time.process_time() - began) / table.count / COLUMNS * 1e9


def main() -> None:
    """Measure each kind three times and print the least."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    rows = max(parser.parse_args().rows, PARENTS.count)
    print(f"{platform.machine()}, Python {platform.python_version()}, {rows:,} rows")
    for label, kind in KINDS.items():
        least = min(measured_ns(kind, rows) for _ in range(3))
        print(f"{label:34} {least:6.0f} ns a value {1000 / least:6.1f} M a second")


if __name__ == "__main__":
    main()
