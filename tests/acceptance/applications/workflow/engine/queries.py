"""What the engine asks its database."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.tables import flows, runs


async def failed_runs(session: AsyncSession) -> list[tuple[str, int]]:
    """Return the number of failed runs of the first twenty flows."""
    found = await session.execute(
        select(flows.c.name, func.count(runs.c.id))
        .join(runs, runs.c.flow_id == flows.c.id)
        .where(runs.c.state == "failed")
        .group_by(flows.c.name)
        .order_by(flows.c.name)
        .limit(20)
    )
    return [(name, count) for name, count in found]


async def latest_run(session: AsyncSession, name: str) -> str | None:
    """Return the state of a flow's latest run."""
    return await session.scalar(
        select(runs.c.state)
        .join(flows, runs.c.flow_id == flows.c.id)
        .where(flows.c.name == name)
        .order_by(runs.c.started_at.desc())
        .limit(1)
    )


async def states_of_flows(session: AsyncSession) -> list[str | None]:
    """Return the states of the latest runs of twelve flows."""
    found = await session.execute(
        select(runs.c.flow_id, runs.c.state)
        .distinct(runs.c.flow_id)
        .order_by(runs.c.flow_id, runs.c.started_at.desc())
        .limit(12)
    )
    return [state for _, state in found]
