"""Rows of SQLAlchemy models: types, defaults, and unsaved instances with their relationships."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from perfdata import (
    Built,
    ConfigError,
    Dataset,
    LoadError,
    SchemaError,
    TableRows,
    append_rows,
    build_dataset,
)
from tests.integration import league, unflagged_shop
from tests.integration.databases import run
from tests.integration.league import Goal, Kind, Match, Person, Player, Referee, Stadium, Team

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterable

    from perfdata import Target

    Build = Callable[[Callable[[], Iterable[TableRows]]], Built]


@pytest.fixture
def url(empty_url: str, owned_shop: Target) -> str:  # noqa: ARG001  the same database
    """The shop's database, which perfdata owns, with the tables of the league."""
    engine = sa.create_engine(empty_url.replace("postgresql:", "postgresql+psycopg:"))
    league.Base.metadata.create_all(engine)
    engine.dispose()
    return empty_url


@pytest.fixture
def build(url: str, owned_shop: Target, monkeypatch: pytest.MonkeyPatch) -> Build:  # noqa: ARG001
    """Return a function that builds a dataset of some tables."""

    def build(tables: Callable[[], Iterable[TableRows]]) -> Built:
        dataset = Dataset(
            name="league",
            generate=lambda _: iter(tables()),
            as_of=date(2026, 4, 1),
            seed=3,
            sources=("tests.integration.league",),
        )
        project = replace(unflagged_shop.project, datasets=(dataset,))
        monkeypatch.setattr(unflagged_shop, "project", project)
        return build_dataset(owned_shop, "league")

    return build


def test_types_and_defaults_of_the_model_apply_to_dicts(url: str, build: Build) -> None:
    rows = [
        {
            "name": "a",
            "kind": Kind.other,
            "label": Kind.first,
            "budget": 1.5,
            "span": sa.dialects.postgresql.Range(1, 5),
            "data": b"\x00\\",
            "tags": {"x": ["y"]},
        },
        {"name": "b"},
    ]
    built = build(lambda: [TableRows(Team, rows=rows)])
    read = "SELECT kind, label, budget, span, data, tags FROM team ORDER BY id"
    (first, second) = run(url, read)
    assert first[:3] == ("other", "The first", 150)
    assert (str(first[3]), first[4:]) == ("[1, 5)", (b"\x00\\", {"x": ["y"]}))
    assert second == ("first", "The other", None, None, None, [])
    clocks = "SELECT made, zoned, day, seconds, server, sql, remark FROM team ORDER BY id LIMIT 1"
    midnight = datetime(2026, 4, 1, tzinfo=UTC)
    assert run(url, clocks) == [
        (
            midnight.replace(tzinfo=None),
            midnight,
            date(2026, 4, 1),
            midnight.timestamp(),
            7,
            midnight,
            "from a",
        )
    ]
    assert [note for note in built.notes if "default" in note] == [
        "team.remark: its default, counted (tests/integration/league.py, line 44), was called for "
        "each row, so the values differ from build to build: give them in the rows",
    ]


def test_values_of_uuid4_repeat_and_belong_to_the_row(url: str, build: Build) -> None:
    def codes(count: int) -> list[uuid.UUID]:
        build(lambda: [TableRows(Stadium, rows=[{"name": "x"}] * count)])
        return [code for (code,) in run(url, "SELECT code FROM stadium ORDER BY id")]

    first = codes(3)
    assert [code.version for code in first] == [4] * 3
    assert len(set(first)) == 3
    assert codes(2) == first[:2]
    parts = [TableRows(Stadium, ("name",), rows=[("x",)]) for _ in range(3)]
    build(lambda: parts)
    assert [code for (code,) in run(url, "SELECT code FROM stadium ORDER BY id")] == first


def test_dicts_get_what_the_mapper_and_a_dataclass_fill_in(url: str, build: Build) -> None:
    """A row's class in a hierarchy, its first version, and default_factory."""

    def tables() -> Iterable[TableRows]:
        yield TableRows(Referee, rows=[{"level": 3}])
        yield TableRows(Match, rows=[{}, {}])
        yield TableRows(Goal, rows=[{"minute": 5}, {}])

    built = build(tables)
    assert run(url, "SELECT kind, level FROM person") == [("referee", 3)]
    assert run(url, "SELECT version FROM match") == [(1,), (1,)]
    goals = run(url, "SELECT minute, marks, match_id, code FROM goal ORDER BY id")
    assert [goal[:3] for goal in goals] == [(5, 4, None), (90, 4, None)]
    assert "goal.marks: its default, Goal.<lambda> (tests/" in "\n".join(built.notes)
    build(tables)
    assert run(url, "SELECT minute, marks, match_id, code FROM goal ORDER BY id") == goals


