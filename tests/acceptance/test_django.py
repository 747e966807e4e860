"""An application with Django, whose migrations are another tool's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.application import Application

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent / "applications" / "django"
SELECT_RELATED = '.select_related("author")'
MIGRATION = '''"""{message}"""

from django.db import migrations, models


class Migration(migrations.Migration):
    """{message}"""

    dependencies = [("library", "0001_initial")]
    operations = [{operation}]
'''
DROPS_INDEX = MIGRATION.format(
    message="Drop an index.",
    operation='migrations.AlterField("book", "year", models.IntegerField())',
)
ADDS_COLUMN = MIGRATION.format(
    message="Books have a language.",
    operation='migrations.AddField("book", "language", models.TextField(null=True))',
)


@pytest.fixture(scope="module")
def library(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """The tests of this module follow each other as a user's commands do."""
    folder = tmp_path_factory.mktemp("applications") / "library"
    shutil.copytree(HERE, folder, ignore=shutil.ignore_patterns(".perfdata", "__pycache__"))
    application = Application(folder, programs)
    yield application
    application.stop()


def test_djangos_migrations_make_the_tables(library: Application) -> None:
    library.perfdata("db.migrate")
    assert "0001_initial" in library.perfdata("snapshot.key", "--name", "500_authors", "--explain")


def test_a_dataset_is_built_and_restored_both_ways(library: Application) -> None:
    library.perfdata("dataset.build", "--name", "500_authors")
    for way in ([], ["--fresh"]):
        library.perfdata("snapshot.restore", "--name", "500_authors", *way)


def test_a_shelf_is_green_then_red_with_an_n_plus_1(library: Application) -> None:
    library.perf()
    library.perfdata("perf.accept")
    assert "1 passed" in library.perf()
    library.edit("library/shelves.py", SELECT_RELATED, "")
    said = library.perf(code=1)
    assert "N+1" in said
    assert "library/shelves.py" in said
    library.edit("library/shelves.py", "(year=year)", f"(year=year){SELECT_RELATED}")


def test_a_dropped_index_is_red_until_the_branch_is_left(library: Application) -> None:
    library.write("library/migrations/0002_next.py", DROPS_INDEX)
    assert "changed plan" in library.perf(code=1)
    (library.folder / "library" / "migrations" / "0002_next.py").unlink()
    assert "1 passed" in library.perf()


def test_a_snapshot_is_not_upgraded_but_built_again(library: Application) -> None:
    """Django's command can't stop at the snapshot's migrations."""
    library.perfdata("snapshot.create", "--name", "saved")
    library.write("library/migrations/0002_next.py", ADDS_COLUMN)
    assert "--allow-drift" in library.perfdata("snapshot.upgrade", "--name", "saved", code=2)
    said = library.perfdata("snapshot.restore", "--name", "500_authors")
    assert "built 5,500 rows" in said
