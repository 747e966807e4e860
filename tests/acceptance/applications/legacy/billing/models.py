"""Accounts and invoices; currencies have no flag."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """The base of the models."""


class Currency(Base):
    """A currency."""

    __tablename__ = "currencies"

    code: Mapped[str] = mapped_column(primary_key=True)


class Account(Base):
    """An account."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    is_test_data: Mapped[bool] = mapped_column(server_default="false")
    invoices: Mapped[list["Invoice"]] = relationship(order_by="Invoice.id")


class Invoice(Base):
    """An invoice of an account."""

    __tablename__ = "invoices"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    amount: Mapped[int]
    paid: Mapped[bool] = mapped_column(server_default="false")
    is_test_data: Mapped[bool] = mapped_column(server_default="false")
