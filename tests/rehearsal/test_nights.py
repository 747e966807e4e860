"""Five nights of nightly.yml, one after another, as its own steps run them.

Night 1 has nothing in the cache; night 2 has what night 1 left; before night 3 comes a new
migration; before night 4 somebody puts another migration's snapshot under the right key; before
night 5 a scenario regresses, and the cache is lost.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rehearsal.conftest import Origin
    from tests.rehearsal.runner import GitHub, JobResult, Run

LEGS = ("embedded", "postgres-18")
PROVIDE = "Provide the snapshot"
SNAPSHOT = ".perfdata/snapshots/100_offices.json.zst"
MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "0004_note"
down_revision = "0003_performance_indexes"


def upgrade():
    op.add_column("offices", sa.Column("note", sa.Text))
"""


def night(github: GitHub) -> Run:
    return github.run("nightly.yml", "schedule")


@pytest.fixture(scope="module")
def night_1(github: GitHub) -> Run:
    return night(github)


@pytest.fixture(scope="module")
def night_2(github: GitHub, night_1: Run) -> Run:
    assert night_1
    return night(github)


@pytest.fixture(scope="module")
def night_3(github: GitHub, origin: Origin, night_2: Run) -> Run:
    assert night_2
    versions = origin.folder / "perfdata" / "welfare" / "migrations" / "versions"
    (versions / "0004_note.py").write_text(MIGRATION, encoding="utf-8")
    origin.commit("Give offices a note")
    return night(github)


@pytest.fixture(scope="module")
def night_4(github: GitHub, night_1: Run, night_3: Run) -> Run:
    shutil.copy2(cached(github, key(night_1)), cached(github, key(night_3)))
    return night(github)


@pytest.fixture(scope="module")
def night_5(github: GitHub, origin: Origin, night_4: Run) -> Run:
    assert night_4
    github.cache.entries.clear()
    reading = origin.folder / "perfdata" / "welfare" / "scenarios" / "reading.py"
    text = reading.read_text(encoding="utf-8")
    assert "selectinload(Staff.offices" in text
    reading.write_text(text.replace("selectinload", "lazyload"), encoding="utf-8")
    origin.commit("Load each member of staff's offices with a query of its own")
    return night(github)


def key(run: Run) -> str:
    """Return the key of a night's snapshot: that of its newest entry but the histories."""
    return run.job("snapshot").steps[f"{PROVIDE} / Make the key"].outputs["key"]


def cached(github: GitHub, of: str) -> Path:
    return github.cache.place(of, SNAPSHOT) / SNAPSHOT


def outcomes(job: JobResult, *names: str) -> list[str]:
    return [job.steps[f"{PROVIDE} / {name}"].outcome for name in names]


def green(run: Run) -> bool:
    logs = "\n".join(leg.output for job in run.jobs.values() for leg in job.values())
    assert {run.result(name) for name in run.jobs} == {"success"}, logs
    return True


def test_night_1_misses_builds_and_saves(github: GitHub, night_1: Run) -> None:
    assert green(night_1)
    job = night_1.job("snapshot")
    assert job.steps[PROVIDE].outputs["cache-hit"] == "false"
    assert "nothing is cached under perfdata-pg18-" in job.output
    built = ("Build it", "Save it in the cache")
    assert outcomes(job, *built) == ["success", "success"]
    assert "built 32,101 rows" in job.output
    assert (key(night_1), SNAPSHOT) in github.cache.entries


def test_night_2_hits_and_builds_nothing(night_1: Run, night_2: Run) -> None:
    assert green(night_2)
    job = night_2.job("snapshot")
    assert key(night_2) == key(night_1)
    assert job.steps[PROVIDE].outputs["cache-hit"] == "true"
    assert outcomes(job, "Build it", "Save it in the cache") == ["skipped", "skipped"]
    for leg in LEGS:
        perf = night_2.job("perf", leg)
        assert "built 100_offices" not in perf.output
        assert "restored 100_offices: 32,101 rows" in perf.steps["Restore"].output
        assert perf.summary.startswith("## ✅ 8 scenarios, none regressed")


def test_each_leg_runs_on_its_own_server(night_2: Run) -> None:
    embedded, service = (night_2.job("perf", leg) for leg in LEGS)
    assert embedded.steps["Use the service container"].outcome == "skipped"
    assert "perfdata on the embedded server" in embedded.steps["Restore"].output
    assert "perfdata@127.0.0.1:" in service.steps["Restore"].output


def test_the_history_of_each_leg_grows_by_a_line_a_night(night_1: Run, night_2: Run) -> None:
    for leg in LEGS:
        lines = [
            (run.artifacts / f"perf-{leg}" / "history.jsonl").read_text("utf-8").splitlines()
            for run in (night_1, night_2)
        ]
        assert [len(one) for one in lines] == [1, 2]
        assert lines[1][0] == lines[0][0]
        assert len(json.loads(lines[1][1])["scenarios"]) == 8


