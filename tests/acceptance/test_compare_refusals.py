"""Comparisons of real revisions: what can not be compared is refused, or left out and named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.acceptance.repository import TESTS
from tests.integration.inner import PROJECT

if TYPE_CHECKING:
    from tests.acceptance.repository import Repository


def test_tests_that_are_only_here_are_said_and_nothing_in_common_is_refused(
    repository: Repository,
) -> None:
    repository.shop()
    repository.commit()
    repository.write("tests/perf/test_new.py", TESTS.replace("test_offices", "test_new"))
    code, out, said = repository.compare("--rev", "HEAD")
    assert "tests/perf/test_new.py::test_new: not in HEAD" in out, said
    assert code in {0, 1}
    code, out, said = repository.compare("--rev", "HEAD", "--only", "new")
    assert (code, out) == (2, "")
    assert "no selected perf test is in both this tree and HEAD" in said
    assert repository.left() == []


def test_a_revision_that_is_older_than_perf_tests_or_unknown_is_refused(
    repository: Repository,
) -> None:
    repository.write("perfdata/__init__.py", "")
    (repository.folder / "pyproject.toml").unlink()
    repository.commit()
    repository.git("rm", "-q", "-r", "perfdata")
    repository.commit()
    repository.write("pyproject.toml", PROJECT)
    repository.shop()
    for rev, reason in (
        ("HEAD~1", "contains a perfdata that cannot be compared yet"),
        ("HEAD", "has no [tool.perfdata] in pyproject.toml"),
        ("no_such", "names no commit"),
    ):
        code, out, said = repository.compare("--rev", rev)
        assert (code, out) == (2, "")
        assert reason in said
    assert repository.left() == []


def test_code_that_comes_from_this_tree_by_an_absolute_path_is_refused(
    repository: Repository,
) -> None:
    repository.shop()
    conftest = f"import sys\nsys.path.insert(0, {str(repository.folder)!r})\n"
    repository.write("tests/perf/conftest.py", conftest)
    repository.commit()
    code, out, said = repository.compare("--rev", "HEAD")
    assert (code, out) == (2, "")
    assert f"did not run its own code: shop ({repository.folder}/shop.py)" in said
    assert repository.left() == []
