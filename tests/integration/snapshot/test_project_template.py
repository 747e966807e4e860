"""Templates for perf tests that a project's migrations make, with nothing of the target's own."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pytest

from perfdata import Settings, Target, build_dataset, create_snapshot
from perfdata.postgres.drivers import PsycopgLink
from perfdata.snapshot.perf_clones import Clones
from perfdata.target.target import make_tables
from perfdata.templates.databases import find_target, list_databases
from perfdata.templates.marks import Kind
from perfdata.templates.new_database import create_database, read_blueprint
from tests.integration.databases import mark_owned, run
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from perfdata.progress import Event
    from tests.integration.conftest import Databases

pytestmark = pytest.mark.slow

_numbers = itertools.count(1)

ENV_PY = """
from alembic import context
context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""
REVISION = """
from alembic import op
revision = "{revision}"
down_revision = {parent!r}

def upgrade():
    for statement in {statements!r}:
        op.execute(statement)
"""
PROJECT = """
from datetime import date
from pathlib import Path
from perfdata import Dataset, Project, TableRows

def generate(dataset):
    users = (f"{{n}}\\t{{n % 2 + 1}}\\t{boss}\\tt\\n".encode() for n in range(2, 102))
    yield TableRows("{users}", ("id", "kind_id", "boss_id", "is_test_data"), users)

project = Project(
    name="shop", migrations=Path("migrations"),
    datasets=(Dataset(name="hundred", generate=generate, as_of=date(2026, 1, 1)),),
)
"""
TABLES = (
    "CREATE TABLE kinds (id int PRIMARY KEY, name text)",
    "CREATE TABLE users (id int PRIMARY KEY, kind_id int REFERENCES kinds,"
    " boss_id int REFERENCES users, is_test_data bool NOT NULL DEFAULT false)",
    "CREATE TABLE options (user_id int REFERENCES users, value text)",
)
# Rows of a table without the flag; one without the flag in a table with it, and a reference to it.
KINDS = "INSERT INTO kinds VALUES (1, 'one'), (2, 'two')"
ADMIN = (
    "INSERT INTO users VALUES (1, 1, NULL, false), (2, 1, NULL, true)",
    "INSERT INTO options VALUES (1, 'of the admin')",
)
MADE = "making the tables of project shop in a new database, for perf tests"


@dataclass
class Shop:
    """A project in a folder of its own, and its target."""

    folder: Path
    target: Target
    said: list[str]

    @property
    def url(self) -> str:
        return self.target.conninfo

    @property
    def name(self) -> str:
        return str(run(self.url, "SELECT current_database()")[0][0])

    def revise(self, revision: str, *statements: str, parent: str | None = None) -> None:
        text = REVISION.format(revision=revision, parent=parent, statements=statements)
        (self.folder / "migrations" / "versions" / f"{revision}.py").write_text(text)

    def migrate(self) -> None:
        assert self.target.project is not None
        make_tables(self.url, self.target.project)

    def clone(
        self, *queries: str, name: str = "hundred"
    ) -> tuple[bool, list[list[tuple[object, ...]]]]:
        """Make a clone; return whether its template is new, and the answers to the queries."""
        with Clones(self.target, {}, self._report) as clones:
            prepared = clones.template(name)
            url = clones.make(prepared.template)
            return prepared.rows is not None, [run(url, query) for query in queries]

    def _report(self, event: Event) -> None:
        if event.total is None:  # else it is the progress of a table
            self.said.append(event.text)


@pytest.fixture
def make_shop(tmp_path: Path, databases: Databases) -> Callable[[str], Shop]:
    def make(template: str = "template0", boss: str = "1", users: str = "users") -> Shop:
        name = f"shop_perf_{next(_numbers)}"
        (tmp_path / "migrations" / "versions").mkdir(parents=True)
        (tmp_path / "migrations" / "env.py").write_text(ENV_PY)
        (tmp_path / f"{name}.py").write_text(PROJECT.format(boss=boss, users=users))
        (tmp_path / "pyproject.toml").write_text(f'[tool.perfdata]\nproject = "{name}"\n')
        url = databases.make(template)
        environ = {
            "PERFDATA_HOME": str(tmp_path / "home"),
            "PERFDATA_DATABASE_URL": url,
            "PERFDATA_ALLOW": entry(url),
        }
        mark_owned(url)
        return Shop(tmp_path, Target(Settings.load(tmp_path, environ), url, embedded=False), [])

    return make


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    """A shop whose migrations insert all that the dataset's rows reference, built."""
    made = make_shop()
    made.revise("first", *TABLES, KINDS, *ADMIN)
    made.migrate()
    build_dataset(made.target, "hundred")
    return made


