"""The way this work began with, written honestly for the comparison: the ORM for everything.

Objects in batches through a Session, rows read through the ORM into one JSON file, and deleted
and inserted again from it. Passwords share one hash here too: hashing was a bottleneck of its own.

    python benchmarks/orm_way.py build|create|restore SQLALCHEMY_URL FILE
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import uuid
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, delete, insert, select
from sqlalchemy.orm import Session

from perfdata.welfare import models

TABLES = tuple(models.Base.metadata.sorted_tables)
AS_OF = dt.date(2026, 1, 1)


def people(faker: Any) -> dict[str, str]:
    """Draw one person's names, as a factory does, a Faker call a value."""
    return {
        "last_name": faker.last_name(),
        "first_name": faker.first_name(),
        "last_name_furigana": faker.last_kana_name(),
        "first_name_furigana": faker.first_kana_name(),
    }


def build(session: Session, offices: int = 100, staff: int = 10, recipients: int = 100) -> None:
    """Make the rows of 100_offices as objects."""
    from faker import Faker

    faker = Faker("ja_JP")
    Faker.seed(0)
    admin = staff_member(faker, 0, "owner")
    session.add(admin)
    session.flush()
    for number in range(offices):
        office = models.Office(
            name=faker.company(), type="type_B_office", address=faker.address(),
            created_by=admin.id, last_modified_by=admin.id, is_test_data=True,
        )  # fmt: skip
        session.add(office)
        members = [staff_member(faker, number * staff + n + 1, "employee") for n in range(staff)]
        session.add_all(members)
        clients = [
            models.WelfareRecipient(
                **people(faker), birth_day=faker.date_of_birth(), gender="other", is_test_data=True
            )
            for _ in range(recipients)
        ]
        session.add_all(clients)
        session.flush()
        session.add_all(
            models.OfficeStaff(staff_id=one.id, office_id=office.id, is_test_data=True)
            for one in members
        )
        for one in clients:
            keys = {"welfare_recipient_id": one.id, "office_id": office.id, "is_test_data": True}
            due = AS_OF + dt.timedelta(days=faker.random_int(-40, 175))
            session.add(models.OfficeWelfareRecipient(**keys))
            session.add(models.SupportPlanCycle(**keys, next_renewal_deadline=due))
        session.flush()
    session.commit()


def staff_member(faker: Any, number: int, role: str) -> models.Staff:
    """Make one member of staff."""
    names = people(faker)
    return models.Staff(
        **names, email=f"staff{number}@orm.example", hashed_password="x", role=role,
        full_name=f"{names['last_name']} {names['first_name']}", is_test_data=True,
    )  # fmt: skip


def create(session: Session, path: Path) -> None:
    """Read every flagged row through the ORM's core and write one JSON file."""
    document = {
        table.name: [
            dict(row._mapping)  # noqa: SLF001  the public name of SQLAlchemy's row as a mapping
            for row in session.execute(select(table).where(table.c.is_test_data))
        ]
        for table in TABLES
    }
    path.write_text(json.dumps(document, default=str, ensure_ascii=False), encoding="utf-8")


def restore(session: Session, path: Path) -> None:
    """Delete the flagged rows and insert those of the file, a thousand at a time."""
    document = json.loads(path.read_text(encoding="utf-8"))
    for table in reversed(TABLES):
        session.execute(delete(table).where(table.c.is_test_data))
    for table in TABLES:
        rows = [_typed(table, row) for row in document[table.name]]
        for begin in range(0, len(rows), 1000):
            session.execute(insert(table), rows[begin : begin + 1000])
    session.commit()


def _typed(table: Any, row: dict[str, Any]) -> dict[str, Any]:
    kinds: dict[type, Any] = {uuid.UUID: uuid.UUID, dt.datetime: dt.datetime.fromisoformat,
             dt.date: dt.date.fromisoformat}  # fmt: skip
    made = {}
    for name, value in row.items():
        kind = kinds.get(getattr(table.c[name].type, "python_type", str))
        made[name] = kind(value) if kind and isinstance(value, str) else value
    return made


def main() -> None:
    """Do one of the three, on an empty or loaded database."""
    what, url, path = sys.argv[1:]
    with Session(create_engine(url)) as session:
        if what == "build":
            for table in reversed(TABLES):
                session.execute(delete(table).where(table.c.is_test_data))
            session.commit()
            build(session)
        elif what == "create":
            create(session, Path(path))
        else:
            restore(session, Path(path))


if __name__ == "__main__":
    main()
