"""Tables and columns, read from models as people write them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from perfdata.scaffold.first_dataset import choose_table
from perfdata.scaffold.models import Models, read_models
from perfdata.scaffold.sources import SourceModule

DECLARATIVE = """
from sqlalchemy.orm import DeclarativeBase
class Base(DeclarativeBase): ...
class Dated:
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
class Customer(Dated, Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(60))
    note: Mapped[str | None]
    other: Mapped["Optional[str]"]
    orders: Mapped[list["Order"]] = relationship()
class Order(Base):
    __tablename__ = "orders"
    __table_args__ = {"schema": "sales"}
    id: Mapped[int] = mapped_column("order_id", primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
"""
CLASSIC = """
from sqlalchemy.ext.declarative import declarative_base
Base = declarative_base()
class Customer(Base):
    __tablename__ = "customers"
    id = Column(Integer, primary_key=True)
    name = Column(String(60), nullable=False)
    note = Column(Text)
    total = Column(Integer, Computed("1"))
"""
SQLMODEL = """
from sqlmodel import Field, SQLModel
class CustomerBase(SQLModel):
    name: str = Field(max_length=60)
    note: str | None = None
class CustomerCreate(CustomerBase):
    password: str
class Customer(CustomerBase, table=True):
    __tablename__ = "customers"
    id: int | None = Field(default=None, primary_key=True)
    orders: list["Order"] = Relationship(back_populates="customer")
class Order(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    customer_id: int = Field(foreign_key="customers.id")
"""
CORE = """
metadata = MetaData()
customers = Table("customers", metadata, Column("id", Integer, primary_key=True),
    Column("name", String(60), nullable=False), Column("note", Text))
"""


def read(**sources: str) -> Models:
    return read_models(
        [SourceModule(name, Path(name), ast.parse(text)) for name, text in sources.items()]
    )


@pytest.mark.parametrize(
    ("source", "metadata", "order"),
    [
        (DECLARATIVE, "Base.metadata", "id name"),
        (CLASSIC, "Base.metadata", "id name"),
        (SQLMODEL, "SQLModel.metadata", "name id"),
        (CORE, "metadata", "id name"),
    ],
)
def test_required_columns_are_found_in_each_form(source: str, metadata: str, order: str) -> None:
    models = read(shop=source)
    assert models.metadata == metadata
    assert models.binding[0] == "shop"
    customers = next(table for table in models.tables if table.name == "customers")
    required = [column for column in customers.columns if column.required]
    assert " ".join(column.name for column in required) == order
    assert {column.name: column.length for column in required} == {"id": None, "name": 60}
    first = choose_table(models.tables)
    assert first is not None
    assert first.name == "customers"
    assert [line.partition("=")[0] for line in first.columns] == order.split()
    assert set(first.columns) == {"id=g.serial(),", 'name=g.text("name {row}"),'}


def test_a_schema_a_column_name_and_a_foreign_key_are_read() -> None:
    (orders,) = [table for table in read(shop=DECLARATIVE).tables if "orders" in table.name]
    assert orders.name == "sales.orders"
    assert [(column.name, column.references) for column in orders.columns] == [
        ("order_id", ""),
        ("customer_id", "customers"),
    ]


def test_a_base_in_another_module_is_followed() -> None:
    head, _, tail = CLASSIC.partition("class Customer")
    models = read(base=head, customers=f"from base import Base\nclass Customer{tail}")
    assert models.modules == ["customers"]
    assert models.binding == ("base", "customers")


@pytest.mark.parametrize(
    "column",
    [
        "kind: Mapped[Kind]",
        "kind = Column(Enum(Kind), nullable=False)",
        "owner_id: Mapped[int] = mapped_column(ForeignKey(User.id))",
        "code: Mapped[str] = mapped_column(String(2))",
        '__table_args__ = (CheckConstraint("name <> 1"),)',
    ],
)
def test_a_table_whose_values_are_uncertain_is_not_filled(column: str) -> None:
    source = CLASSIC.replace("    note =", f"    {column}\n    note =")
    assert choose_table(read(shop=source).tables) is None
    assert choose_table(read(shop=source + DECLARATIVE).tables) is not None


def test_a_flagged_table_comes_first_and_its_rows_are_flagged() -> None:
    flagged = "class Item(Base):\n    __tablename__ = 'items'\n"
    flagged += "    id = Column(Integer, primary_key=True)\n    is_test_data = Column(Boolean)\n"
    first = choose_table(read(shop=CLASSIC + flagged).tables)
    assert first is not None
    assert first.dataset == "1000_items"
    assert first.columns == ("id=g.serial(),", "is_test_data=True,")
