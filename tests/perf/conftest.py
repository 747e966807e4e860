"""What the scenarios are about, looked up in the dataset: nothing depends on its ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from perfdata.welfare.models import Office, SupportPlanCycle

if TYPE_CHECKING:
    import uuid

    from sqlalchemy.orm import Session


@pytest.fixture
def office_id(perf_session: Session) -> uuid.UUID:
    """An office that is neither deleted nor deactivated, the same in each run."""
    active = select(Office.id).where(Office.is_deleted.is_(False), Office.deactivated_at.is_(None))
    return perf_session.scalars(active.order_by(Office.id)).first() or pytest.fail("no office")


@pytest.fixture
def cycle_id(perf_session: Session, office_id: uuid.UUID) -> int:
    """A latest cycle of that office."""
    latest = select(SupportPlanCycle.id).where(
        SupportPlanCycle.office_id == office_id, SupportPlanCycle.is_latest_cycle
    )
    return perf_session.scalars(latest.order_by(SupportPlanCycle.id)).first() or pytest.fail(
        "no cycle"
    )
