"""The asynchronous API, as applications on asyncio and FastAPI use it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
import pytest
import pytest_asyncio
from fastapi import Depends, FastAPI
from httpx import ASGITransport, AsyncClient
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

import perfdata
from perfdata import BoundaryError, ConfigError, LoadError, Settings, aio
from perfdata.aio import create_snapshot, restore_snapshot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

pytestmark = pytest.mark.slow

DRIVERS = ("psycopg", "asyncpg")


@pytest.fixture
def snapshot(settings: Settings, loaded_url: Callable[[str], str]) -> Iterator[str]:
    path = perfdata.create_snapshot(
        loaded_url("100_offices"), "100_offices", settings=settings, replace=True
    ).path
    yield "100_offices"
    path.unlink(missing_ok=True)


@pytest_asyncio.fixture(params=DRIVERS)
async def engine(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(
        database_url.replace("postgresql:", f"postgresql+{request.param}:")
    )
    yield engine
    await engine.dispose()


async def count(session: Any, table: str = "offices") -> int:
    return int((await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())


def committed(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM offices").fetchone()
    assert row
    return int(row[0])


@pytest.mark.asyncio
async def test_a_session_is_joined_and_rolled_back(
    engine: AsyncEngine, snapshot: str, settings: Settings, database_url: str
) -> None:
    async with AsyncSession(engine) as session:
        restored = await restore_snapshot(session, snapshot, settings=settings)
        assert restored.strategy == "whole tables"
        assert await count(session) == 100
        assert await count(session, "support_plan_cycles") == 10_000
        await session.rollback()
        assert await count(session) == 0
    assert committed(database_url) == 0


@pytest.mark.asyncio
async def test_what_a_session_commits_stays(
    engine: AsyncEngine, snapshot: str, settings: Settings, database_url: str
) -> None:
    async with AsyncSession(engine) as session, session.begin():
        await restore_snapshot(session, snapshot, settings=settings)
    assert committed(database_url) == 100


@pytest.mark.asyncio
async def test_a_refusal_leaves_the_session_usable(
    engine: AsyncEngine, snapshot: str, settings: Settings
) -> None:
    async with AsyncSession(engine) as session:
        await restore_snapshot(session, snapshot, settings=settings)
        await session.execute(text("SET LOCAL lock_timeout = '7s'"))
        with pytest.raises(BoundaryError, match="same key as an existing row that is kept"):
            await restore_snapshot(session, snapshot, clean_existing=False, settings=settings)
        assert await count(session) == 100
        assert (await session.execute(text("SHOW lock_timeout"))).scalar_one() == "7s"


@pytest.mark.asyncio
async def test_create_through_every_driver_gives_the_same_body(
    engine: AsyncEngine,
    snapshot: str,
    settings: Settings,
    database_url: str,
    own: Callable[[str], None],
) -> None:
    own(database_url)  # where indexes are rebuilt, so that they have the same pages
    before = perfdata.find_snapshot(snapshot, settings).manifest.body
    perfdata.restore_snapshot(database_url, snapshot, settings=settings)
    async with AsyncSession(engine) as session:
        made = await create_snapshot(session, "through", settings=settings)
    made.path.unlink()
    assert made.manifest.body == before


@pytest.mark.asyncio
async def test_whole_tables_with_rows_are_compared_through_every_driver(
    engine: AsyncEngine, settings: Settings, database_url: str
) -> None:
    chosen = replace(settings, whole_tables=("pair",))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE pair (id int, note text)")
        connection.execute("INSERT INTO pair VALUES (1, 'with, a comma')")
    made = perfdata.create_snapshot(database_url, "pairs", settings=chosen, replace=True)
    async with AsyncSession(engine) as session:
        restored = await restore_snapshot(session, "pairs", settings=chosen)
        assert restored.rows["pair"] == 1
    made.path.unlink()


@pytest.mark.asyncio
async def test_every_asynchronous_form_is_taken(
    snapshot: str, settings: Settings, database_url: str
) -> None:
    await restore_snapshot(database_url, snapshot, settings=settings)
    assert committed(database_url) == 100
    engine = create_async_engine(database_url.replace("postgresql:", "postgresql+asyncpg:"))
    await restore_snapshot(engine, snapshot, settings=settings)
    async with engine.connect() as connection:
        await restore_snapshot(connection, snapshot, settings=settings)
        await connection.rollback()
    await engine.dispose()
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await restore_snapshot(connection, snapshot, settings=settings)
        await connection.rollback()
    assert committed(database_url) == 100


@pytest.mark.asyncio
async def test_a_synchronous_connection_is_sent_to_the_synchronous_api(
    snapshot: str, settings: Settings, database_url: str
) -> None:
    said = "for synchronous ones use the functions of perfdata"
    with psycopg.connect(database_url) as connection, pytest.raises(ConfigError, match=said):
        await restore_snapshot(connection, snapshot, settings=settings)


@pytest.mark.asyncio
async def test_a_cancelled_restore_is_undone_in_the_database(
    snapshot: str, settings: Settings, database_url: str
) -> None:
    """It waits for a lock; after the cancellation nothing of it goes on."""
    with psycopg.connect(database_url, autocommit=True) as holder, holder.transaction():
        holder.execute("SELECT count(*) FROM offices")
        task = asyncio.create_task(restore_snapshot(database_url, snapshot, settings=settings))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        with psycopg.connect(database_url, autocommit=True) as watcher:
            while watcher.execute(waiting).fetchone() == (0,):
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert watcher.execute(waiting).fetchone() == (0,)
    assert committed(database_url) == 0


@pytest.mark.asyncio
async def test_what_the_server_refuses_has_the_same_words(
    engine: AsyncEngine, snapshot: str, settings: Settings
) -> None:
    async with AsyncSession(engine) as session:
        await session.execute(text("ALTER TABLE offices ADD CHECK (name = 'x')"))
        with pytest.raises(LoadError, match="violates check constraint") as caught:
            await restore_snapshot(session, snapshot, settings=settings)
        assert "Failing row contains" in str(caught.value)
        assert await count(session) == 0


@pytest.mark.asyncio
async def test_the_store_is_there_too(snapshot: str, settings: Settings) -> None:
    assert snapshot in [one.name for one in await aio.list_snapshots(settings)]
    assert await aio.snapshot_exists(snapshot, settings)
    await aio.delete_snapshot(snapshot, settings)
    assert not await aio.snapshot_exists(snapshot, settings)


def test_all_is_what_is_there() -> None:
    assert set(aio.__all__) <= set(dir(aio))
    assert aio.__all__ == sorted(aio.__all__)


# FastAPI's usual fixture: one connection, its transaction never committed, and a session that
# the application may commit as it likes.
app = FastAPI()


async def get_session() -> AsyncSession:
    raise AssertionError("the test gives its own")


@app.get("/offices")
async def read_offices(session: Annotated[AsyncSession, Depends(get_session)]) -> int:
    return await count(session)


@app.delete("/cycles")
async def delete_cycles(session: Annotated[AsyncSession, Depends(get_session)]) -> None:
    await session.execute(text("DELETE FROM support_plan_cycles"))
    await session.commit()


@pytest_asyncio.fixture
async def session(engine: AsyncEngine, database_url: str) -> AsyncIterator[AsyncSession]:
    async with engine.connect() as connection:
        transaction = await connection.begin()
        maker = async_sessionmaker(bind=connection, join_transaction_mode="create_savepoint")
        async with maker() as session:
            app.dependency_overrides[get_session] = lambda: session
            yield session
        app.dependency_overrides.clear()
        await transaction.rollback()
    assert committed(database_url) == 0


@pytest.mark.asyncio
@pytest.mark.usefixtures("snapshot")
async def test_an_application_works_on_the_restored_rows(
    session: AsyncSession, settings: Settings
) -> None:
    await restore_snapshot(session, "100_offices", settings=settings)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        assert (await client.get("/offices")).json() == 100
        assert (await client.delete("/cycles")).status_code == 200
    assert await count(session, "support_plan_cycles") == 0
