"""N+1 in whole pytest sessions: one key a statement is red, parts of a long list are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.inner import Pytest

SCENARIOS = """
import pytest
from sqlalchemy import any_, bindparam, select, update
from sqlalchemy.orm import foreign, load_only, relationship, selectinload

from perfdata.welfare.models import Office, OfficeWelfareRecipient
from perfdata.welfare.models import SupportPlanCycle, WelfareRecipient

pytestmark = pytest.mark.perf(dataset="100_offices")
WelfareRecipient.cycles = relationship(
    SupportPlanCycle,
    primaryjoin=WelfareRecipient.id == foreign(SupportPlanCycle.welfare_recipient_id),
    viewonly=True,
)
ROWS = 5_500  # eleven of the parts that selectinload makes of a list: two more than may repeat
IDS = select(WelfareRecipient.id).order_by(WelfareRecipient.id)
EAGER = (
    select(WelfareRecipient)
    .options(load_only(WelfareRecipient.id))
    .options(selectinload(WelfareRecipient.cycles).load_only(SupportPlanCycle.id))
)

@pytest.fixture(scope="session")
def perf_async_driver():
    return "asyncpg"

def test_selectinload(perf):
    assert len(perf(lambda session: session.scalars(EAGER.limit(ROWS)).all())) == ROWS

def test_selectinload_on_asyncpg(perf):
    async def scenario(session):
        return (await session.scalars(EAGER.limit(ROWS))).all()

    assert len(perf(scenario)) == ROWS

def test_selectinload_by_hundreds(perf):
    query = EAGER.limit(2_000).execution_options(yield_per=100)
    perf(lambda session: sum(1 for _ in session.scalars(query)))

def parts(keys, size):
    return [keys[n : n + size] for n in range(0, len(keys), size)]

@pytest.mark.perf(on="psycopg")
def test_arrays(perf):
    def scenario(connection):
        query = "SELECT id FROM welfare_recipients LIMIT %s"
        keys = [key for (key,) in connection.execute(query, [ROWS])]
        for part in parts(keys, 500):
            connection.execute("SELECT id FROM welfare_recipients WHERE id = ANY(%s)", [part])
    perf(scenario)

def test_batches_of_updates(perf):
    def scenario(session):
        query = update(WelfareRecipient.__table__).values(first_name="x")
        query = query.where(WelfareRecipient.id == bindparam("key"))
        keys = session.scalars(IDS.limit(1_500)).all()
        for part in parts(keys, 150):
            session.connection().execute(query, [{"key": key} for key in part])
    perf(scenario)

def test_red_one_key(perf):
    def scenario(session):
        for key in session.scalars(IDS.limit(12)).all():
            session.get(WelfareRecipient, key)
    perf(scenario)

def test_red_some_keys(perf):
    def scenario(session):
        for part in parts(session.scalars(IDS.limit(300)).all(), 12):
            where = WelfareRecipient.id.in_(part)
            session.scalars(select(WelfareRecipient.last_name).where(where)).all()
    perf(scenario)

@pytest.mark.perf(on="psycopg")
def test_red_short_arrays(perf):
    def scenario(connection):
        keys = [key for (key,) in connection.execute("SELECT id FROM welfare_recipients LIMIT 99")]
        for part in parts(keys, 9):
            connection.execute("SELECT id FROM welfare_recipients WHERE id = ANY(%s)", [part])
    perf(scenario)

def test_red_one_office_with_the_same_long_list(perf):
    def scenario(session):
        keys = session.scalars(IDS.limit(200)).all()
        for office in session.scalars(select(Office.id).limit(13)).all():
            of = OfficeWelfareRecipient
            both = of.office_id == office, of.welfare_recipient_id.in_(keys)
            session.execute(select(of.id).where(*both)).all()
    perf(scenario)
"""


def test_parts_of_a_list_are_green_and_single_keys_are_red(inner: Pytest) -> None:
    inner.write(test_repeats=SCENARIOS)
    code, said = inner.run()
    assert code == 1
    verdicts = {name: one["verdict"] for name, one in inner.results().items()}
    red = {name for name, verdict in verdicts.items() if verdict == "regressed"}
    assert red == {name for name in verdicts if name.startswith("test_red")}, said
    assert len(verdicts) == 9, said
    for calls in (12, 25, 11, 13):
        assert f"sent one statement {calls} times with {calls} different parameters" in said