def test_defaults_of_rows_that_are_appended_are_called(url: str) -> None:
    began = datetime.now(UTC)
    append_rows(url, [TableRows(Team, rows=[{"name": "a"}, {"name": "b"}])])
    ((codes, zoned, sql),) = run(url, "SELECT count(DISTINCT code), min(zoned), min(sql) FROM team")
    assert codes == 2
    assert min(zoned, sql) >= began


def test_instances_get_keys_and_relationships_become_keys(url: str, build: Build) -> None:
    def tables() -> Iterable[TableRows]:
        players = league.PlayerFactory.build_batch(3)
        players[2].captain = players[0]
        extra = Player(name="extra")
        players[1].team.players.append(extra)  # by the collection alone
        matches = [Match(goals=[Goal(), Goal(minute=5)]), Match()]
        players[0].matches = matches
        yield TableRows(Team, rows=[player.team for player in players])
        yield TableRows("player", rows=[*players, extra])
        yield TableRows(Match, rows=matches)
        yield TableRows(Goal, rows=[goal for match in matches for goal in match.goals])
        yield TableRows(
            league.links,
            rows=(
                {"player_id": player.id, "match_id": match.id}
                for player in players
                for match in player.matches
            ),
        )

    build(tables)
    assert run(url, "SELECT id, team_id, captain_id FROM player ORDER BY id") == [
        (1, 1, None),
        (2, 2, None),
        (3, 3, 1),
        (4, 2, None),
    ]
    assert run(url, "SELECT minute, version FROM goal JOIN match m ON m.id = match_id") == [
        (90, 1),
        (5, 1),
    ]
    assert run(url, "SELECT player_id, count(*) FROM player_match GROUP BY 1") == [(1, 2)]
    assert run(url, "INSERT INTO player (name, team_id) VALUES ('next', 1) RETURNING id") == [(5,)]
    run(url, "DELETE FROM player WHERE id = 5")
    first = run(url, "SELECT id FROM match")
    build(tables)
    assert run(url, "SELECT id FROM match") == first


def test_keys_go_on_after_those_that_are_given(url: str, build: Build) -> None:
    teams = [Team(name="a"), Team(name="b", id=10), Team(name="c")]
    build(lambda: [TableRows(Team, rows=teams), TableRows(Team, rows=[Team(name="d")])])
    assert run(url, "SELECT id, server FROM team ORDER BY name") == [
        (1, 7),
        (10, 7),
        (11, 7),
        (12, 7),
    ]


def test_instances_of_polyfactory_and_of_sqlmodel(url: str, build: Build) -> None:
    referees = league.RefereeFactory.batch(20)

    def tables() -> Iterable[TableRows]:
        yield TableRows(Person, rows=[Person(), *referees])
        yield TableRows(Stadium, rows=[Stadium(name="a"), Stadium(name="b", seats=5)])

    build(tables)
    assert run(url, "SELECT kind, count(*), max(id) FROM person GROUP BY 1 ORDER BY 1") == [
        ("person", 1, 1),
        ("referee", 20, 21),
    ]
    levels = run(url, "SELECT level FROM person WHERE id > 1 ORDER BY id")
    assert levels == [(referee.level,) for referee in referees]
    first = run(url, "SELECT id, seats, code FROM stadium ORDER BY id")
    assert [row[:2] for row in first] == [(1, 100), (2, 5)]
    build(tables)
    assert run(url, "SELECT id, seats, code FROM stadium ORDER BY id") == first


def test_keys_that_sqlmodel_made_are_kept_and_said_to_differ(url: str, build: Build) -> None:
    seat = league.Seat()
    built = build(lambda: [TableRows(league.Seat, rows=[seat])])
    assert run(url, "SELECT id FROM seat") == [(seat.id,)]
    assert "seat.id: the keys were made when the instances were built" in "\n".join(built.notes)
    built = build(lambda: [TableRows(league.Seat, rows=[league.Seat(id=seat.id)])])
    assert "seat.id" not in "\n".join(built.notes)