def test_the_template_has_what_migrations_insert_and_nothing_else_of_the_target(
    shop: Shop,
) -> None:
    """Whatever stands in the target's tables, and whoever is connected to it."""
    run(
        shop.url,
        "CREATE FUNCTION by_hand() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "INSERT INTO kinds VALUES (3, 'by hand')",
        "INSERT INTO users VALUES (500, 3, NULL)",
        "INSERT INTO options VALUES (500, 'references a row that is no test data')",
    )
    with psycopg.connect(shop.url):
        new, (kinds, users, options, functions) = shop.clone(
            "SELECT id FROM kinds ORDER BY id",
            "SELECT count(*), count(*) FILTER (WHERE is_test_data), max(id) FROM users",
            "SELECT * FROM options",
            "SELECT count(*) FROM pg_proc WHERE proname = 'by_hand'",
        )
    assert new
    assert (kinds, users) == ([(1,), (2,)], [(101, 100, 101)])
    assert (options, functions) == ([(1, "of the admin")], [(0,)])
    assert run(shop.url, "SELECT count(*) FROM users") == [(102,)]


def test_the_template_is_found_again_until_the_migrations_change(shop: Shop) -> None:
    assert shop.clone()[0]
    run(shop.url, "INSERT INTO kinds VALUES (3, 'by hand')", "CREATE TABLE by_hand (id int)")
    assert not shop.clone()[0]
    create_snapshot(shop.url, "copy", settings=shop.target.settings)
    assert shop.clone(name="copy")[0]
    assert shop.said == [MADE], "of another snapshot only the rows are loaded"
    shop.revise("second", "ALTER TABLE users ADD email text", parent="first")
    shop.migrate()
    assert shop.clone("SELECT count(email) FROM users") == (True, [[(0,)]])
    run(shop.url, f"ALTER DATABASE {shop.name} SET work_mem = '5MB'")
    assert shop.clone("SHOW work_mem") == (True, [[("5MB",)]])


def test_the_template_is_made_again_after_a_file_that_migrations_read_was_edited(
    shop: Shop,
) -> None:
    file = shop.folder / "migrations" / "index.sql"
    file.write_text("CREATE INDEX of_kind ON users (kind_id)")
    read = "open(__file__.replace('versions/second.py', 'index.sql')).read()"
    shop.revise("second", "SELECT 1", parent="first")
    second = shop.folder / "migrations" / "versions" / "second.py"
    second.write_text(second.read_text() + f"    op.execute({read})\n")
    shop.migrate()
    query = "SELECT count(*) FROM pg_index WHERE indrelid = 'users'::regclass"
    assert shop.clone(query) == (True, [[(2,)]])
    assert shop.clone(query) == (False, [[(2,)]])
    file.write_text("SELECT 1")
    assert shop.clone(query) == (True, [[(1,)]])


COMMAND = """
from dataclasses import replace
from perfdata import Migrations

project = replace(project, migrations=Migrations(
    command=["touch", "ran"], files="migrations/versions/*.py", applied="SELECT 'first.py'",
))
"""


def test_a_command_of_the_projects_own_is_not_run_on_a_server_given_by_url(
    make_shop: Callable[..., Shop],
) -> None:
    """It can't be held to the new database there: it could migrate any other."""
    shop = make_shop(boss="\\\\N")
    (module,) = shop.folder.glob("shop_perf_*.py")
    module.write_text(module.read_text() + COMMAND)
    shop.revise("first", *TABLES)
    run(shop.url, *TABLES, KINDS)
    build_dataset(shop.target, "hundred")
    assert shop.clone("SELECT count(*) FROM users") == (True, [[(100,)]])
    assert not (shop.folder / "ran").exists()


