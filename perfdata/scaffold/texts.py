"""The texts of the files that are written into a repository."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from perfdata.draft.tables import variable_name
from perfdata.scaffold.first_dataset import ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfdata.scaffold.first_dataset import FirstTable
    from perfdata.scaffold.repository import Repository

EMPTY_DATASET = "first"
# Not invoke: a tasks.py that is there does not have perfdata's tasks yet.
PROGRAM = "perfdata"
_PROJECT = '''\
"""The datasets of this application, for perfdata."""

from __future__ import annotations

from datetime import date
{paths}
from perfdata import {names}
{generate}

project = Project(
    name={name},
{tables}    datasets=(
        Dataset(
            name={dataset},
            generate=generate,
{parameters}            as_of=date(2026, 1, 1),  # the day that the rows take for today
        ),
    ),
)
'''
_GENERATE = '''\
from perfdata import generate as g


def generate(dataset: Dataset) -> list[g.GeneratedTable]:
    """Return the rows of each table."""
    {variable} = g.table(
        dataset,
        {table},
        dataset.parameters[{noun}],
{columns}
    )
    return [{variable}]
'''
_SKELETON = '''\


def generate(dataset: Dataset) -> list[TableRows]:
    """Return the rows of each table: none yet. For a table ``customers``:

        from perfdata import generate as g

        return [g.table(dataset, "customers", 1000, id=g.serial(), name=g.text("name {row}"))]
    """
    return []
'''
_DJANGO = """\
    migrations=Migrations(
        command=["python", "manage.py", "migrate"],
        files={files},
        applied="SELECT app || '/migrations/' || name FROM public.django_migrations "
        "WHERE app IN ({apps})",
    ),
"""
_TEST = '''\
"""The first perf test: {fails}."""

from __future__ import annotations

import pytest
from sqlalchemy import text

{scenario}

@pytest.mark.perf(dataset={dataset}, max_queries=1)
def test_first(perf):
    assert perf({function}) == {expected}
'''
_SCENARIO = """
def {function}(session):
    return session.scalar(text({query}))
"""
_TABLES = '''\
"""The tables of this application: importing the modules of its models fills the MetaData."""

from __future__ import annotations

{imports}

metadata = {metadata}
'''
_WORKFLOW = """\
name: perf

on:
  schedule:
    - cron: "23 2 * * *"
  workflow_dispatch: {}

permissions: {}

jobs:
  perf:
    runs-on: ubuntu-24.04
    timeout-minutes: 45
    permissions:
      contents: read
    steps:
      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1
        with:
          persist-credentials: false
      - uses: actions/setup-python@5fda3b95a4ea91299a34e894583c3862153e4b97 # v7.0.0
        with:
          python-version: "3.13"
      - name: Install
        run: python -m pip install INSTALL
      - name: Make the snapshot's key
        id: snapshot
        run: echo "key=$(PROGRAM snapshot.key --name DATASET)" >> "$GITHUB_OUTPUT"
      - name: Keep the snapshot
        uses: actions/cache@27d5ce7f107fe9357f9df03efb73ab90386fccae # v5.0.5
        with:
          key: ${{ steps.snapshot.outputs.key }}
          path: .perfdata/snapshots/DATASET.json.zst
      - name: Run the perf tests
        run: pytest tests/perf --perf-strict
"""


def project_module(repository: Repository, first: FirstTable | None, metadata: str) -> str:
    """Return the first project module; ``metadata`` is used where there are no migrations."""
    tables = paths = ""
    names = "Dataset, Project" if first else "Dataset, Project, TableRows"
    if repository.migrations:
        paths = "from pathlib import Path\n"
        tables = f"    migrations=Path({_quoted(repository.migrations[0])}),\n"
    elif repository.django_apps:
        names = names.replace("Project", "Migrations, Project")
        tables = _django_migrations(repository.django_apps)
    elif metadata:
        tables = f"    metadata={_quoted(metadata)},\n    tables_from_metadata=True,\n"
    if first is None:
        generate, dataset, parameters = _SKELETON, EMPTY_DATASET, ""
    else:
        generate = _GENERATE.format(
            noun=_quoted(first.noun),
            variable=variable_name(first.noun),
            table=_quoted(first.name),
            columns="\n".join(f"        {line}" for line in first.columns),
        )
        dataset = first.dataset
        parameters = f"            parameters={{{_quoted(first.noun)}: {ROWS}}},\n"
    return _PROJECT.format(
        paths=paths,
        names=names,
        generate=generate,
        name=_quoted(repository.name),
        tables=tables,
        dataset=_quoted(dataset),
        parameters=parameters,
    )


def _django_migrations(apps: tuple[str, ...]) -> str:
    labels = ", ".join(f"'{app.rpartition('/')[2]}'" for app in apps)
    return _DJANGO.format(
        files=_tuple(tuple(f"{app}/migrations/*.py" for app in apps)), apps=labels
    )


def perf_test(first: FirstTable | None) -> str:
    """Return the first perf test."""
    if first is None:
        function, query, expected = "select_one", '"SELECT 1"', "1"
        dataset = EMPTY_DATASET
    else:
        schema, _, table = first.name.rpartition(".")
        quoted = ".".join(f'"{part}"' for part in (schema, table) if part)
        function, query = "count_rows", f"'SELECT count(*) FROM {quoted}'"  # noqa: S608  a text
        expected, dataset = str(ROWS), first.dataset
    return _TEST.format(
        fails="it fails if more than one query is sent",
        scenario=_SCENARIO.format(function=function, query=query),
        dataset=_quoted(dataset),
        function=function,
        expected=expected,
    )


def tables_module(repository: Repository) -> str:
    """Return the module that imports all models."""
    models = repository.models
    home = models.binding[0] if models.binding else "sqlmodel"
    imports = [f"import {module}  # noqa: F401" for module in models.modules]
    imports.append(f"from {home} import {models.base}")
    return _TABLES.format(imports="\n".join(imports), metadata=models.metadata)


def workflow(repository: Repository, dataset: str) -> str:
    """Return the nightly workflow."""
    install = "perfdata pytest"
    if (repository.root / "requirements.txt").is_file():
        install = "-r requirements.txt perfdata"
    elif {"project", "build-system"} & set(repository.pyproject):
        install = "-e . perfdata"
    text = _WORKFLOW.replace("INSTALL", install).replace("DATASET", dataset)
    return text.replace("PROGRAM", PROGRAM)


def settings_table(project: str, repository: Repository) -> str:
    """Return the ``[tool.perfdata]`` of pyproject.toml."""
    return f"[tool.perfdata]\n{settings_lines(project, repository)}"


def settings_lines(project: str, repository: Repository) -> str:
    """Return the lines of ``[tool.perfdata]`` that are not there yet, without its heading."""
    lines = f"project = {_quoted(project)}\n"
    if repository.session_class:
        lines += f"session_class = {_quoted(repository.session_class)}\n"
    return lines + environment_line(repository.new_variables)


def environment_line(variables: Mapping[str, str]) -> str:
    """Return the setting that leads the application's own variables to the target, or ""."""
    if not variables:
        return ""
    pairs = ", ".join(f"{name} = {_quoted(value)}" for name, value in variables.items())
    return f"environment = {{ {pairs} }}\n"


def _quoted(text: str) -> str:
    """Return a text as a literal of Python and of TOML."""
    return json.dumps(text, ensure_ascii=False)


def _tuple(items: tuple[str, ...]) -> str:
    quoted = ", ".join(map(_quoted, items))
    return f"({quoted},)" if len(items) == 1 else f"({quoted})"
