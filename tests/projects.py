"""What perfdata says in a folder without a project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.project import NO_PROJECT_REMEDY

if TYPE_CHECKING:
    from pathlib import Path


def no_project(folder: Path) -> str:
    """Return the message, which names the command that makes a project."""
    return (
        f"no project is configured: no pyproject.toml at or above {folder} has [tool.perfdata]. "
        f"{NO_PROJECT_REMEDY}"
    )
