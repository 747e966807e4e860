"""A dataset with every kind of column, for tests of its values."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from perfdata import Dataset
from perfdata import generate as g

if TYPE_CHECKING:
    from perfdata.generate import GeneratedTable

TEAMS = [("R", "Research"), ("S", "Sales"), ("W", "Ware\\house\t2\n")]
AS_OF = date(2026, 1, 1)


def kinds(dataset: Dataset) -> list[GeneratedTable]:
    """Return tables of people, of what they own, and of links between them."""
    team = g.choice(TEAMS)
    people = g.table(
        dataset,
        "people",
        dataset.parameters["people"],
        id=g.serial(start=100),
        key=g.uuid(),
        number=g.integer(1, 20_000, unique=True),
        score=g.integer(-5, 5),
        big=g.integer(0, 10**15),
        price=g.decimal("-1.50", "2.5"),
        active=g.boolean(0.25),
        state=g.choice({"new": 1, "paid": 0, "sent": 3}),
        rare=g.choice({"often": 999_999, "seldom": 1}),
        note=g.nullable(g.text("n°{row:05} {{{state}}}"), 0.125),
        team_code=team[0],
        team=team[1],
        joined=g.date(-900, -1, months={12: 5}, weekdays={5: 0, 6: 0}),
        left=g.date(1, 30, after="joined"),
        seen=g.timestamp(-30, -1, hours=(9, 17)),
        answered=g.timestamp(0, 2, after="seen"),
        called=g.timestamp(0, 2, after="left", hours=(9, 10)),
        settings=g.json({"dark": g.boolean(), "tags": ["a", g.choice(["é", '"'])], "n": None}),
        boss=g.earlier(),
        ended=g.where("active", g.timestamp(-9, -1), otherwise=datetime(2030, 1, 1, tzinfo=UTC)),
        reason=g.where(lambda score: score < 0, lambda score, row: f"{row}: {score}"),
        _secret=g.integer(0, 9),
        twice=lambda _secret, score: _secret + 2 * score,
        constant="\\N",
        nothing=None,
        tags=["a b", None],
    )
    countries = g.table(dataset, "countries", 3, code=g.listed(["JP", "NL", "FR"]), size=3)
    owner = g.ref(people, zipf=1.1)
    things = g.table(
        dataset,
        "things",
        3000,
        id=g.serial(),
        owner=owner,
        owner_team=owner["team"],
        maker=g.ref(people, "key"),
        country=g.ref(countries),
    )
    pets = g.table(
        dataset,
        "pets",
        g.per(people, 0, 3),
        id=g.uuid(),
        owner=g.parent(),
        owner_joined=g.parent("joined"),
        place=g.position(),
        youngest=g.is_last(),
    )
    links = g.table(
        dataset,
        "links",
        g.per(people, 2),
        person=g.parent(),
        thing=g.ref(things, distinct=True),
    )
    skewed = g.table(dataset, "skewed", g.per(countries, 100, zipf=0.7), country=g.parent())
    return [people, countries, things, pets, links, skewed]


def dataset_of(people: int = 5000, seed: int = 1) -> Dataset:
    """Return the dataset with so many people."""
    return Dataset(
        name="kinds", generate=kinds, as_of=AS_OF, parameters={"people": people}, seed=seed
    )


def tables_of(dataset: Dataset) -> dict[str, GeneratedTable]:
    """Return a dataset's tables by name."""
    return {table.table: table for table in kinds(dataset)}
