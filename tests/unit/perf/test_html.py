"""The report: one document, whole, escaped, and with nothing to fetch."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdata.errors import ResultsError
from perfdata.perf.model import Finding, FindingKind, QueryPlan, Source, StatementCount
from perfdata.perf.report.history import RunHistory
from perfdata.perf.report.html import StatementView, render, write_report
from perfdata.perf.report.results import Results
from tests.welfare_results import ALERTS, RENEWED, RESULTS, SEARCHED, runs

if TYPE_CHECKING:
    from perfdata.perf.model import ScenarioResult

ROOT = Path(__file__).parents[3]
ENDED = datetime(2026, 3, 20, 17, 41, tzinfo=UTC)
HOSTILE = (
    "</pre></style><script>alert(1)</script>\"'><img src=http://evil/x onerror=a>\x00\x1b[2J{{7}}"
)
AS_SHOWN = HOSTILE.replace("\x00", "\ufffd").replace("\x1b", "\ufffd")
HISTORY = RunHistory(runs(*RESULTS[:3]), ("history.jsonl: 1 line is damaged",))
WORDS = (
    *("SELECT", "FROM", "WHERE", "AND", "?", "(", ")", ",", "'", "''", '"', ";", "--", "/*", "*/"),
    *("*", "$$", "$1", "a", "b.c", "漢", "=", "<", "->>", "::", "int"),
)
CSS = files("perfdata.perf.report").joinpath("templates/report.css").read_text("utf-8")


def page(*results: ScenarioResult, history: RunHistory | None = None) -> str:
    return render(Results(ENDED, results), history or RunHistory(), ROOT)


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314  our own page


def texts(element: ET.Element) -> list[str]:
    return [" ".join(text.split()) for text in element.itertext() if text.strip()]


@pytest.fixture(scope="module")
def whole() -> str:
    return page(*RESULTS, history=HISTORY)


def test_it_is_well_formed_and_each_reference_leads_somewhere(whole: str) -> None:
    elements = list(parsed(whole).iter())
    ids = [one.attrib["id"] for one in elements if "id" in one.attrib]
    assert len(ids) == len(set(ids))
    values = [value for one in elements for value in one.attrib.values()]
    references = {ref for value in values for ref in re.findall(r"url\(#([^)]*)\)", value)}
    links = {one.attrib["href"] for one in elements if "href" in one.attrib} - {"data:,"}
    assert all(link.startswith("#") for link in links)
    assert references | {link[1:] for link in links} <= set(ids)
    labels = {value for one in elements for name, value in one.items() if name == "aria-labelledby"}
    assert labels <= set(ids)


def test_nothing_is_to_be_fetched_or_run(whole: str) -> None:
    assert "http" not in whole.replace("http-equiv", "")
    assert "@import" not in whole
    tags = {one.tag for one in parsed(whole).iter()}
    assert not tags & {"script", "img", "iframe", "object", "embed", "image", "form"}
    (policy,) = (
        one.attrib["content"] for one in parsed(whole).iter("meta") if "http-equiv" in one.attrib
    )
    assert policy.startswith("default-src 'none'")


def test_headings_leave_out_no_level(whole: str) -> None:
    levels = [int(one.tag[1]) for one in parsed(whole).iter() if re.fullmatch("h[1-6]", one.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_overview_has_a_row_for_each_scenario_that_leads_to_its_part(whole: str) -> None:
    document = parsed(whole)
    assert texts(next(document.iter("h1"))) == ["1 of 4 scenarios regressed; 1 without a baseline"]
    rows = list(next(document.iter("tbody")).iter("tr"))
    assert [texts(row) for row in rows[:2]] == [
        ["deadline_alerts", "100_offices", "✗", "regressed", "99", "max. 4", "5,188", "24,415",
         "46.2 ms"],
        ["search_recipients", "100_offices", "–", "no baseline", "1", "50", "58", "1.5 ms"],
    ]  # fmt: skip
    headings = {one.attrib.get("id"): texts(one)[0] for one in document.iter("h2")}
    assert [headings[link.attrib["href"][1:]] for row in rows for link in row.iter("a")] == [
        one.scenario for one in RESULTS
    ]


def test_limits_and_what_was_accepted_stand_beside_the_counts() -> None:
    (facts,) = (one for one in parsed(page(ALERTS)).iter("dl") if "growth of buffers" in texts(one))
    shown = [" ".join(texts(one)) for one in facts]
    assert "queries 99 over the 4 allowed accepted 3" in shown
    assert "buffers 24,415 at most 30,000 accepted 319" in shown
    assert "rows 5,188" in shown
    assert "growth of buffers n 1.96" in shown


def test_a_changed_plan_stands_beside_the_accepted_one_with_its_nodes_marked(whole: str) -> None:
    sides = [one for one in parsed(whole).iter("figure") if one.attrib.get("class") == "side"]
    assert len(sides) == 4
    marked = [[" ".join(texts(mark)) for mark in side.iter("mark")] for side in sides]
    assert marked[1] == ["+ Seq Scan on support_plan_cycles"]
    assert marked[2] == [
        *("− Sort", "− Nested Loop (Inner)", "− Index Scan using staffs_pkey on staffs")
    ]
    lines = ["".join(line.itertext()) for line in sides[3].iter() if line.tag in {"span", "mark"}]
    assert lines[:3] == ["+ Incremental Sort", "+   Hash Join (Inner)", "      Hash Join (Inner)"]


def test_what_fails_comes_first_and_leads_to_its_statement_which_is_open() -> None:
    document = parsed(page(ALERTS))
    (found,) = (one for one in document.iter("ul") if one.attrib.get("class") == "findings")
    kinds = [" ".join(texts(one)).split(":")[0] for one in found]
    assert kinds == ["failure", "failure", "failure", "note"]
    about = [link.attrib["href"][1:] for link in found.iter("a")]
    opened = [one.attrib.get("id") for one in document.iter("details") if "open" in one.attrib]
    assert opened == sorted(set(about))


def test_a_statement_that_is_gone_is_shown_with_its_finding() -> None:
    gone = Finding(
        FindingKind.VANISHED_STATEMENT, fails=True, message="gone", statement="DELETE FROM gone"
    )
    assert "DELETE FROM gone" in texts(parsed(page(replace(SEARCHED, findings=(gone,)))))


def test_statements_come_with_lines_plans_and_misestimates(whole: str) -> None:
    shown = " ".join(texts(parsed(whole)))
    assert (
        "perfdata/welfare/scenarios/alerts.py:133 in _due_by_office : 97 calls, "
        "with 97 different parameters" in shown
    )
    assert "97 calls, 24,347 buffers, 12 temp blocks, 0 WAL records; fingerprint" in shown
    assert "Plan of an inner statement SELECT 1 FROM ONLY offices WHERE id = ?" in shown
    assert "Hash Join (Inner) : 5 rows estimated, 941 returned" in shown
    assert "plans: the role perf_user may not set session_preload_libraries" in shown


def test_no_text_of_the_database_becomes_more_than_text() -> None:
    statement = StatementCount(
        *(HOSTILE, HOSTILE, 3, 3),
        sources=(Source(HOSTILE, 1, HOSTILE, 3, 3),),
        plans=(QueryPlan((HOSTILE,), 1, 1, 0, 0, query=HOSTILE),),
    )
    finding = Finding(
        *(FindingKind.CHANGED_PLAN, True, HOSTILE, HOSTILE),
        old_plan=(HOSTILE,),
        new_plan=("Sort", HOSTILE),
    )
    result = replace(
        *(ALERTS,),
        scenario=HOSTILE,
        test=HOSTILE,
        dataset=HOSTILE,
        statements=(statement,),
        settings={HOSTILE: HOSTILE},
        environment={HOSTILE: HOSTILE},
        not_captured=(HOSTILE,),
        baseline=HOSTILE,
        growth={HOSTILE: 1.0},
        findings=(finding,),
    )
    history = RunHistory(
        tuple(replace(run, commit=HOSTILE) for run in runs(result)), notes=(HOSTILE,)
    )
    document = parsed(page(result, history=history))
    plain = parsed(page(ALERTS, history=RunHistory(runs(ALERTS))))
    assert {one.tag for one in document.iter()} <= {one.tag for one in plain.iter()} | {"mark"}
    attributes = {name for one in document.iter() for name in one.attrib}
    assert not {name for name in attributes if name.startswith("on")}
    shown = "\n".join(document.itertext())
    assert shown.count(AS_SHOWN) >= 15
    assert "\x1b" not in shown


@pytest.mark.parametrize(("count", "trends"), [(9, 0), (10, 1)])
def test_the_trend_is_shown_from_ten_runs_on(count: int, trends: int) -> None:
    document = parsed(page(ALERTS, history=RunHistory(runs(ALERTS, count=count))))
    labels = [one.attrib["aria-label"] for one in document.iter("svg")]
    assert labels.count("Queries, buffers and median time of deadline_alerts by run") == trends
    assert ("Needs at least 10 runs; so far there are 9." in texts(document)) == (not trends)
    heads = [row[0] for row in map(texts, document.iter("tr")) if row[0].startswith("2026-03-")]
    assert heads == [f"2026-03-{day:02} 17:40" for day in range(count, 0, -1)] * trends


def test_pictures_draw_every_round_and_run_in_the_page_s_colours(whole: str) -> None:
    pictures = {one.attrib["aria-label"]: one for one in parsed(whole).iter("svg")}
    rounds = pictures["Time of each round of deadline_alerts"]
    assert len([one for one in rounds.iter("use") if "--line" in one.attrib["style"]]) == 40
    trend = pictures["Queries, buffers and median time of deadline_alerts by run"]
    assert {"queries", "buffers", "median time, ms", "2026-03-01"} <= set(texts(trend))
    assert len([one for one in trend.iter("use") if "--bad" in one.attrib["style"]]) == 6
    styles = ";".join(one.attrib.get("style", "") for one in [*rounds.iter(), *trend.iter()])
    assert set(re.findall(r"(?:fill|stroke): ([^;]+)", styles)) == {
        *("none", "var(--line)", "var(--text)", "var(--muted)", "var(--grid)"),
        *("var(--band)", "var(--bad)"),
    }
    assert {f"--{name}" for name in re.findall(r"var\(--(\w+)\)", whole)} <= set(
        re.findall(r"(--\w+):", CSS)
    )


def test_without_matplotlib_it_says_how_to_have_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    document = parsed(page(ALERTS, history=RunHistory(runs(ALERTS))))
    assert not list(document.iter("svg"))
    assert 'pip install "perfdata[report]"' in texts(document)
    assert "40 rounds, timed without capture: median 46.2 ms" in " ".join(texts(document))
    assert "The runs in numbers" in texts(document)


def test_the_same_results_make_the_same_page(whole: str) -> None:
    assert page(*RESULTS, history=HISTORY) == whole


def test_a_page_holds_a_part_of_very_many_statements() -> None:
    many = tuple(StatementCount(f"f{n}", f"SELECT {n}", 1, 1) for n in range(1_234))
    shown = " ".join(texts(parsed(page(replace(SEARCHED, statements=many)))))
    assert "1,034 more statements are in perf.json." in shown


def test_the_command_that_accepts_stands_where_accepting_mends_something() -> None:
    new = replace(SEARCHED, baseline="tests/perf/baselines/pg18/search.json")
    repeated = replace(ALERTS, findings=ALERTS.findings[3:])
    told = [texts(parsed(page(one))) for one in (ALERTS, new, repeated, RENEWED, SEARCHED)]
    commands = [[text for text in one if text.startswith("invoke ")] for one in told]
    assert commands == [
        *(["invoke perf.accept --only deadline_alerts"],),
        *(["invoke perf.accept --only search_recipients"], [], [], []),
    ]


def test_tests_that_failed_otherwise_are_told_with_what_they_said() -> None:
    results = Results(ENDED, (SEARCHED,), {"tests/test_a.py::test_a": HOSTILE}, ("restored",))
    document = parsed(render(results, RunHistory(), ROOT))
    assert "1 scenario, none regressed; 1 without a baseline; 1 test failed" in texts(document)
    shown = texts(document)
    assert shown[shown.index("tests/test_a.py::test_a") + 1] == AS_SHOWN
    assert "restored" in shown


def test_what_was_not_judged_is_in_the_headline_and_at_its_scenario() -> None:
    why = "max_buffers could not be judged: no CREATEDB"
    finding = Finding(FindingKind.NOT_JUDGED, fails=False, message=why)
    shown = texts(parsed(page(replace(RENEWED, findings=(finding,)))))
    assert "1 scenario, none regressed; 1 not judged" in shown
    assert {"not judged", why} <= {text.strip("! ") for text in shown}


def test_no_scenario_and_no_statement_are_told() -> None:
    assert "0 scenarios, none regressed" in texts(parsed(page()))
    assert "No statements were sent." in texts(parsed(page(replace(SEARCHED, statements=()))))


@given(st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_laying_a_statement_out_changes_no_letter_of_it(text: str) -> None:
    pretty = StatementView("id", 1, StatementCount("f", text, 1, 1), open=False).pretty
    assert "".join(pretty.split()) == "".join(text.split())


def test_a_long_statement_is_laid_out_on_lines() -> None:
    (readers,) = (one for one in ALERTS.statements if "COALESCE" in one.text)
    pretty = StatementView("id", 1, readers, open=False).pretty
    assert pretty.splitlines()[:2] == ["SELECT", "  office_staffs.office_id,"]


def test_the_file_lies_beside_the_results_or_where_it_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="nox -s perf"):
        write_report(tmp_path, tmp_path)
    assert not list(tmp_path.iterdir())


def _colours(css: str) -> dict[str, tuple[float, ...]]:
    return {
        name: tuple(int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4))
        for name, digits in re.findall(r"--(\w+): #([0-9a-f]{6})", css)
    }


def _luminance(colour: tuple[float, ...]) -> float:
    """As WCAG 2.2 defines it."""
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


@pytest.mark.parametrize("part", [0, 1], ids=("light", "dark"))
def test_text_can_be_read_in_light_and_dark(part: int) -> None:
    """Contrasts of 4.5 and more: WCAG 2.2, 1.4.3."""
    scheme = _colours(CSS.split("prefers-color-scheme: dark", 1)[part])
    pairs = [
        *((ink, "card") for ink in ("text", "muted", "line", "good", "bad", "warn")),
        *(("text", ground) for ground in ("page", "code", "old", "new")),
        ("muted", "page"),
    ]
    for ink, ground in pairs:
        low, high = sorted((_luminance(scheme[ink]), _luminance(scheme[ground])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)
