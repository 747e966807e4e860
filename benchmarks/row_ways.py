"""The ways to give rows, side by side: rows a second into one table of 10 columns.

    python benchmarks/row_ways.py [--rows 1000000] [--rounds 3]

Every round runs all ways in turn on the same server, each into the emptied table; a ratio compares
with COPY text that lies ready. Needs the extra ``arrow``. CSV is pyarrow's, sent by psycopg alone.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pyarrow as pa
import sqlalchemy as sa
from pyarrow import csv
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from perfdata import Settings, TableRows, append_rows, open_target
from perfdata.server.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent


class Base(DeclarativeBase):
    """The base of the model."""


class Order(Base):
    """A table of 10 columns, as orders have them."""

    __tablename__ = "ways"
    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    customer_id: Mapped[int]
    code: Mapped[uuid.UUID]
    name: Mapped[str]
    note: Mapped[str | None]
    paid: Mapped[bool]
    total: Mapped[Decimal]
    weight: Mapped[float]
    day: Mapped[date]
    at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))


COLUMNS = tuple(Order.__table__.columns.keys())


def tuples(count: int) -> Iterator[tuple[Any, ...]]:
    """Make rows; what that costs is measured for the ways that take Python values."""
    day, at = date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)
    for n in range(count):
        yield (
            n, n % 9973, uuid.UUID(int=n), f"customer {n % 9973}", None if n % 3 else "a note",
            n % 2 == 0, Decimal(n % 100_000).scaleb(-2), n / 7, day + timedelta(n % 365),
            at + timedelta(seconds=n),
        )  # fmt: skip


def main() -> None:
    """Measure every way and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        settings = Settings.load(ROOT, {"PERFDATA_HOME": home})
        server = EmbeddedServer(settings)
        try:
            measure(open_target(settings).conninfo, options.rows, options.rounds)
        finally:
            server.stop()


def measure(conninfo: str, count: int, rounds: int) -> None:
    """Load the rows in every way, some rounds in turn."""
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo))
    Base.metadata.create_all(engine)
    columns = dict(zip(COLUMNS, zip(*tuples(count), strict=True), strict=True))
    columns["code"] = tuple(code.bytes for code in columns["code"])
    frame = pa.table({name: pa.array(values) for name, values in columns.items()})
    written = io.BytesIO()
    csv.write_csv(frame.drop_columns(["code"]), written, csv.WriteOptions(include_header=False))
    text = list(copy_out(conninfo, count))

    def rows(**given: Any) -> None:
        append_rows(conninfo, [TableRows("ways", COLUMNS, **given)])

    def without_code() -> None:
        names = ", ".join(name for name in COLUMNS if name != "code")
        with psycopg.connect(conninfo) as connection:
            connection.execute("ALTER TABLE ways ALTER code SET DEFAULT gen_random_uuid()")
            statement = f"COPY ways ({names}) FROM STDIN (FORMAT csv)"
            with connection.cursor().copy(statement) as copy:
                copy.write(written.getbuffer())

    def dicts() -> Iterator[dict[str, Any]]:
        return (dict(zip(COLUMNS, row, strict=True)) for row in tuples(count))

    def instances() -> None:
        append_rows(conninfo, [TableRows(Order, rows=(Order(**row) for row in dicts()))])

    ways: dict[str, Callable[[], None]] = {
        "COPY text, ready": lambda: rows(blocks=text),
        "CSV, ready": without_code,
        "Arrow": lambda: rows(arrow=frame),
        "tuples": lambda: rows(rows=tuples(count)),
        "dicts": lambda: rows(rows=dicts()),
        "instances": instances,
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, load in ways.items():
            with psycopg.connect(conninfo) as connection:
                connection.execute("TRUNCATE ways")
            began = time.perf_counter()
            load()
            seconds[way].append(time.perf_counter() - began)
    base = seconds["COPY text, ready"]
    print(f"{count:,} rows of {len(COLUMNS)} columns, median of {rounds} rounds")
    for way, took in seconds.items():
        ratio = statistics.median(one / other for one, other in zip(took, base, strict=True))
        median = statistics.median(took)
        print(f"{way:18} {median:7.2f} s {count / median:12,.0f} rows/s {ratio:6.2f}")
    engine.dispose()


def copy_out(conninfo: str, count: int) -> Iterator[bytes]:
    """Yield the rows as COPY text, in blocks of about 250 kB."""
    append_rows(conninfo, [TableRows("ways", COLUMNS, rows=tuples(count))])
    lines: list[bytes] = []
    size = 0
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        with connection.cursor().copy(f"COPY ways ({', '.join(COLUMNS)}) TO STDOUT") as copy:
            for line in copy:
                lines.append(bytes(line))
                size += len(lines[-1])
                if size > 1 << 18:
                    yield b"".join(lines)
                    lines, size = [], 0
    yield b"".join(lines)


if __name__ == "__main__":
    main()
