"""What a tables' owner wrote never runs with the rights of a role that is more than it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from invoke.exceptions import Exit
from sqlalchemy.ext.asyncio import create_async_engine

from perfdata import (
    BoundaryError,
    RefusedError,
    ServerRefusedError,
    TableRows,
    Target,
    UserCodeError,
    aio,
    append_rows,
    build_dataset,
    create_snapshot,
    diff_snapshots,
    restore_snapshot,
    verify_snapshot,
)
from perfdata.migrations.history import database_heads
from perfdata.postgres.connection import open_link
from perfdata.postgres.url import normalise_url
from perfdata.snapshot.build import preview_build
from perfdata.snapshot.options import RestoreOptions
from perfdata.tasks.dry_run import tell_restore
from tests.integration.databases import run
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from perfdata import Settings

pytestmark = pytest.mark.slow

NAME = "rights"
FLAG = "is_test_data boolean"
TABLES = (
    f"CREATE TABLE parent (code varchar(9) PRIMARY KEY, {FLAG})",
    f"CREATE TABLE child (id int PRIMARY KEY, code varchar(9) REFERENCES parent, {FLAG})",
    "CREATE TABLE other (code varchar(9) REFERENCES parent)",
    "CREATE SEQUENCE numbers OWNED BY child.id",
    "INSERT INTO parent VALUES ('test', true), ('real', false)",
    "INSERT INTO child VALUES (1, 'test', true), (2, 'real', true), (3, 'real', NULL)",
)
# What mallory has of pg_catalog's is called where the path, or a closer match, leads to it: twins
# of its operators, functions and views. Only types that somebody may write are among them.
SHADOWS = r"""
DO $do$
DECLARE one record; ran text := $$BEGIN RAISE EXCEPTION 'mallory ran as %', current_user; END$$;
BEGIN
  CREATE FUNCTION public.boom() RETURNS text LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION 'mallory ran as %', current_user; END$$;
  FOR one IN
    SELECT o.oprname AS name, o.oprleft::regtype AS l, o.oprright::regtype AS r, o.oid
    FROM pg_operator o JOIN pg_type a ON a.oid = o.oprleft JOIN pg_type b ON b.oid = o.oprright
    WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND a.typtype <> 'p' AND b.typtype <> 'p'
      AND o.oprname <> '=>'
    UNION SELECT n, t::regtype, u::regtype, 0
    FROM unnest('{=,<>,~,!~,<,>=,+,||,/}'::text[]) n,
      unnest('{varchar,text,name,bpchar,"char",int,oid}'::text[]) t,
      unnest('{varchar,text,name,bpchar,"char",int,oid}'::text[]) u
  LOOP
    BEGIN
      EXECUTE format('CREATE FUNCTION public.twin(l %s, r %s) RETURNS boolean
        LANGUAGE plpgsql AS %L', one.l, one.r, ran);
    EXCEPTION WHEN duplicate_function THEN NULL;
    END;
    BEGIN
      EXECUTE format('CREATE OPERATOR public.%s
        (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.twin)', one.name, one.l, one.r);
    EXCEPTION WHEN duplicate_function THEN NULL;
    END;
  END LOOP;
  FOR one IN
    SELECT p.proname AS name, pg_get_function_identity_arguments(p.oid) AS arguments
    FROM pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind <> 'p' AND p.pronargs < 4
      AND p.proname !~ '(in|out|recv|send|sel|cmp|larg|support)$'
  LOOP
    BEGIN
      EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS boolean LANGUAGE plpgsql AS %L',
        one.name, one.arguments, ran);
    EXCEPTION WHEN OTHERS THEN NULL;  -- of a pseudo-type
    END;
  END LOOP;
  FOR one IN SELECT relname AS name FROM pg_class
    WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v')
  LOOP
    EXECUTE format('CREATE VIEW public.%I AS SELECT public.boom()', one.name);
  END LOOP;
END $do$"""


@pytest.fixture
def own(settings: Settings, tmp_path: Path, empty_url: str) -> Settings:
    """Snapshots of the test's own, databases allowed by name, no project."""
    allow = (entry(empty_url),)
    return replace(settings, home=tmp_path, allow=allow, database_url=empty_url, configured=False)


@pytest.fixture
def mallory(empty_url: str) -> Iterator[Callable[..., str]]:
    """Return a function that runs statements as the owner of a database, and returns its URL."""
    with psycopg.connect(empty_url) as connection:
        name = connection.info.dbname
    role = f"mallory_{name}"
    run(
        empty_url,
        f"CREATE ROLE {role} LOGIN",
        f"ALTER DATABASE {name} OWNER TO {role}",
        f"GRANT ALL ON SCHEMA public TO {role}",
    )
    url = empty_url.replace("perfdata@", f"{role}@", 1)

    def act(*statements: str) -> str:
        run(url, *statements)
        return url

    yield act
    _remove_copies(empty_url, name)
    run(empty_url, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


def _remove_copies(url: str, name: str) -> None:
    """Remove what fresh restores made, and give the database back."""
    postgres = url.replace(f"/{name}?", "/postgres?")
    for other, template in run(
        postgres,
        "SELECT datname, datistemplate FROM pg_database"
        f" WHERE strpos(shobj_description(oid, 'pg_database'), '{name}') > 0"
        f" AND datname <> '{name}'",
    ):
        if template:
            run(postgres, f'ALTER DATABASE "{other}" IS_TEMPLATE false')
        run(postgres, f'DROP DATABASE "{other}"')
    run(postgres, f"ALTER DATABASE {name} OWNER TO perfdata", f"ALTER DATABASE {name} RESET ALL")


def dry(url: str, own: Settings, **options: Any) -> None:
    settings = replace(own, database_url=url)
    try:
        tell_restore(
            settings, NAME, RestoreOptions(**options), may_build=False, report=lambda _: None
        )
    except Exit as end:
        raise end.__cause__ or end from None


def restore(url: str, own: Settings, **options: Any) -> None:
    restored = restore_snapshot(url, NAME, settings=own, **options)
    assert not [note for note in restored.notes if "without fresh=True" in note]


def joined(url: str, own: Settings) -> None:
    with psycopg.connect(url) as connection:
        restore_snapshot(connection, NAME, settings=own)


def autocommitted(url: str, own: Settings) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        restore_snapshot(connection, NAME, settings=own)


USES: dict[str, Callable[[str, Settings], Any]] = {
    "dry": dry,
    "dry fresh": lambda url, own: dry(url, own, fresh=True),
    "restore": restore,
    "restore fresh": lambda url, own: restore(url, own, fresh=True),
    "restore beside all": lambda url, own: restore(url, own, clean_existing=True),
    "joined": joined,
    "autocommit": autocommitted,
    "create": lambda url, own: create_snapshot(url, "more", settings=own, replace=True),
    "create all": lambda url, own: create_snapshot(
        url, "more", all_rows=True, settings=own, replace=True
    ),
    "verify": lambda url, own: verify_snapshot(NAME, own, database=url),
    "diff": lambda url, own: diff_snapshots(NAME, database=url, settings=own),
}


@pytest.mark.parametrize("use", USES)
def test_nothing_that_the_owner_shadowed_runs(
    empty_url: str, own: Settings, mallory: Callable[..., str], use: str
) -> None:
    mallory(*TABLES)
    if "fresh" in use:  # which takes no row that references what it would lose
        mallory("DELETE FROM child WHERE code = 'real'")
    create_snapshot(empty_url, NAME, settings=own)
    (name,) = run(empty_url, "SELECT current_database()")[0]
    mallory(
        "SET search_path TO pg_catalog",
        SHADOWS,
        f"ALTER DATABASE {name} SET search_path TO public, pg_catalog",
    )
    with pytest.raises(psycopg.errors.RaiseException, match="mallory ran as perfdata"):
        run(empty_url, "SELECT FROM parent p JOIN child c ON p.code = c.code")
    USES[use](empty_url, own)


RISE = """
CREATE FUNCTION public.same(l varchar, r varchar) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  BEGIN
    ALTER ROLE {role} SUPERUSER;
  EXCEPTION WHEN OTHERS THEN NULL;
  END;
  RETURN l::text OPERATOR(pg_catalog.=) r::text;
END $$"""
EQUAL = "CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = same)"


@pytest.mark.parametrize("use", ["dry", "restore", "create", "verify", "diff"])
def test_an_operator_of_the_owner_makes_no_superuser_of_it(
    empty_url: str, own: Settings, mallory: Callable[..., str], use: str
) -> None:
    url = mallory(*TABLES)
    create_snapshot(empty_url, NAME, settings=own)
    mallory(RISE.format(role=_role(url)), EQUAL)
    USES[use](empty_url, own)
    superuser = f"SELECT rolsuper FROM pg_roles WHERE rolname = '{_role(url)}'"
    assert run(empty_url, superuser) == [(False,)]


def _role(url: str) -> str:
    found = re.match(r"postgresql://(\w+)@", url)
    assert found
    return found[1]


@pytest.mark.asyncio
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("begun", [False, True])
async def test_no_operator_of_the_owner_is_used_over_asynchronous_drivers(
    empty_url: str, own: Settings, mallory: Callable[..., str], driver: str, begun: bool
) -> None:
    mallory(*TABLES)
    create_snapshot(empty_url, NAME, settings=own)
    mallory(
        "CREATE FUNCTION public.same(l varchar, r varchar) RETURNS boolean LANGUAGE plpgsql AS"
        " $$BEGIN RAISE EXCEPTION 'mallory ran'; END$$",
        EQUAL,
    )
    engine = create_async_engine(empty_url.replace("postgresql:", f"postgresql+{driver}:"))
    async with engine.connect() as connection:
        database = connection if begun else engine
        await aio.restore_snapshot(database, NAME, settings=own)
        await aio.verify_snapshot(NAME, own, database=database)
        path = await connection.exec_driver_sql("SHOW search_path")
        assert path.scalar_one() == '"$user", public'
        await connection.commit()
    await engine.dispose()


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize("local", [False, True])
def test_a_caller_has_its_own_search_path_back(
    empty_url: str, own: Settings, mallory: Callable[..., str], autocommit: bool, local: bool
) -> None:
    """Also after a refusal that ends no transaction, and after its own commit."""
    mallory(*TABLES)
    create_snapshot(empty_url, NAME, settings=own)
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("SET search_path TO public, pg_temp")
        connection.autocommit = autocommit
        expected = "public, pg_temp"
        if local and not autocommit:
            connection.execute("SET LOCAL search_path TO pg_temp, public")
            expected = "pg_temp, public"

        def path() -> str:
            return str((connection.execute("SHOW search_path").fetchone() or ("",))[0])

        restore_snapshot(connection, NAME, settings=own)
        assert path() == expected
        create_snapshot(connection, "more", settings=own)
        assert path() == expected
        connection.execute("INSERT INTO other VALUES ('test')")
        with pytest.raises(RefusedError, match="1 of other"):
            restore_snapshot(connection, NAME, settings=own)
        assert path() == expected
        if not autocommit:
            connection.commit()
        assert path() == "public, pg_temp"


def test_a_caller_has_its_own_search_path_back_after_what_the_server_refused(
    empty_url: str, mallory: Callable[..., str]
) -> None:
    mallory(*TABLES)
    with psycopg.connect(empty_url) as connection:
        connection.execute("SET search_path TO public")
        connection.commit()
        connection.execute("SELECT 1")
        with pytest.raises(ServerRefusedError):
            append_rows(connection, [TableRows("parent", ("code",), [b"1234567890\n"])])
        assert connection.execute("SHOW search_path").fetchone() == ("public",)


UNQUALIFIED = (
    "CREATE SCHEMA app",
    "SET search_path TO app, public",
    "CREATE FUNCTION app.least_length() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 2'",
    "CREATE FUNCTION app.long_enough(t text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS"
    " 'BEGIN RETURN length(t) >= least_length(); END'",
    "CREATE FUNCTION app.shout(t text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS"
    " 'BEGIN IF long_enough(t) THEN RETURN upper(t); END IF; RETURN t; END'",
    "CREATE DOMAIN app.word AS text CHECK (long_enough(value))",
    "CREATE TABLE public.words (id int PRIMARY KEY, word word,"
    " note text CHECK (long_enough(note)),"
    f" loud text GENERATED ALWAYS AS (shout(note)) STORED, {FLAG})",
    "CREATE INDEX ON words (shout(note)) WHERE long_enough(note)",
    "CREATE INDEX ON words (note)",
    f"CREATE TABLE public.said (word int REFERENCES words, {FLAG})",
    "INSERT INTO words (id, word, note, is_test_data)"
    " SELECT g, 'word ' || g, 'note ' || g, g < 30 FROM generate_series(1, 40) g",
    "INSERT INTO said SELECT g, true FROM generate_series(1, 40) g",
)


@pytest.mark.parametrize("way", ["beside", "whole", "fresh", "appended"])
def test_users_code_finds_its_functions_by_the_databases_own_path(
    empty_url: str, own: Settings, way: str
) -> None:
    """In checks, domains, generated columns, and indexes that a load would like to build again."""
    run(empty_url, *UNQUALIFIED)
    (name,) = run(empty_url, "SELECT current_database()")[0]
    run(empty_url, f"ALTER DATABASE {name} SET search_path TO app, public")
    if way in ("whole", "fresh"):
        run(empty_url, "DELETE FROM said WHERE word >= 30; DELETE FROM words WHERE id >= 30")
    create_snapshot(empty_url, NAME, settings=own)
    if way == "appended":
        append_rows(empty_url, [TableRows("words", ("id", "word", "note"), [b"99\tword\tnote\n"])])
        with pytest.raises(ServerRefusedError, match="violates check constraint"):
            append_rows(empty_url, [TableRows("words", ("id", "note"), [b"98\tn\n"])])
    else:
        fresh = way == "fresh"
        restored = restore_snapshot(empty_url, NAME, fresh=fresh, settings=own)
        assert restored.rows["words"] == 29
    loud = "SELECT bool_and(loud = upper(note)), count(*) > 28 FROM words"
    assert run(empty_url, loud) == [(True, True)]
    found = "SELECT id FROM words WHERE app.shout(note) = 'NOTE 3' AND app.long_enough(note)"
    assert run(empty_url, "SET enable_seqscan = off", found) == [(3,)]


def test_an_index_that_calls_a_function_of_the_users_is_not_built_again(
    empty_url: str, own: Settings
) -> None:
    run(empty_url, *UNQUALIFIED)
    (name,) = run(empty_url, "SELECT current_database()")[0]
    run(empty_url, f"ALTER DATABASE {name} SET search_path TO app, public",
        "DELETE FROM said WHERE word >= 30; DELETE FROM words WHERE id >= 30")  # fmt: skip
    create_snapshot(empty_url, NAME, settings=own)
    indexes = "SELECT relname, oid FROM pg_class WHERE relname LIKE 'words%idx%' ORDER BY 1"
    before = dict(run(empty_url, indexes))
    restore_snapshot(empty_url, NAME, rebuild_indexes=True, settings=own)
    after = dict(run(empty_url, indexes))
    same = {name for name in before if before[name] == after[name]}
    assert same == {"words_shout_idx"}
    assert before.keys() == after.keys() == {"words_shout_idx", "words_note_idx"}


BOOM = (
    "CREATE FUNCTION boom(t text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS"
    " $$BEGIN IF current_user !~ '^mallory' THEN"
    " RAISE EXCEPTION 'mallory ran as %', current_user; END IF; RETURN true; END$$",
    "CREATE DOMAIN word AS text",
    f"CREATE TABLE things (id int PRIMARY KEY, name text, word word, {FLAG})",
)
PUT = "INSERT INTO things VALUES (1, 'a', 'b', true)"
DOMAIN = "CREATE DOMAIN checked AS text CHECK (boom(value))"
CAST = (
    "CREATE TYPE e AS ENUM ('a')",
    "CREATE FUNCTION boom(e) RETURNS int LANGUAGE sql AS 'SELECT 1 FROM (SELECT boom(''x'')) b'",
    "CREATE FUNCTION as_json(e) RETURNS json LANGUAGE sql AS 'SELECT to_json(boom($1))'",
    "CREATE CAST (e AS int) WITH FUNCTION boom(e) AS IMPLICIT",
    "CREATE CAST (e AS json) WITH FUNCTION as_json(e)",
)
# What calls code in a load, and what names it in the error.
CODE = {
    "check": (("ALTER TABLE things ADD CHECK (boom(name))",), "check things_name_check"),
    "operator": (
        (
            "CREATE FUNCTION boom(l text, r int) RETURNS boolean LANGUAGE sql AS 'SELECT boom(l)'",
            "CREATE OPERATOR === (LEFTARG = text, RIGHTARG = int, FUNCTION = boom)",
            "ALTER TABLE things ADD CHECK (name === 1)",
        ),
        r"check things_name_check calls public.boom\(text,integer\)",
    ),
    "default of a column that is not brought": (
        ("ALTER TABLE things ADD b boolean DEFAULT boom('x')",),
        "default b",
    ),
    "generated": (
        ("ALTER TABLE things ADD b boolean GENERATED ALWAYS AS (boom(name)) STORED",),
        "column b",
    ),
    "expression": (("CREATE INDEX i ON things (boom(name))",), "index i"),
    "predicate": (("CREATE INDEX i ON things (id) WHERE boom(name)",), "index i"),
    "statistics": (("CREATE STATISTICS s ON boom('x'), id FROM things",), "statistics s"),
    "domain": (("ALTER DOMAIN word ADD CHECK (boom(value))",), "domain word"),
    "domain in an array of composites": (
        (
            DOMAIN,
            "CREATE TYPE pair AS (one checked, two int)",
            "ALTER TABLE things ADD pairs pair[]",
        ),
        "domain checked",
    ),
    "domain in a check": (
        (DOMAIN, "ALTER TABLE things ADD CHECK (name::checked <> 'x')"),
        "domain checked",
    ),
    "range type": (
        (
            "CREATE FUNCTION apart(l text, r text) RETURNS float8 IMMUTABLE LANGUAGE sql AS"
            " 'SELECT 1.0'",
            "CREATE TYPE texts AS RANGE (subtype = text, subtype_diff = apart)",
            "ALTER TABLE things ADD span texts",
        ),
        "type texts",
    ),
    "cast that JSON uses": (
        (*CAST, "ALTER TABLE things ADD e e CHECK (to_json(e)::text IS DISTINCT FROM 'x')"),
        r"things: cast of type e calls public\.as_json\(public\.e\)",
    ),
    "cast that a foreign key uses": (
        (*CAST, "CREATE TABLE child (thing e REFERENCES things)"),
        r"child: cast of type e calls public\.as_json\(public\.e\)",
    ),
    "a function of PostgreSQL's that runs a query": (
        (
            "ALTER TABLE things ADD CHECK"
            " (ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, ''b''::tsquery') IS NOT NULL)",
        ),
        r"calls ts_rewrite\(",
    ),
    "a function of PostgreSQL's that changes a setting": (
        ("ALTER TABLE things ADD CHECK (set_config('row_security', 'on', false) = 'on')",),
        r"calls set_config\(",
    ),
}


@pytest.mark.parametrize("code", CODE)
def test_code_of_the_owner_is_refused_to_a_superuser(
    empty_url: str, own: Settings, mallory: Callable[..., str], code: str
) -> None:
    statements, named = CODE[code]
    url = mallory(*BOOM, PUT)
    create_snapshot(empty_url, NAME, settings=own)
    mallory(*statements)
    ways: tuple[dict[str, Any], ...] = ({}, {"fresh": True}, {"clean_existing": False})
    for options in ways:
        for use in (dry, restore):
            with pytest.raises(UserCodeError) as caught:
                use(empty_url, own, allow_drift=True, **options)
            said = str(caught.value)
            assert re.search(named, said), said
            assert "refused, nothing was touched" in said
            assert f"(role {_role(url)})" in said
            assert f"Use the URL of the role that owns the tables ({_role(url)})" in said
            assert "as_superuser=True" in said
            assert "mallory ran" not in said


def test_a_type_that_is_named_by_text_is_code_too(
    empty_url: str, own: Settings, mallory: Callable[..., str]
) -> None:
    if run(empty_url, "SELECT current_setting('server_version_num')::int")[0][0] < 160000:
        pytest.skip("pg_input_is_valid came with 16")
    mallory(*BOOM, PUT)
    create_snapshot(empty_url, NAME, settings=own)
    mallory(DOMAIN, "ALTER TABLE things ADD CHECK (pg_input_is_valid(name, 'checked'))")
    with pytest.raises(UserCodeError, match=r"calls pg_input_is_valid\("):
        restore(empty_url, own)


def test_tables_beside_a_file_of_all_rows_are_judged_before_they_are_read(
    empty_url: str, own: Settings, mallory: Callable[..., str]
) -> None:
    """Whether they hold rows is asked, and planning that question would run the index's code."""
    mallory(*BOOM)
    create_snapshot(empty_url, NAME, settings=own, all_rows=True)
    mallory("CREATE TABLE other (id int)", "CREATE INDEX i ON other ((boom('x')))")
    with pytest.raises(UserCodeError, match="other: index i calls"):
        restore(empty_url, own)


def test_a_table_that_inherits_from_alembics_is_not_read(
    empty_url: str, mallory: Callable[..., str]
) -> None:
    mallory(
        BOOM[0],
        "CREATE TABLE alembic_version (version_num varchar(32) NOT NULL)",
        "CREATE TABLE kid () INHERITS (alembic_version)",
        "CREATE INDEX i ON kid ((boom('x')))",
    )
    with pytest.raises(psycopg.errors.RaiseException, match="mallory ran as perfdata"):
        run(empty_url, "SELECT version_num FROM alembic_version")
    with open_link(empty_url) as link:
        assert database_heads(link) == ()


def test_what_planning_a_query_runs_is_refused_where_rows_are_only_read(
    empty_url: str, own: Settings, mallory: Callable[..., str]
) -> None:
    """An immutable function of constants runs when a query is planned, as whoever reads."""
    mallory(*BOOM, PUT)
    create_snapshot(empty_url, NAME, settings=own)
    mallory("CREATE INDEX i ON things ((boom('x')), name)")
    with pytest.raises(psycopg.errors.RaiseException, match="mallory ran as perfdata"):
        run(empty_url, "SELECT count(*) FROM ONLY things")
    for use in ("create", "create all", "verify", "diff"):
        with pytest.raises(UserCodeError, match=r"things: index i calls public.boom\(text\)"):
            USES[use](empty_url, own)


def test_checks_do_not_run_where_rows_are_only_read(
    empty_url: str, own: Settings, mallory: Callable[..., str]
) -> None:
    mallory(*BOOM, PUT, *CODE["check"][0])
    mallory(
        f"CREATE TABLE parts (id int, name text, {FLAG}) PARTITION BY LIST (id)",
        "CREATE TABLE part PARTITION OF parts DEFAULT",
        "ALTER TABLE parts ADD CHECK (boom('x'))",
    )
    for use in ("create", "create all"):
        USES[use](empty_url, own)


HARMLESS = (
    # Users' triggers are disabled in a load.
    "CREATE FUNCTION changes() RETURNS trigger LANGUAGE plpgsql AS"
    " $$BEGIN RAISE EXCEPTION 'mallory ran as %', current_user; END$$",
    "CREATE TRIGGER t AFTER INSERT ON things FOR EACH ROW EXECUTE FUNCTION changes()",
    # Every column comes, so that no default is asked for.
    "ALTER TABLE things ALTER name SET DEFAULT boom('x')::text, ALTER id SET DEFAULT 1",
    "CREATE SEQUENCE numbers; ALTER TABLE things ADD number int DEFAULT nextval('numbers')",
    "ALTER TABLE things ADD made uuid DEFAULT gen_random_uuid(), ADD at timestamptz DEFAULT now()",
    "ALTER TABLE things ADD CHECK (lower(name) <> 'x' AND length(name) > 0)",
    "CREATE INDEX ON things (lower(name)) WHERE id > 0",
)


def test_what_only_computes_or_does_not_run_is_no_code_to_refuse(
    empty_url: str, own: Settings, mallory: Callable[..., str]
) -> None:
    mallory(*BOOM, PUT)
    run(
        empty_url,
        "CREATE FUNCTION admins(t text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true'",
    )
    create_snapshot(empty_url, NAME, settings=own)
    mallory(*HARMLESS, "ALTER TABLE things ADD CHECK (admins(name))")
    for fresh in (False, True):
        restore(empty_url, own, fresh=fresh, allow_drift=True)
    assert run(empty_url, "SELECT id, number > 0, made IS NOT NULL FROM things") == [
        (1, True, True)
    ]


def test_a_superusers_volatile_function_that_is_given_arguments_is_refused(
    empty_url: str, own: Settings, mallory: Callable[..., str]
) -> None:
    """As dblink_exec is: whoever may choose its arguments chooses what a superuser does by it."""
    mallory(*BOOM, PUT)
    create_snapshot(empty_url, NAME, settings=own)
    run(
        empty_url,
        "CREATE FUNCTION runs(t text) RETURNS boolean LANGUAGE plpgsql AS"
        " $$BEGIN EXECUTE t; RETURN true; END$$",
    )
    mallory("ALTER TABLE things ADD CHECK (runs('SELECT 1'))")
    with pytest.raises(UserCodeError, match=r"calls public.runs\(text\)"):
        restore(empty_url, own)


def test_code_of_another_role_on_a_table_of_this_one_is_refused(
    empty_url: str, own: Settings, mallory: Callable[..., str]
) -> None:
    """Whoever owns a function says what it does."""
    mallory(BOOM[0])
    run(empty_url, *BOOM[1:], PUT)
    create_snapshot(empty_url, NAME, settings=own)
    run(empty_url, "ALTER TABLE things ADD CHECK (boom(name)) NOT VALID")
    with pytest.raises(UserCodeError, match=r"check things_name_check calls public\.boom"):
        restore(empty_url, own)


def test_the_owner_itself_may_and_so_may_a_superuser_that_says_so(
    empty_url: str, own: Settings, mallory: Callable[..., str]
) -> None:
    url = mallory(*BOOM, PUT)
    create_snapshot(empty_url, NAME, settings=own)
    mallory("ALTER TABLE things ADD CHECK (boom(name)) NOT VALID")
    dry(url, own)
    restore(url, own)
    dry(empty_url, own, as_superuser=True)
    with pytest.raises(ServerRefusedError, match="mallory ran as perfdata"):
        restore(empty_url, own, as_superuser=True)


def test_setting_a_role_does_not_help_and_being_it_does(
    empty_url: str, own: Settings, mallory: Callable[..., str]
) -> None:
    url = mallory(*BOOM, PUT)
    create_snapshot(empty_url, NAME, settings=own)
    mallory("ALTER TABLE things ADD CHECK (boom(name)) NOT VALID")
    with psycopg.connect(empty_url) as connection:
        connection.execute(f"SET ROLE {_role(url)}")
        with pytest.raises(UserCodeError, match="role perfdata would run code"):
            restore_snapshot(connection, NAME, settings=own)
    with psycopg.connect(url) as connection:
        restore_snapshot(connection, NAME, settings=own)


def test_a_role_that_has_the_owners_rights_and_its_own_is_refused_too(
    empty_url: str, own: Settings, mallory: Callable[..., str]
) -> None:
    """And not where the owner may act as that role."""
    url = mallory(*BOOM, PUT)
    create_snapshot(empty_url, NAME, settings=own)
    mallory("ALTER TABLE things ADD CHECK (boom(name)) NOT VALID")
    owner, member = _role(url), f"{_role(url)}_member"
    run(empty_url, f"CREATE ROLE {member} LOGIN IN ROLE {owner}")
    member_url = url.replace(f"{owner}@", f"{member}@")
    try:
        with pytest.raises(UserCodeError, match=rf"role {member} would run code"):
            restore(member_url, own)
        run(empty_url, f"REVOKE {owner} FROM {member}; GRANT {member} TO {owner}")
        mallory(f"GRANT ALL ON things TO {member}")
        restore(member_url, own)
    finally:
        run(empty_url, f"DROP OWNED BY {member}; DROP ROLE {member}")


def test_a_build_is_refused_before_it_makes_a_row(
    database_url: str, settings: Settings, tmp_path: Path
) -> None:
    own = replace(settings, home=tmp_path, allow=(entry(database_url),))
    target = Target(own, normalise_url(database_url), embedded=True)
    run(
        database_url,
        "CREATE ROLE mallory",
        BOOM[0],
        "ALTER FUNCTION boom OWNER TO mallory",
        "ALTER TABLE offices ADD CHECK (boom(name)) NOT VALID",
    )
    try:
        with pytest.raises(UserCodeError, match="offices: check offices_name_check calls"):
            build_dataset(target, "10_offices")
        with pytest.raises(UserCodeError, match="offices: check offices_name_check calls"):
            preview_build(target, "10_offices", RestoreOptions())
        assert run(database_url, "SELECT count(*) FROM offices") == [(0,)]
        preview_build(target, "10_offices", RestoreOptions(as_superuser=True))
        with pytest.raises(ServerRefusedError, match="mallory ran as perfdata"):
            build_dataset(target, "10_offices", as_superuser=True)
    finally:
        run(database_url, "DROP OWNED BY mallory CASCADE; DROP ROLE mallory")


LEAST = re.compile(r"^## Roles and privileges$.*?^```sql$\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("fresh", [False, True])
def test_the_least_role_of_the_documentation_is_enough(
    empty_url: str, own: Settings, pytestconfig: pytest.Config, fresh: bool
) -> None:
    """Its statements are run as they stand there, and its owner restores, creates and compares."""
    found = LEAST.search((pytestconfig.rootpath / "docs" / "safety.md").read_text("utf-8"))
    assert found
    (name,) = run(empty_url, "SELECT current_database()")[0]
    statements = found[1].replace("app_database", name)
    ordinary, _, for_fresh = statements.partition("-- for --fresh")
    run(
        empty_url,
        f"REVOKE ALL ON DATABASE {name} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC",
        ordinary,
    )
    url = empty_url.replace("perfdata@", "app_owner@")
    try:
        run(
            url,
            *TABLES,
            "CREATE FUNCTION fine(t text) RETURNS boolean LANGUAGE plpgsql AS"
            " 'BEGIN RETURN true; END'",
            "ALTER TABLE parent ADD CHECK (fine(code))",
            "CREATE FUNCTION changes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "CREATE TRIGGER t AFTER INSERT ON child FOR EACH ROW EXECUTE FUNCTION changes()",
            "CREATE MATERIALIZED VIEW codes AS SELECT code FROM child",
            "DELETE FROM child WHERE code = 'real'",
        )
        if fresh:
            run(empty_url, f"--{for_fresh}")
        create_snapshot(url, NAME, settings=own)
        dry(url, own, fresh=fresh)
        restore(url, own, fresh=fresh)
        verify_snapshot(NAME, own, database=url)
        assert diff_snapshots(NAME, database=url, settings=own).same
        attributes = "rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls, rolcreatedb"
        rights = run(empty_url, f"SELECT {attributes} FROM pg_roles WHERE rolname = 'app_owner'")
        assert rights == [(False, fresh)]
    finally:
        _remove_copies(empty_url, name)
        run(empty_url, "DROP OWNED BY app_owner CASCADE; DROP ROLE app_owner")


KEYED = (
    "CREATE TYPE mood AS ENUM ('fine', 'bad')",
    "CREATE DOMAIN code AS char(4) CHECK (boom(value::text))",
    f"CREATE TABLE moods (mood mood, code code, PRIMARY KEY (mood, code), {FLAG})",
    f"CREATE TABLE felt (id int PRIMARY KEY, mood mood, code code, {FLAG},"
    " FOREIGN KEY (mood, code) REFERENCES moods)",
    "INSERT INTO moods VALUES ('fine', 'ab', false), ('bad', 'ab', true)",
    "INSERT INTO felt VALUES (1, 'fine', 'ab', true), (2, 'bad', 'ab', true)",
)


def test_types_of_the_owners_are_compared_without_its_casts_and_checks(
    empty_url: str, own: Settings, mallory: Callable[..., str]
) -> None:
    """Rows that are required, or that reference what goes, are found by them all the same."""
    url = mallory(BOOM[0], *KEYED)
    made = create_snapshot(empty_url, NAME, settings=own)
    assert [one.keys for one in made.manifest.requires] == [[["fine", "ab  "]]]
    mallory(
        "CREATE FUNCTION told(m mood) RETURNS text IMMUTABLE LANGUAGE plpgsql AS"
        " $$BEGIN RAISE EXCEPTION 'mallory ran'; END$$",
        "CREATE CAST (mood AS text) WITH FUNCTION told AS ASSIGNMENT",
    )
    assert create_snapshot(empty_url, "more", settings=own).manifest.requires
    dry(empty_url, own, as_superuser=True)
    restore(url, own)
    mallory("INSERT INTO felt VALUES (3, 'bad', 'ab', false)")
    with pytest.raises(BoundaryError, match="felt → moods"):
        dry(empty_url, own, as_superuser=True)
    mallory("DELETE FROM felt WHERE id IN (1, 3); DELETE FROM moods WHERE mood = 'fine'")
    with pytest.raises(RefusedError, match=r"moods \(felt_mood_code_fkey\): fine/ab"):
        dry(empty_url, own, as_superuser=True)
