"""Measured sessions: engines and connections on a clone, their settings, and facts about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfdata.errors import ConnectError
from perfdata.perf.model import PlanSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psycopg
    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

# Settings of a clone's sessions (POSTGRES.md, Statistics and plans). Without TIMING, ANALYZE adds
# hardly any cost to a node; log_parameter_max_length exists from PostgreSQL 16 on.
AUTO_EXPLAIN = {
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_format": "json",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_wal": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_triggers": "off",
    "auto_explain.log_verbose": "off",
    "auto_explain.log_settings": "off",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_level": "info",
    "auto_explain.sample_rate": "1",
}
LOADED = """
SELECT current_setting('auto_explain.log_min_duration', true),
  current_setting('is_superuser') = 'on'"""
_SWITCH = """
SELECT set_config('auto_explain.log_min_duration', '{}', false)
WHERE current_setting('auto_explain.log_min_duration', true) IS NOT NULL
  AND current_setting('is_superuser') = 'on'"""
SWITCHED_ON, SWITCHED_OFF = _SWITCH.format(0), _SWITCH.format(-1)
SWITCHED_ON_LOCALLY = SWITCHED_ON.replace("false)", "true)", 1)  # for one transaction

# The functions that only AFTER triggers call, as a message's context names them.
AFTER_FUNCTIONS = """
SELECT tgfoid::regprocedure::text FROM pg_trigger WHERE NOT tgisinternal
GROUP BY tgfoid HAVING bool_and(tgtype & 66 = 0)"""

_EXPLAINS = "plans and buffers come from an EXPLAIN before each statement, which is rolled back"
_NOT_LOADED = f"{_EXPLAINS}: auto_explain is not loaded in this session"
_OFF = f"{_EXPLAINS}: this role may not switch auto_explain on"
_ALWAYS_ON = (
    "times include auto_explain (about 20 µs per statement): this role may not switch it off"
)

# Otherwise plans change after some executions, or between machines (POSTGRES.md: psycopg prepares
# at the fifth execution, PostgreSQL switches to a generic plan at the eleventh).
MEASURED = {
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}
# Settings of every session of a clone. Drivers discard auto_explain's messages if nothing listens.
CLONE_SETTINGS = {**MEASURED, **AUTO_EXPLAIN}

_IN_FORCE = (*MEASURED, "server_version", "work_mem", "random_page_cost", "effective_cache_size")
_SETTINGS = f"""
SELECT name, setting FROM pg_settings WHERE name IN ({", ".join(f"'{name}'" for name in _IN_FORCE)})
ORDER BY name"""  # noqa: S608  names from above
# The columns of providers and locales differ between versions. Which characters are letters
# depends on lc_ctype alone: under C kana are not, and trigram indexes ignore them (POSTGRES.md).
_ENVIRONMENT = """
SELECT current_setting('server_version_num')::int / 10000,
  CASE to_jsonb(d) ->> 'datlocprovider' WHEN 'b' THEN 'builtin' WHEN 'i' THEN 'icu' ELSE 'libc' END,
  coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', d.datcollate)
  || CASE WHEN to_jsonb(d) ->> 'datlocprovider' IN ('b', 'i') AND d.datctype ~* 'utf-?8$'
    OR d.datctype = d.datcollate THEN '' ELSE ',' || d.datctype END,
  current_setting('block_size'), d.datname
FROM pg_database d WHERE d.datname = current_database()"""

# Queries that a session answers before it is measured.
QUESTIONS = (LOADED, AFTER_FUNCTIONS, _SETTINGS, _ENVIRONMENT)


@dataclass(frozen=True)
class SessionFacts:
    """Facts about a session: the source of its plans, its settings, its server and database.

    ``notes`` are lines for ScenarioResult.not_captured, ``after`` are the functions that only
    AFTER triggers call.
    """

    plans: PlanSource
    notes: tuple[str, ...]
    after: frozenset[str]
    settings: Mapping[str, str]
    environment: Mapping[str, str]
    database: str

    @classmethod
    def of(cls, answers: Sequence[Sequence[Sequence[Any]]]) -> SessionFacts:
        """Read the answers to QUESTIONS."""
        loaded, after, settings, ((version, provider, locale, block_size, name),) = answers
        plans, notes = _plan_source(*loaded[0])
        environment = {
            "postgresql": str(version),
            "provider": provider,
            "locale": locale,
            "block_size": block_size,
        }
        functions = frozenset(row[0] for row in after)
        in_force = {row[0]: row[1] for row in settings}
        return cls(plans, notes, functions, in_force, environment, name)


def _plan_source(level: str | None, may_switch: bool) -> tuple[PlanSource, tuple[str, ...]]:
    """Return where a session's plans come from, by its answer to LOADED, and notes on that."""
    if level is None:
        return PlanSource.EXPLAIN, (_NOT_LOADED,)
    if may_switch:
        return PlanSource.AUTO_EXPLAIN, ()
    if level == "0":
        return PlanSource.AUTO_EXPLAIN, (_ALWAYS_ON,)
    return PlanSource.EXPLAIN, (_OFF,)


