"""The bundled project: welfare offices in Japan, their staff, recipients and support plans."""

from __future__ import annotations

from pathlib import Path

from perfdata.project import Project
from perfdata.welfare.datasets import DATASETS

project = Project(
    name="welfare",
    datasets=DATASETS,
    migrations=Path(__file__).parent / "migrations",
    metadata="perfdata.welfare.models:Base.metadata",
)