def test_the_results_are_kept(night_2: Run) -> None:
    for leg in LEGS:
        kept = {path.name for path in (night_2.artifacts / f"perf-{leg}").iterdir()}
        assert kept >= {"perf.json", "history.jsonl", "summary.md", "junit.xml", "benchmark.json"}
        report = (night_2.artifacts / f"perf-{leg}" / "report.html").read_text("utf-8")
        assert "8 scenarios, none regressed" in report
        assert report.count("<svg ") == 8, "the rounds of each"


def test_night_3_has_another_migration_and_so_another_key(
    github: GitHub, night_2: Run, night_3: Run
) -> None:
    assert green(night_3)
    job = night_3.job("snapshot")
    assert key(night_3) != key(night_2)
    assert job.steps[PROVIDE].outputs["cache-hit"] == "false"
    assert outcomes(job, "Build it", "Save it in the cache") == ["success", "success"]
    assert "migration 0004_note" in job.steps[f"{PROVIDE} / Make the key"].output
    assert (key(night_3), SNAPSHOT) in github.cache.entries


def test_night_4_finds_the_poisoned_entry_out_and_builds(night_3: Run, night_4: Run) -> None:
    assert green(night_4)
    job = night_4.job("snapshot")
    assert key(night_4) == key(night_3)
    assert job.steps[f"{PROVIDE} / Look in the cache"].outputs["cache-hit"] == "true"
    assert job.steps[PROVIDE].outputs["cache-hit"] == "false"
    check = job.steps[f"{PROVIDE} / Check what the cache handed over"].output
    assert "only in the project: 0004_note" in check
    assert f"Remove it with: gh cache delete {key(night_4)}" in check
    assert outcomes(job, "Build it") == ["success"]
    for leg in LEGS:
        assert "built 100_offices" not in night_4.job("perf", leg).output


def test_night_5_is_red_and_keeps_snapshot_and_results_all_the_same(
    github: GitHub, night_5: Run
) -> None:
    assert night_5.result("snapshot") == "success"
    assert night_5.result("perf") == "failure"
    assert (key(night_5), SNAPSHOT) in github.cache.entries
    for leg in LEGS:
        perf = night_5.job("perf", leg)
        assert perf.steps["Measure"].outcome == "failure"
        assert perf.steps["Keep the results"].outcome == "success"
        assert perf.steps["Keep the history"].outcome == "success"
        document = json.loads((night_5.artifacts / f"perf-{leg}" / "perf.json").read_text("utf-8"))
        verdicts = {one["scenario"]: one["verdict"] for one in document["scenarios"]}
        assert [name for name, one in verdicts.items() if one == "regressed"] == ["staff_directory"]
        assert perf.summary.startswith("## ❌ 1 of 8 scenarios regressed")
        assert "queries, max_queries is 2" in perf.summary


def test_a_red_night_opens_one_issue_and_a_green_one_closes_it(
    github: GitHub, night_4: Run, night_5: Run
) -> None:
    assert "report" in night_4.jobs
    (opened,) = json.loads(github.issues.read_text("utf-8"))["issues"]
    assert opened["open"]
    assert opened["title"] == "The nightly perf run is red"
    assert opened["texts"][0].startswith("snapshot: success, perf: failure (https://")
    assert night_5.job("report").result == "success"
    github.run("nightly.yml", "schedule", only={"snapshot": "failure", "perf": "skipped"})
    github.run("nightly.yml", "schedule", only={"snapshot": "success", "perf": "success"})
    github.run("nightly.yml", "schedule", only={"snapshot": "success", "perf": "success"})
    (closed,) = json.loads(github.issues.read_text("utf-8"))["issues"]
    assert not closed["open"]
    assert [text.partition(" ")[0] for text in closed["texts"]] == ["snapshot:", "Still", "Green"]


def test_a_run_by_hand_takes_another_dataset_builds_it_again_and_reports_nothing(
    github: GitHub,
) -> None:
    inputs: dict[str, str | bool] = {"dataset": "10_offices", "rebuild": True}
    for _ in range(2):
        run = github.run("nightly.yml", "workflow_dispatch", inputs=inputs)
        job = run.job("snapshot")
        assert job.result == "success", job.output
        names = ("Look in the cache", "Build it", "Save it in the cache")
        assert outcomes(job, *names) == ["skipped", "success", "success"]
        assert "built again, as was asked for" in job.output
        assert (run.artifacts / "snapshot" / "10_offices.json.zst").is_file()
        assert run.job("report").result == "skipped"
        for leg in LEGS:
            assert "| deadline\\_alerts | 10\\_offices |" in run.job("perf", leg).summary
