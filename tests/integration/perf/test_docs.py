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
    inner.write(**{f"test_{number}": block for number, block in enumerate(blocks)})
    code, said = inner.run()
    assert code == 0, said
    assert set(inner.results()) == {
        *("test_deadline_alerts", "test_first_page", "test_directory", "test_deactivate_old"),
        *("test_staff_by_office", "test_rename_office", "test_overdue_today"),
    }