def make_engine(url: str, *, explained: bool = False) -> Engine:
    """Make an engine on psycopg whose connections never prepare and have the MEASURED settings.

    ``url`` may have any form that perfdata accepts (postgresql://, postgresql+asyncpg://,
    key=value). With ``explained``, connections send the plan of each statement if they can.
    """
    from sqlalchemy import create_engine, event

    from perfdata.postgres.url import make_url, normalise_url

    engine = create_engine(
        make_url(normalise_url(url), "psycopg"), connect_args={"prepare_threshold": None}
    )
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "connect", lambda connection, _: _prepare(connection, explained=explained))
    return engine


def _connect(dialect: Any, _record: Any, args: Any, options: Any) -> Any:
    """Connect, or raise an error without the password: a traceback would show the arguments."""
    __tracebackhide__ = True
    try:
        return dialect.connect(*args, **options)
    except (dialect.loaded_dbapi.Error, OSError) as error:
        raise _unreachable(error) from None


def _unreachable(error: Exception) -> ConnectError:
    return ConnectError(f"can't connect to the clone: {' '.join(str(error).split())}")


def make_async_engine(url: str, driver: str = "psycopg", *, explained: bool = False) -> AsyncEngine:
    """Make an asynchronous engine like make_engine's, on psycopg or asyncpg."""
    from sqlalchemy import event
    from sqlalchemy.ext.asyncio import create_async_engine

    from perfdata.postgres.url import make_url, normalise_url

    # asyncpg always prepares, which force_custom_plan makes harmless.
    arguments: dict[str, Any] = {"prepare_threshold": None} if driver == "psycopg" else {}
    engine = create_async_engine(make_url(normalise_url(url), driver), connect_args=arguments)
    statements = _session_start(explained=explained)

    async def prepare(connection: Any) -> None:
        if driver == "psycopg":
            await _prepare_async(connection, explained=explained)
        else:
            for statement in statements:
                await connection.execute(statement)

    event.listen(engine.sync_engine, "do_connect", _connect)
    event.listen(engine.sync_engine, "connect", lambda made, _: made.run_async(prepare))
    return engine


def connect_psycopg(url: str, *, explained: bool = False) -> psycopg.Connection[Any]:
    """Open a psycopg connection with the settings of make_engine's connections."""
    import psycopg

    from perfdata.postgres.url import normalise_url

    __tracebackhide__ = True
    try:
        connection = psycopg.connect(normalise_url(url), prepare_threshold=None)
    except (psycopg.Error, OSError) as error:
        raise _unreachable(error) from None
    _prepare(connection, explained=explained)
    return connection


async def connect_psycopg_async(
    url: str, *, explained: bool = False
) -> psycopg.AsyncConnection[Any]:
    """Open an asynchronous psycopg connection with the settings of make_engine's connections."""
    import psycopg

    from perfdata.postgres.url import normalise_url

    __tracebackhide__ = True
    try:
        made = await psycopg.AsyncConnection.connect(normalise_url(url), prepare_threshold=None)
    except (psycopg.Error, OSError) as error:
        raise _unreachable(error) from None
    await _prepare_async(made, explained=explained)
    return made


def _session_start(*, explained: bool) -> list[str]:
    """Return the statements that prepare a new session."""
    changes = [f"SET {name} = '{value}'" for name, value in MEASURED.items()]
    return changes if explained else [*changes, SWITCHED_OFF]


def _prepare(connection: Any, *, explained: bool) -> None:
    before, connection.autocommit = connection.autocommit, True
    for statement in _session_start(explained=explained):
        connection.execute(statement)
    connection.autocommit = before


async def _prepare_async(connection: psycopg.AsyncConnection[Any], *, explained: bool) -> None:
    before = connection.autocommit
    await connection.set_autocommit(True)
    for statement in _session_start(explained=explained):
        await connection.execute(statement.encode())
    await connection.set_autocommit(before)


def ask(connection: Connection) -> SessionFacts:
    """Ask the session of a SQLAlchemy connection the QUESTIONS."""
    answers = [connection.exec_driver_sql(question).fetchall() for question in QUESTIONS]
    return SessionFacts.of(answers)
