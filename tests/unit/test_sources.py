from __future__ import annotations

import sys
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

import pytest

from perfdata import ConfigError, Dataset, Project, Settings, sources
from perfdata.project import load_project
from perfdata.sources import imported_sources, named_sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from perfdata import TableRows

FILES = {
    "shop/__init__.py": "",
    "shop/perf.py": "import json\nfrom shop.factories import customers\nfrom . import pools\n",
    "shop/factories/__init__.py": "from .customers import make\nimport sqlalchemy\n",
    "shop/factories/customers.py": "def make():\n    from shop import late\n",
    "shop/pools.py": "import shop_names\n",
    "shop/late.py": "",
    "shop/web.py": "",
    "shop_names.py": "import other.packages\n",
    "other/packages/__init__.py": "print 'for Python 2'\n",
    "lib/site-packages/installed.py": "",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    sources.top_level_folders.cache_clear()
    yield tmp_path
    sources.top_level_folders.cache_clear()
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_what_a_module_imports_of_its_own_project_is_found(root: Path) -> None:
    """Also inside functions, relatively, and from other packages of the same folder."""
    assert sorted(imported_sources("shop.perf")) == [
        "other.packages",
        "shop",
        "shop.factories",
        "shop.factories.customers",
        "shop.late",
        "shop.perf",
        "shop.pools",
        "shop_names",
    ]
    assert not {"other", "shop.web"} & set(imported_sources("shop.perf"))
    assert root.name not in str(imported_sources("shop.perf"))


def test_nothing_is_run_to_find_it(root: Path) -> None:
    (root / "shop" / "late.py").write_text("raise SystemExit\n")
    assert "shop.late" in imported_sources("shop.perf")
    assert "shop.late" not in sys.modules


@pytest.mark.parametrize(
    ("changed", "differs"),
    [("shop/late.py", True), ("other/packages/__init__.py", True), ("shop/web.py", False)],
)
def test_a_change_in_what_is_imported_is_another_fingerprint(
    root: Path, changed: str, differs: bool
) -> None:
    def generate(_dataset: Dataset) -> Iterator[TableRows]:
        return iter(())

    generate.__module__ = "shop.perf"
    dataset = Dataset(name="x", generate=generate, as_of=date(2026, 1, 1))
    before = dataset.fingerprint()
    (root / changed).write_text("# another comment\n")
    assert (dataset.fingerprint() != before) is differs


def test_othertop_level_folders_of_the_import_path_count_but_what_is_installed_does_not(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    src = root / "src"
    (src / "app").mkdir(parents=True)
    (src / "app" / "factories.py").write_text("")
    monkeypatch.syspath_prepend(src)
    monkeypatch.syspath_prepend(root / "lib" / "site-packages")
    (root / "shop" / "late.py").write_text("import app.factories, installed, psycopg, json\n")
    found = imported_sources("shop.perf")
    assert "app.factories" in found
    assert not {"installed", "psycopg", "json"} & set(found)


def test_a_partial_function_is_refused_as_it_hides_its_code() -> None:
    def generate(_dataset: Dataset) -> Iterator[TableRows]:
        return iter(())

    dataset = Dataset(name="x", generate=partial(generate), as_of=date(2026, 1, 1))
    with pytest.raises(ConfigError, match=r"the module of generate=.* is unknown"):
        dataset.fingerprint()


def test_an_installed_module_counts_alone() -> None:
    assert list(imported_sources("pytest")) == ["pytest"]


def test_a_package_that_is_named_counts_with_all_modules_in_it(root: Path) -> None:
    before = named_sources(["shop"])
    (root / "shop" / "web.py").write_text("# not in an __init__\n")
    assert named_sources(["shop"]) != before
    (root / "shop" / "web.py").write_text("")
    assert named_sources(["shop"]) == before
    (root / "shop" / "web.py").rename(root / "shop" / "page.py")
    assert named_sources(["shop"]) != before


@pytest.mark.parametrize("name", ["absent", "absent.deep", "shop.absent", ""])
@pytest.mark.usefixtures("root")
def test_a_source_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a module with a source file; list such"):
        named_sources([name])


def test_a_projects_sources_are_those_of_its_datasets_that_name_none(root: Path) -> None:
    def generate(_dataset: Dataset) -> Iterator[TableRows]:
        return iter(())

    day = date(2026, 1, 1)
    ours = Dataset(name="ours", generate=generate, as_of=day)
    own = Dataset(name="own", generate=generate, as_of=day, sources=("shop.web",))
    project = Project(name="shop", datasets=(ours, own), sources=("shop.pools",))
    assert project.dataset("ours").sources == ("shop.pools",)
    assert project.dataset("own").sources == ("shop.web",)
    assert root.is_dir()


def test_what_is_bound_where_a_project_is_defined_counts(root: Path) -> None:
    """A function that another makes is of its maker's module, and made in the project's."""
    (root / "shop_bound.py").write_text(
        "from datetime import date\n"
        "from perfdata import Dataset, Project\n"
        "from shop.factories.customers import make\n"
        "datasets = (Dataset(name='x', generate=make, as_of=date(2026, 1, 1)),)\n"
        "project = Project(name='shop', datasets=datasets)\n"
    )
    settings = Settings(root=root, home=root, project="shop_bound")
    before = load_project(settings).dataset("x").fingerprint_parts()
    assert {"source shop_bound", "source shop.late"} <= before.keys()
    assert not [part for part in before if part.startswith("source perfdata")]
    with (root / "shop_bound.py").open("a") as file:
        file.write("# make(20)\n")
    assert load_project(settings).dataset("x").fingerprint_parts() != before
