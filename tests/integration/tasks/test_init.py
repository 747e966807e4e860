"""What init writes runs as it is, in applications of two kinds."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from perfdata import Settings
from tests.homes import discard_server
from tests.integration.inner import FAST
from tests.processes import environment, run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

MODELS = """
from __future__ import annotations
import datetime as dt
from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship
from shop.base import Base, Flagged


class Customer(Flagged, Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(60), unique=True)
    code: Mapped[str] = mapped_column(String(4))
    born: Mapped[dt.date]
    note: Mapped[str | None]
    orders: Mapped[list[Order]] = relationship(back_populates="customer")


class Order(Flagged, Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    customer: Mapped[Customer] = relationship(back_populates="orders")
"""
MIGRATED = {
    "pyproject.toml": '[project]\nname = "shop"  # ours\nversion = "1"\n',
    "shop/__init__.py": "",
    "shop/base.py": """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Flagged:
    is_test_data: Mapped[bool] = mapped_column(server_default="false")
""",
    "shop/models.py": MODELS,
    "migrations/script.py.mako": "",
    "migrations/env.py": """
from alembic import context
from sqlalchemy import create_engine

config = context.config
with create_engine(config.get_main_option("sqlalchemy.url")).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
""",
    "migrations/versions/0001.py": """
from alembic import op
revision = "0001"
down_revision = None


def upgrade():
    from shop.models import Base
    Base.metadata.create_all(op.get_bind())
""",
    "alembic.ini": "[alembic]\nscript_location = migrations\n",
}
# Two modules define tables, and none imports both.
FROM_METADATA = {
    "app/tables.py": "from sqlalchemy.orm import declarative_base\nBase = declarative_base()\n",
    "app/users.py": """
from sqlalchemy import Boolean, Column, String, Uuid
from app.tables import Base


class User(Base):
    __tablename__ = "user"
    id = Column(Uuid, primary_key=True)
    email = Column(String(255), nullable=False, unique=True)
    is_test_data = Column(Boolean, nullable=False, default=False)
""",
    "app/items.py": """
from sqlalchemy import Boolean, Column, ForeignKey, Integer
from app.tables import Base


class Item(Base):
    __tablename__ = "item"
    id = Column(Integer, primary_key=True)
    owner_id = Column(ForeignKey("user.id"), nullable=False)
    is_test_data = Column(Boolean, nullable=False, default=False)
""",
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    discard_server(Settings(root=tmp_path, home=tmp_path / ".perfdata"))


@pytest.mark.parametrize(
    ("files", "name", "rows", "written"),
    [
        (MIGRATED, "1000_customers", "1,000 rows", ["perf_project.py"]),
        (FROM_METADATA, "1000_user", "1,000 rows", ["perf_project.py", "perf_tables.py"]),
        ({}, "first", "0 rows", ["perf_project.py"]),
    ],
    ids=["migrated", "from metadata", "nothing found"],
)
def test_what_is_written_runs(
    folder: Path, files: dict[str, str], name: str, rows: str, written: list[str]
) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    dry = run_script(folder, "perfdata", "--dry", "init")
    assert f"would write  {written[-1]}" in dry.stdout, dry.stderr
    assert not (folder / written[-1]).exists()
    done = run_script(folder, "perfdata", "init")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.glob("perf_*.py")) == written
    commands = done.stdout.partition("next:\n")[2].splitlines()
    assert commands == [
        f"  perfdata dataset.build --name {name}",
        f"  perfdata snapshot.restore --name {name}",
        "  pytest tests/perf",
    ]
    for command in commands[:2]:
        result = run_script(folder, *command.split())
        assert rows in result.stdout, result.stderr
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", *FAST, "tests/perf", "--perf-strict"],
        cwd=folder, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout
    assert "1 passed" in tested.stdout
    again = run_script(folder, "perfdata", "init", "--json")
    assert '"new": true' not in again.stdout
