"""The rows of many offices as streams of COPY text, one a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.dataset import TableRows
from perfdata.welfare import rows, staff_rows
from perfdata.welfare.rows import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perfdata.dataset import Dataset

# About 250 KB a block: larger ones load no faster, and a few of them are all that is in memory.
_LINES_A_BLOCK = 1000


@dataclass(frozen=True)
class Size:
    """How many rows an office has."""

    staff: int
    recipients: int
    cycles: int


def generate(dataset: Dataset) -> Iterator[TableRows]:
    """Yield the rows of a dataset: what ``Dataset.generate`` is."""
    wanted = dataset.parameters
    size = Size(
        wanted["staff_per_office"], wanted["recipients_per_office"], wanted["cycles_per_recipient"]
    )
    return generate_offices(Origin(dataset.seed, dataset.as_of), size, range(wanted["offices"]))


def generate_offices(origin: Origin, size: Size, offices: range) -> Iterator[TableRows]:
    """Yield the rows of a range of offices, parents first; office 0 brings the administrator.

    The ranges 0 to 3 and 3 to 10 give together, table by table, the bytes of 0 to 10.
    """

    def staffs(office: int) -> list[str]:
        lines = staff_rows.staff_lines(
            origin,
            office,
            size.staff,
            withdrawn=rows.office_is_deleted(origin, office),
            administrator=origin.administrator_id,
        )
        return lines if office else [staff_rows.administrator_line(origin), *lines]

    def office_staffs(office: int) -> list[str]:
        ids = staff_rows.staff_ids(origin, office, size.staff)
        return staff_rows.office_staff_lines(origin, office, rows.office_id_of(origin, office), ids)

    def recipients(office: int) -> list[str]:
        return rows.recipient_lines(origin, office, size.recipients)

    def office_recipients(office: int) -> list[str]:
        ids = rows.recipient_ids(origin, office, size.recipients)
        return rows.office_recipient_lines(origin, office, rows.office_id_of(origin, office), ids)

    def cycles(office: int) -> list[str]:
        ids = rows.recipient_ids(origin, office, size.recipients)
        key = rows.office_id_of(origin, office)
        lines = rows.cycle_lines(origin, office, key, ids, size.cycles)
        first = office * size.recipients * size.cycles + 1
        return [f"{number}\t{line}" for number, line in enumerate(lines, first)]

    def table(name: str, columns: tuple[str, ...], lines: Callable[[int], list[str]]) -> TableRows:
        return TableRows(name, columns, blocks(lines(office) for office in offices))

    yield table("staffs", staff_rows.STAFFS, staffs)
    yield table("offices", rows.OFFICES, lambda office: rows.office_lines(origin, office))
    yield table("office_staffs", staff_rows.OFFICE_STAFFS, office_staffs)
    yield table("welfare_recipients", rows.WELFARE_RECIPIENTS, recipients)
    yield table("office_welfare_recipients", rows.OFFICE_WELFARE_RECIPIENTS, office_recipients)
    yield table("support_plan_cycles", ("id", *rows.SUPPORT_PLAN_CYCLES), cycles)


def blocks(offices: Iterator[list[str]], size: int = _LINES_A_BLOCK) -> Iterator[bytes]:
    """Join the lines of offices to blocks of at least ``size`` lines; the last may be shorter."""
    pending: list[str] = []
    for lines in offices:
        pending += lines
        if len(pending) >= size:
            yield _block(pending)
            pending = []
    if pending:
        yield _block(pending)


def _block(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
