"""The tables of the shop."""

from datetime import UTC, datetime
from decimal import Decimal

from sqlmodel import Field, Relationship, SQLModel


class Customer(SQLModel, table=True):
    """Somebody who orders."""

    __tablename__ = "customers"

    id: int | None = Field(default=None, primary_key=True)
    name: str
    email: str = Field(unique=True)
    orders: list["Order"] = Relationship(back_populates="customer")


class Product(SQLModel, table=True):
    """Something that is sold."""

    __tablename__ = "products"

    id: int | None = Field(default=None, primary_key=True)
    name: str
    price: Decimal = Field(max_digits=10, decimal_places=2)


class Order(SQLModel, table=True):
    """A customer's order."""

    __tablename__ = "orders"

    id: int | None = Field(default=None, primary_key=True)
    customer_id: int = Field(foreign_key="customers.id", index=True)
    status: str = Field(default="new")
    ordered_at: datetime = Field(default_factory=lambda: datetime.now(UTC), index=True)
    customer: Customer = Relationship(back_populates="orders")
    lines: list["OrderLine"] = Relationship(back_populates="order")


class OrderLine(SQLModel, table=True):
    """A product in an order."""

    __tablename__ = "order_lines"

    order_id: int = Field(foreign_key="orders.id", primary_key=True)
    position: int = Field(primary_key=True)
    product_id: int = Field(foreign_key="products.id", index=True)
    quantity: int
    order: Order = Relationship(back_populates="lines")
    product: Product = Relationship()