def test_appended_instances_are_numbered_by_the_server(url: str) -> None:
    append_rows(url, [TableRows(Team, rows=[Team(name="a")])] * 2)
    append_rows(url, [TableRows(Team, rows=[Team(name="b")])])
    assert run(url, "SELECT id FROM team ORDER BY id") == [(1,), (2,), (3,)]
    team = Team(name="c", players=[Player(name="x")])
    with pytest.raises(LoadError, match="team, row 1: its players reference its id, which the ser"):
        append_rows(url, [TableRows(Team, rows=[team])])
    team.id = 10
    append_rows(url, [TableRows(Team, rows=[team]), TableRows(Player, rows=team.players)])
    assert run(url, "SELECT id, team_id FROM player") == [(1, 10)]


def orphan() -> Iterable[TableRows]:
    yield TableRows(Player, rows=[Player(name="a", team=Team(name="nowhere"))])


def linked() -> Iterable[TableRows]:
    match, team = Match(), Team(name="a")
    yield TableRows(Match, rows=[match])
    yield TableRows(Team, rows=[team])
    yield TableRows(Player, rows=[Player(name="a", team=team, matches=[match])])


def left_out() -> Iterable[TableRows]:
    yield TableRows(Team, rows=[Team(name="a"), Team(name="b", server=3)])


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (
            orphan,
            r"dataset league: player, row 1: its team, Team\(name='nowhere'.*\), has no id yet: it "
            "is in no TableRows before this row. Yield it among the rows of team before",
        ),
        (linked, "instances have Player.matches, and no rows of player_match came"),
        (left_out, "team, row 2, column server: the row has a value for it, and the first row has"),
        (
            lambda: [TableRows(Team, rows=[Match()])],
            "team, row 1: the row is a Match, whose table is match",
        ),
        (
            lambda: [TableRows(Team, rows=[Team(name="a"), {"name": "b"}])],
            "team, row 2: the row is a dict, expected an instance of a model",
        ),
        (
            lambda: [TableRows(Team, rows=[{"name": "a", "kind": "none"}])],
            'team, row 1, column kind: invalid input value for enum kind: "none"',
        ),
        (
            lambda: [TableRows(Team, rows=[Team()])],
            "team, row 1, column name: the row has no value for it, and it is NOT NULL",
        ),
        (
            lambda: [TableRows(Team, rows=[]), TableRows(Match, rows=[]), TableRows(Team, rows=[])],
            "dataset league: rows of team come a second time, after those of another table",
        ),
    ],
)
def test_errors_of_models_name_the_row(
    build: Build, tables: Callable[[], Iterable[TableRows]], said: str
) -> None:
    with pytest.raises(LoadError, match=said):
        build(tables)


def test_what_a_session_has_is_refused(url: str) -> None:
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with Session(engine) as session:
        session.add(team := Team(name="a"))
        with pytest.raises(LoadError, match=r"Team\(name='a'\) belongs to a Session or was saved"):
            append_rows(url, [TableRows(Team, rows=[team])])
    engine.dispose()


def test_a_sql_default_that_copy_cannot_run_is_named(empty_url: str) -> None:
    table = sa.Table(
        "t", sa.MetaData(), sa.Column("a", sa.Integer), sa.Column("b", default=sa.func.random())
    )
    run(empty_url, "CREATE TABLE t (a int, b float8)")
    with pytest.raises(LoadError, match=r"row 1, column b: .* expression random\(\), which COPY"):
        append_rows(empty_url, [TableRows(table, rows=[{"a": 1}])])
    append_rows(empty_url, [TableRows(table, ("a", "b"), rows=[(1, 2)])])
    run(empty_url, "ALTER TABLE t DROP COLUMN b")
    with pytest.raises(SchemaError, match="table t lacks these columns of its model: b"):
        append_rows(empty_url, [TableRows(table, rows=[{"a": 1}])])


def test_what_is_no_table_or_several_is_refused(url: str) -> None:
    wrong: Any
    for wrong, said in (
        (Kind, "expected a table's name, or a SQLAlchemy model or Table"),
        (5, "TableRows of 5: expected"),
    ):
        with pytest.raises(ConfigError, match=said):
            TableRows(wrong, rows=[])
    with pytest.raises(ConfigError, match="has 0 of blocks, rows and arrow: give one of them"):
        TableRows("team")
    with pytest.raises(ConfigError, match="team has 2 of blocks, rows and arrow"):
        TableRows("team", ("id",), [], rows=[])
    with pytest.raises(ConfigError, match="model Coach has the tables coach, person: give the row"):
        append_rows(url, [TableRows(league.Coach, rows=[{"id": 1}])])
    assert TableRows(Referee, rows=[]).table == "person"
