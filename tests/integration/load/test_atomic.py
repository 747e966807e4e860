"""What the owner of the tables needs for a create and a restore; what is missing is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perfdata import PrivilegesError, Settings, create_snapshot, restore_snapshot
from tests.integration.databases import run
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    State = Callable[[str], tuple[str, Any, Any]]

NAME = "atomic"
FLAG = "is_test_data boolean NOT NULL DEFAULT false"
SCHEMA = (
    f"CREATE TABLE parent (id serial PRIMARY KEY, name text UNIQUE, {FLAG})",
    f"CREATE TABLE child (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {FLAG},"
    " parent_id int NOT NULL REFERENCES parent ON DELETE CASCADE,"
    " sister_id int REFERENCES child DEFERRABLE INITIALLY DEFERRED)",
    "COMMENT ON CONSTRAINT child_parent_id_fkey ON child IS 'kept'",
    "CREATE INDEX child_parent ON child (parent_id)",
    "CREATE INDEX parent_lower ON parent (lower(name)) WHERE is_test_data",
    "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
    "CREATE TRIGGER fires BEFORE INSERT ON child FOR EACH ROW EXECUTE FUNCTION no()",
    "CREATE TRIGGER always AFTER UPDATE ON child FOR EACH ROW EXECUTE FUNCTION no()",
    "ALTER TABLE child ENABLE ALWAYS TRIGGER always",
    "CREATE MATERIALIZED VIEW names AS SELECT name FROM parent",
)
ROWS = (
    "INSERT INTO parent (name, is_test_data) SELECT 'p' || g, true FROM generate_series(1, 20) g",
    "INSERT INTO child (parent_id, sister_id, is_test_data)"
    " SELECT g, 21 - g, true FROM generate_series(1, 20) g",
)
# What a restore is to replace: other rows, and sequences that stand elsewhere.
CHANGED = (
    "UPDATE child SET sister_id = NULL",
    "DELETE FROM child WHERE id > 7",
    "UPDATE parent SET name = 'changed' WHERE id = 1",
    "ALTER SEQUENCE parent_id_seq RESTART WITH 2",
    "ALTER TABLE child ALTER id RESTART WITH 3",
    "REFRESH MATERIALIZED VIEW names",
)
STAYING = "INSERT INTO parent (id, name) VALUES (1000, 'real')"


@pytest.fixture
def prepared(empty_url: str, settings: Settings) -> Iterator[str]:
    """A database from which a snapshot was made, and which has changed since."""
    run(empty_url, *SCHEMA, *ROWS)
    path = create_snapshot(empty_url, NAME, settings=settings, replace=True).path
    run(empty_url, *CHANGED)
    yield empty_url
    path.unlink()


@pytest.fixture
def owner(prepared: str) -> Iterator[str]:
    """A URL for a role that owns the tables and may do nothing else."""
    name = "plain_owner"
    run(prepared, f"CREATE ROLE {name} LOGIN")
    with psycopg.connect(prepared) as connection:
        (database,) = connection.execute("SELECT current_database()").fetchone() or ("",)
    run(
        prepared,
        *(f"ALTER TABLE {table} OWNER TO {name}" for table in ("parent", "child")),
        f"ALTER MATERIALIZED VIEW names OWNER TO {name}",
        f"GRANT USAGE, CREATE ON SCHEMA public TO {name}",
    )
    yield prepared.replace("//perfdata@", f"//{name}@")
    run(
        prepared,
        f"REASSIGN OWNED BY {name} TO perfdata",
        f"DROP OWNED BY {name}",
        f'REVOKE ALL ON DATABASE "{database}" FROM {name}',
        f"DROP ROLE {name}",
    )


@pytest.mark.parametrize("beside", [True, False], ids=["beside", "whole"])
def test_who_owns_the_tables_needs_nothing_more(
    owner: str,
    prepared: str,
    settings: Settings,
    state: State,
    beside: bool,
) -> None:
    allowed = Settings(root=settings.root, home=settings.home, allow=(entry(owner, "*"),))
    if beside:
        run(prepared, STAYING)
    schema = state(prepared)[0]
    restored = restore_snapshot(owner, NAME, settings=allowed)
    assert restored.rows == {"parent": 20, "child": 20}
    assert restored.strategy == ("beside other data" if beside else "whole tables")
    assert state(prepared)[0] == schema
    create_snapshot(owner, NAME, settings=allowed, replace=True)


@pytest.mark.parametrize(
    ("statements", "given_by"),
    [
        (["ALTER TABLE child OWNER TO perfdata",
          "GRANT SELECT ON child TO plain_owner"],
         ["ALTER TABLE child OWNER TO plain_owner;  -- now owned by perfdata; its keys and "
          "triggers are dropped and recreated",
          "-- or, instead of each ALTER: GRANT perfdata TO plain_owner;"]),
        (["REVOKE TRUNCATE ON parent FROM plain_owner"],
         ["GRANT TRUNCATE ON parent TO plain_owner;"]),
        (["REVOKE REFERENCES, INSERT ON parent FROM plain_owner",
          "REVOKE SELECT ON child FROM plain_owner"],
         ["GRANT SELECT ON child TO plain_owner;",
          "GRANT INSERT, REFERENCES ON parent TO plain_owner;"]),
        (["ALTER SEQUENCE parent_id_seq OWNED BY NONE",
          "ALTER SEQUENCE parent_id_seq OWNER TO perfdata"],
         ["ALTER SEQUENCE parent_id_seq OWNER TO plain_owner;  -- now owned by perfdata; its "
          "next value is set",
          "-- or, instead of each ALTER: GRANT perfdata TO plain_owner;"]),
    ],
)  # fmt: skip
def test_each_privilege_that_is_missing_is_named_with_what_gives_it(
    owner: str,
    prepared: str,
    settings: Settings,
    state: State,
    statements: list[str],
    given_by: list[str],
) -> None:
    run(prepared, *statements)
    before = state(prepared)
    allowed = Settings(root=settings.root, home=settings.home, allow=(entry(owner, "*"),))
    with pytest.raises(PrivilegesError) as caught:
        restore_snapshot(owner, NAME, settings=allowed)
    first, *lines = str(caught.value).splitlines()
    assert first.startswith(
        "refused, nothing was touched: role plain_owner lacks some of the privileges"
    )
    assert [line.strip() for line in lines] == list(caught.value.statements) == given_by
    assert state(prepared) == before
    run(prepared, *caught.value.statements)
    restore_snapshot(owner, NAME, settings=allowed)


def test_of_a_neighbour_nothing_is_asked_that_empties_it(
    owner: str, prepared: str, settings: Settings
) -> None:
    """A key ties it to a table that is filled: it is locked, and its rows stay."""
    run(
        prepared,
        'CREATE SCHEMA "o.ther"; CREATE TABLE "o.ther"."ki.nds" (id int PRIMARY KEY)',
        'ALTER TABLE child ADD kind int REFERENCES "o.ther"."ki.nds"',
    )
    allowed = Settings(root=settings.root, home=settings.home, allow=(entry(owner, "*"),))
    create_snapshot(prepared, "neighbour", settings=allowed, replace=True)
    with pytest.raises(PrivilegesError) as caught:
        restore_snapshot(owner, "neighbour", settings=allowed)
    with psycopg.connect(prepared) as connection:
        lock = "MAINTAIN" if connection.info.server_version >= 170000 else "UPDATE"
    assert list(caught.value.statements) == [
        'GRANT USAGE ON SCHEMA "o.ther" TO plain_owner;',
        f'GRANT SELECT, REFERENCES, {lock} ON "o.ther"."ki.nds" TO plain_owner;  -- a foreign key '
        "ties it to a table that is filled",
    ]
    run(prepared, *caught.value.statements)
    restore_snapshot(owner, "neighbour", settings=allowed)


def test_sequences_that_may_not_be_read_are_named_by_a_create(
    owner: str, prepared: str, settings: Settings
) -> None:
    run(prepared, 'CREATE SEQUENCE "Free"')
    with pytest.raises(PrivilegesError) as caught:
        create_snapshot(owner, "unread", all_rows=True, settings=settings)
    assert list(caught.value.statements) == ['GRANT SELECT ON SEQUENCE "Free" TO plain_owner;']


def test_rows_that_may_not_be_read_are_named_by_a_create(
    owner: str, prepared: str, settings: Settings
) -> None:
    run(prepared, "REVOKE SELECT ON child FROM plain_owner")
    with pytest.raises(PrivilegesError, match=r"\n  GRANT SELECT ON child TO plain_owner;"):
        create_snapshot(owner, "unread", settings=settings)
