"""The pages agree with one another, and with the tasks that they describe."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
from invoke.collection import Collection

from perfdata.tasks import dataset, db, perf, snapshot
from perfdata.tasks.init import init

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + DOCS
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
TASKS = Collection(dataset, db, perf, snapshot, init)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    headings = re.findall(
        r"^#+ (.+)$",
        re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL),
        re.MULTILINE,
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_anchor_resolves(page: Path) -> None:
    broken = []
    for path, anchor in LINK.findall(CODE.sub("", text_of(page))):
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(f"{path}#{anchor}" if anchor else path)
    assert not broken


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_page_first_says_whom_it_is_for(page: Path) -> None:
    title, _, first = text_of(page).splitlines()[:3]
    assert title.startswith("# ")
    assert first.startswith("For ")


def test_the_readme_is_short() -> None:
    before_the_figures, details, _ = text_of(ROOT / "README.md").partition("<details>")
    assert details
    assert len(before_the_figures.split()) <= 700


def test_every_task_is_in_the_table_of_commands_and_every_option_on_some_page() -> None:
    commands = text_of(ROOT / "docs" / "settings.md").partition("## Exit codes")[0]
    documented = set()
    for cell in re.findall(r"^\| (`.*?`) \| ", commands, re.MULTILINE):
        names = re.findall(r"`([\w.]+)`", cell)
        namespace = names[0].partition(".")[0]
        documented |= {f"{namespace}{name}" if name.startswith(".") else name for name in names}
    assert documented == set(TASKS.task_names)
    pages = "\n".join(map(text_of, PAGES))
    options = {
        flag
        for name in TASKS.task_names
        for argument in copy.deepcopy(TASKS[name]).get_arguments()  # which uses up its help
        for flag in argument.names
    }
    missing = {f"--{option.replace('_', '-')}" for option in options}
    assert not {option for option in missing if not re.search(rf"{option}(?![\w-])", pages)}


def test_the_modules_and_tests_that_the_pages_name_exist() -> None:
    pages = text_of(ROOT / "docs" / "architecture.md") + text_of(ROOT / "CONTRIBUTING.md")
    named = set(re.findall(r"(?<![\w/])[\w/]+\.py\b", pages)) - {"tasks/NAMESPACE.py"}
    files = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("*/**/*.py")]
    missing = {name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)}
    assert not missing
    tests = re.findall(r"(tests/[\w/]+\.py)::(\w+)", pages)
    assert tests
    assert not [test for file, test in tests if f"def {test}(" not in text_of(ROOT / file)]
