"""The examples of docs/perf.md, run as a user would run them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.integration.inner import PROJECT, Pytest

PAGE = Path(__file__).parents[2] / "docs" / "perf.md"


def test_every_example_runs(tmp_path: Path, own_home: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    inner = Pytest(tmp_path, own_home)
    inner.write(**{f"test_{number}": block for number, block in enumerate(blocks)})
    code, said = inner.run()
    assert code == 0, said
    assert set(inner.results()) == {
        *("test_deadline_alerts", "test_first_page", "test_directory", "test_deactivate_old"),
        *("test_staff_by_office", "test_rename_office"),
    }
