"""What a perf test asks for and could not be measured is not ok, and fails a strict run."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from tests.integration.databases import mark_owned, run
from tests.integration.inner import entry, own_frames
from tests.processes import run_script

if TYPE_CHECKING:
    from tests.integration.inner import Pytest

pytestmark = pytest.mark.slow

SCENARIOS = """
import pytest
from sqlalchemy import text

pytestmark = pytest.mark.perf(dataset="10_offices")

@pytest.mark.perf(max_buffers=500)
def test_two_connections(perf):
    def two_connections(session):
        session.execute(text("SELECT count(*) FROM offices"))
        with perf.engine.connect() as connection:
            connection.execute(text("SELECT count(*) FROM staffs"))

    perf(two_connections)

def test_one_connection(perf):
    perf(lambda session: session.execute(text("SELECT count(*) FROM offices")))
"""
WHY = "two_connections on 10_offices: max_buffers could not be judged: several connections"


def test_a_budget_that_could_not_be_judged_is_said_and_fails_a_strict_run(inner: Pytest) -> None:
    inner.write(test_two=SCENARIOS)
    home = {"PERFDATA_HOME": str(inner.home)}
    passed = run_script(inner.folder, "perfdata", "perf.run", "--json", **home)
    assert passed.returncode == 0, passed.stderr
    verdicts = {one["scenario"]: one["verdict"] for one in json.loads(passed.stdout)}
    assert verdicts == {"two_connections": "not_judged", "one_connection": "no_baseline"}
    assert f"warning: {WHY}" in passed.stderr
    assert "NOT JUDGED: two_connections: " in passed.stderr
    assert inner.results()["test_one_connection"]["incomplete_counters"] == []

    strict = run_script(inner.folder, "perfdata", "perf.run", "--strict", **home)
    assert strict.returncode == 1, strict.stdout
    assert "1 failed, 1 passed" in strict.stdout

    code, said = inner.run("--perf-strict", "--junitxml", "junit.xml")
    assert code == 1
    assert f"\n{WHY}" in said
    assert own_frames(said) == []
    properties = {
        one.attrib["name"]: one.attrib["value"]
        for one in ET.parse(inner.folder / "junit.xml").iter("property")  # noqa: S314  pytest's own
    }
    assert properties["perfdata.two_connections.verdict"] == "not_judged"
    assert properties["perfdata.two_connections.not_judged"].startswith("max_buffers could not")
    assert "perfdata.one_connection.not_judged" not in properties


BUDGETS = """
import pytest
from sqlalchemy import text

@pytest.mark.perf(dataset="100_offices", max_buffers=500, max_growth=1.1)
def test_offices(perf):
    def count_offices(session):
        return session.scalar(text("SELECT count(*) FROM offices"))

    assert perf(count_offices) == 100
"""


def test_a_row_in_a_table_without_the_flag_turns_nothing_off(
    inner: Pytest, database_url: str
) -> None:
    """Clones, plans, buffers and growth are there, and the row is as it was."""
    mark_owned(database_url)
    run(
        database_url,
        "CREATE TABLE notes (office_id uuid NOT NULL REFERENCES offices)",
        "INSERT INTO staffs (id, email, hashed_password, full_name, role)"
        " VALUES (gen_random_uuid(), 'real@real.test', 'x', 'real', 'owner')",
        "INSERT INTO offices (id, name, type, created_by, last_modified_by)"
        " SELECT gen_random_uuid(), 'real', 'type_A_office', id, id FROM staffs",
        "INSERT INTO notes SELECT id FROM offices",
    )
    before = run(database_url, "SELECT o, n FROM notes n JOIN offices o ON o.id = n.office_id")
    inner.write(test_offices=BUDGETS)
    where = {"PERFDATA_DATABASE_URL": database_url, "PERFDATA_ALLOW": entry(database_url)}
    code, said = inner.run("--perf-strict", **where)
    assert code == 0, said
    assert "no clones" not in said
    (result,) = inner.results().values()
    assert (result["verdict"], result["same_layout"]) == ("no_baseline", True)
    assert result["plan_source"] == "auto_explain"
    assert result["growth"].keys() == {"queries", "rows", "buffers"}
    assert [finding["message"] for finding in result["findings"]] == []
    rows = run(database_url, "SELECT o, n FROM notes n JOIN offices o ON o.id = n.office_id")
    assert rows == before
