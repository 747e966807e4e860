"""The examples of docs/perf.md, run as a user would run them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.inner import Pytest

PAGE = Path(__file__).parents[3] / "docs" / "perf.md"


def test_every_example_runs(inner: Pytest) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for number, block in enumerate(blocks):
        named = re.match(r"# (\w+)\.py\n", block)
        inner.write(**{named[1] if named else f"test_{number}": block})
    pyproject = inner.folder / "pyproject.toml"
    own = '\nenvironment = {DATABASE_URL = "{url}"}\n'
    pyproject.write_text(pyproject.read_text().replace("\n[tool.pytest", f"{own}[tool.pytest", 1))
    code, said = inner.run("--perf-only", "-W", "ignore:Using `httpx`")
    assert code == 0, said
    assert set(inner.results()) == {
        *("test_deadline_alerts", "test_first_page", "test_directory", "test_deactivate_old"),
        *("test_staff_by_office", "test_rename_office", "test_overdue_today"),
        *("test_staff_by_office", "test_rename_office", "test_get_offices"),
        *("test_count_offices", "test_one_office[newest]", "test_one_office[oldest]"),
    }