def test_migrations_run_with_the_settings_and_the_locale_of_the_target(
    make_shop: Callable[..., Shop], databases: Databases, target: Target
) -> None:
    create = "CREATE DATABASE of_libc TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'C'"
    run(target.conninfo, create)
    databases.made.append("of_libc")
    shop = make_shop("of_libc", users="app.users")
    run(shop.url, "CREATE SCHEMA app", f"ALTER DATABASE {shop.name} SET search_path = app, public")
    shop.revise("first", "CREATE SCHEMA IF NOT EXISTS app", *TABLES, KINDS, *ADMIN)
    shop.migrate()
    build_dataset(shop.target, "hundred")
    locale = (
        "SELECT datlocprovider::text, datcollate, datctype, encoding FROM pg_database"
        " WHERE datname = current_database()"
    )
    new, (users, found) = shop.clone("SELECT count(*) FROM app.users", locale)
    assert (new, users, shop.said) == (True, [(101,)], [MADE])
    assert found == run(shop.url, locale)
    assert found[0][0] == "c"


def test_where_the_target_has_rows_that_only_it_has_it_is_cloned_and_that_is_said(
    make_shop: Callable[..., Shop],
) -> None:
    """Rows that the dataset's rows reference, and that no migration inserts."""
    shop = make_shop(boss="\\\\N")
    shop.revise("first", *TABLES)
    shop.migrate()
    run(shop.url, KINDS)
    build_dataset(shop.target, "hundred")
    new, (kinds, users) = shop.clone("SELECT count(*) FROM kinds", "SELECT count(*) FROM users")
    assert (new, kinds, users) == (True, [(2,)], [(100,)])
    assert shop.said[-1].startswith("the template of hundred is a clone of test_")
    assert "kinds" in shop.said[-1]
    assert not shop.clone()[0]


def test_where_migrations_can_not_run_twice_the_target_is_cloned(
    make_shop: Callable[..., Shop], target: Target
) -> None:
    shop = make_shop(boss="\\\\N")
    role = f"shop_role_{next(_numbers)}"
    shop.revise("first", *TABLES, KINDS, f"CREATE ROLE {role}")
    shop.migrate()
    try:
        build_dataset(shop.target, "hundred")
        assert shop.clone("SELECT count(*) FROM users") == (True, [[(100,)]])
        assert f'role "{role}" already exists' in shop.said[-1]
        assert unfinished(shop) == []
    finally:
        run(target.conninfo, f"DROP ROLE {role}")


@pytest.mark.parametrize("boss", ["\\\\N", "1"])
def test_a_missing_snapshot_is_built_without_writing_to_the_target_if_its_rows_allow(
    make_shop: Callable[..., Shop], boss: str
) -> None:
    """Rows that reference one without the flag need it: they are built where it is."""
    shop = make_shop(boss=boss)
    shop.revise("first", *TABLES, KINDS, ADMIN[0])
    shop.migrate()
    assert shop.clone("SELECT count(*) FROM users") == (True, [[(101,)]])
    users = run(shop.url, "SELECT count(*) FROM users")
    assert users == ([(101,)] if boss == "1" else [(2,)])
    assert (f"building hundred in {shop.name}, not in its clone: " in " ".join(shop.said)) == (
        boss == "1"
    )


def test_a_missing_snapshot_is_built_in_the_target_while_it_is_in_use(
    make_shop: Callable[..., Shop],
) -> None:
    shop = make_shop(boss="\\\\N")
    shop.revise("first", *TABLES, KINDS, ADMIN[0])
    shop.migrate()
    with psycopg.connect(shop.url):
        assert shop.clone("SELECT count(*) FROM users") == (True, [[(101,)]])
    assert run(shop.url, "SELECT count(*) FROM users") == [(101,)]


def unfinished(shop: Shop) -> list[str]:
    with psycopg.connect(shop.url, dbname="postgres", autocommit=True) as connection:
        found = list_databases(PsycopgLink(connection))
    return [
        one.name
        for one in found
        if one.mark and one.mark.kind is Kind.WORK and one.mark.target == shop.name
    ]


def test_what_a_killed_run_left_unfinished_is_removed_by_the_next(shop: Shop) -> None:
    with psycopg.connect(shop.url, dbname="postgres", autocommit=True) as connection:
        link = PsycopgLink(connection)
        database = find_target(link, shop.url, shop.name, shop.target.settings)
        create_database(database, read_blueprint(database))
    assert len(unfinished(shop)) == 1
    assert shop.clone()[0]
    assert unfinished(shop) == []
