"""A league's models, as applications write them, and factories of factory_boy and polyfactory."""

from __future__ import annotations

import enum
import time
import uuid
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from factory.base import Factory
from factory.declarations import Sequence, SubFactory
from polyfactory.factories.sqlalchemy_factory import SQLAlchemyFactory
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    mapped_column,
    relationship,
)
from sqlmodel import Field, SQLModel


class Base(DeclarativeBase):
    pass


class Kind(enum.Enum):
    first = "The first"
    other = "The other"


class Cents(sa.TypeDecorator[float]):
    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:  # noqa: ARG002
        return None if value is None else round(value * 100)


def counted(context: Any) -> str:
    return f"from {context.get_current_parameters()['name']}"


class Team(Base):
    __tablename__ = "team"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    code: Mapped[uuid.UUID] = mapped_column(default=uuid.uuid4)
    kind: Mapped[Kind] = mapped_column(default=Kind.first)
    label: Mapped[Kind] = mapped_column(
        sa.Enum(Kind, name="label", values_callable=lambda kinds: [kind.value for kind in kinds]),
        default=Kind.other,
    )
    budget: Mapped[float | None] = mapped_column(Cents)
    tags: Mapped[Any] = mapped_column(sa.JSON, default=list)
    span: Mapped[Any] = mapped_column(postgresql.INT4RANGE, nullable=True)
    data: Mapped[bytes | None]
    made: Mapped[datetime] = mapped_column(default=datetime.now)
    zoned: Mapped[datetime] = mapped_column(
        sa.DateTime(timezone=True), default=partial(datetime.now, UTC)
    )
    day: Mapped[date] = mapped_column(default=date.today)
    seconds: Mapped[float] = mapped_column(default=time.time)
    server: Mapped[int] = mapped_column(server_default="7")
    sql: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True), default=sa.func.now())
    note: Mapped[str] = mapped_column("remark", default=counted)
    players: Mapped[list[Player]] = relationship(back_populates="team")


links = sa.Table(
    "player_match",
    Base.metadata,
    sa.Column("player_id", sa.ForeignKey("player.id"), primary_key=True),
    sa.Column("match_id", sa.ForeignKey("match.id"), primary_key=True),
)


class Player(Base):
    __tablename__ = "player"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    team_id: Mapped[int] = mapped_column(sa.ForeignKey("team.id"))
    captain_id: Mapped[int | None] = mapped_column(sa.ForeignKey("player.id"))
    team: Mapped[Team] = relationship(back_populates="players")
    captain: Mapped[Player | None] = relationship(remote_side="Player.id")
    matches: Mapped[list[Match]] = relationship(secondary=links)


class Match(Base):
    __tablename__ = "match"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    version = mapped_column(sa.Integer, nullable=False)
    goals: Mapped[list[Goal]] = relationship()  # a goal knows its match by the key alone

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class Goal(MappedAsDataclass, Base):
    __tablename__ = "goal"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    match_id: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("match.id"), default=None)
    minute: Mapped[int] = mapped_column(default=90)
    code: Mapped[uuid.UUID] = mapped_column(default_factory=uuid.uuid4)
    marks: Mapped[int] = mapped_column(default_factory=lambda: 4)


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012


class Referee(Person):
    level: Mapped[int | None]

    __mapper_args__ = {"polymorphic_identity": "referee"}  # noqa: RUF012


class Coach(Person):
    __tablename__ = "coach"
    id: Mapped[int] = mapped_column(sa.ForeignKey("person.id"), primary_key=True)

    __mapper_args__ = {"polymorphic_identity": "coach"}  # noqa: RUF012


class Stadium(SQLModel, table=True):
    metadata = Base.metadata
    id: int | None = Field(default=None, primary_key=True)
    code: uuid.UUID = Field(default_factory=uuid.uuid4)
    seats: int = 100
    name: str


class Seat(SQLModel, table=True):
    metadata = Base.metadata
    id: uuid.UUID = Field(default_factory=uuid.uuid4, primary_key=True)


class TeamFactory(Factory):  # type: ignore[type-arg]
    class Meta:
        model = Team

    name = Sequence(lambda n: f"team {n}")  # type: ignore[no-untyped-call]


class PlayerFactory(Factory):  # type: ignore[type-arg]
    class Meta:
        model = Player

    name = Sequence(lambda n: f"player {n}")  # type: ignore[no-untyped-call]
    team = SubFactory(TeamFactory)  # type: ignore[no-untyped-call]


class RefereeFactory(SQLAlchemyFactory[Referee]):
    __random_seed__ = 5
    __set_primary_key__ = False

    kind = "referee"
