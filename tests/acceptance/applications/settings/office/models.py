"""Notes and their tags."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """The base of the models."""


class Note(Base):
    """A note."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(index=True)
    text: Mapped[str]
    is_test_data: Mapped[bool] = mapped_column(server_default="false")
    tags: Mapped[list["Tag"]] = relationship(order_by="Tag.id")


class Tag(Base):
    """A tag of a note."""

    __tablename__ = "tags"

    id: Mapped[int] = mapped_column(primary_key=True)
    note_id: Mapped[int] = mapped_column(ForeignKey("notes.id"), index=True)
    name: Mapped[str]
    is_test_data: Mapped[bool] = mapped_column(server_default="false")
