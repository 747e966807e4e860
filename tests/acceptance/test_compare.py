"""Comparisons of real revisions: what is counted, whose code ran, in what turn, and the verdict.

No time decides a test but one that is ten times another.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.acceptance.repository import FAST, N_PLUS_ONE, SLOW, TESTS

if TYPE_CHECKING:
    from tests.acceptance.repository import Repository


def _scenario(out: str) -> dict[str, Any]:
    [scenario] = json.loads(out)["scenarios"]
    found: dict[str, Any] = scenario
    return found


def test_a_tree_that_is_slower_regressed_and_each_sides_own_code_ran(
    repository: Repository,
) -> None:
    repository.shop(FAST)
    commit = repository.commit()
    repository.shop(SLOW, N_PLUS_ONE)
    code, out, said = repository.compare("--rev", "HEAD", "--json")
    assert code == 1, said
    document = json.loads(out)
    assert (document["commit"], document["dirty"]) == (commit, True)
    one = _scenario(out)
    assert one["verdict"] == "regressed"
    assert one["change"]["relative"] > 2
    queries = next(each for each in one["differences"] if each["name"] == "queries")
    assert (queries["this"], queries["rev"]) == (11, 1)
    assert not [each for each in one["unsteady"] if each["name"] in {"queries", "rows"}]
    assert [len(taken) for taken in one["times"]["rounds_s"].values()] == [10, 10, 10]
    assert all(sorted(order) == ["again", "rev", "this"] for order in one["times"]["order"])
    assert any("11 queries, max_queries is 2" in note for note in document["notes"])

    ran = sorted(next(iter(trees)) for trees in repository.ran().values() if len(trees) == 1)
    assert len(ran) == len(repository.ran()) == 3
    assert ran.count(str(repository.folder)) == 2
    assert len([tree for tree in ran if tree.startswith(f"{repository.settings.home}/")]) == 1
    lines = (repository.folder / ".git" / "ran").read_text().splitlines()[-30:]
    turns = [line.split()[0] for line in lines]
    assert [len(set(turns[at : at + 3])) for at in range(0, 30, 3)] == [3] * 10
    assert repository.left() == []


def test_a_tree_that_is_faster_improved_and_the_table_says_so(repository: Repository) -> None:
    repository.shop(SLOW)
    repository.commit()
    repository.git("tag", "slow")
    repository.shop(FAST)
    repository.commit()
    before = (repository.settings.home / "results").exists()
    code, out, said = repository.compare("--rev", "slow", "--only", "offices")
    assert code == 0, said
    head, line, *_ = out.splitlines()
    for name in ("scenario", "this tree", "slow ", "change", "null 95 %", "A/A", "verdict"):
        assert name in head
    assert line.split()[:2] == ["offices", "10_offices"]
    assert line.endswith("improved")
    assert "uncommitted" not in out
    assert (repository.settings.home / "results").exists() == before
    assert repository.left() == []


def test_the_same_code_is_counted_the_same_and_another_dataset_can_be_asked_for(
    repository: Repository,
) -> None:
    repository.shop()
    repository.write("tests/perf/test_shop.py", TESTS.replace("10_offices", "no_such"))
    repository.commit()
    arguments = ("--rev", "HEAD", "--dataset", "10_offices", "--json")
    code, out, said = repository.compare(*arguments)
    assert code in {0, 1}, said  # what a loaded machine makes of the times is not asked here
    one = _scenario(out)
    assert one["dataset"] == "10_offices"
    assert [each for each in one["differences"] if each["name"] in {"queries", "rows"}] == []
    assert json.loads(out)["errors"] == []
