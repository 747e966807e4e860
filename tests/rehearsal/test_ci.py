"""ci.yml: its perf job with the action that others use, and the check that sums it up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.rehearsal.test_nights import PROVIDE, SNAPSHOT

if TYPE_CHECKING:
    from tests.rehearsal.runner import GitHub

GREEN = {"check": "success", "tests": "success", "perf": "success"}


@pytest.mark.parametrize("red", [None, "check", "tests", "perf"])
def test_the_one_check_is_green_where_every_job_is(github: GitHub, red: str | None) -> None:
    results = GREEN | ({red: "failure"} if red else {})
    run = github.run("ci.yml", "push", only=results)
    assert run.result("ci") == ("failure" if red else "success")


def test_a_cache_that_hands_over_a_longer_key_is_not_believed(github: GitHub) -> None:
    """The key that was matched is compared with the one asked for; pull requests save nothing."""
    others = {"check": "success", "tests": "success"}
    first = github.run("ci.yml", "pull_request", ref="refs/pull/1/merge", only=others).job("perf")
    assert first.result == "success", first.output
    assert github.cache.entries == []
    asked = first.steps[f"{PROVIDE} / Make the key"].outputs["key"]
    built = github.folder / "machines" / "perf" / "work"
    github.cache.save(built, {"key": f"{asked}-longer", "path": SNAPSHOT})
    second = github.run("ci.yml", "push", only=others).job("perf")
    assert second.result == "success", second.output
    check = second.steps[f"{PROVIDE} / Check what the cache handed over"].output
    assert f"the cache handed over {asked}-longer where {asked} was asked for" in check
    assert second.steps[f"{PROVIDE} / Build it"].outcome == "success"
    assert github.cache.entries[-1] == (asked, SNAPSHOT)
