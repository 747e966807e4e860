"""Results made by hand, for the tests of what judges them."""

from __future__ import annotations

from typing import Any

from perfdata.perf.model import PlanSource, QueryPlan, ScenarioResult, Source, StatementCount

ENVIRONMENT = {
    "postgresql": "18",
    "provider": "builtin",
    "locale": "C.UTF-8",
    "block_size": "8192",
}
INDEX = ("Limit", "  Index Scan using by_name on t")
SEQ = ("Limit", "  Sort", "    Seq Scan on t")


def plan(*signature: str, buffers: int = 100, temp_blocks: int = 0, query: str = "") -> QueryPlan:
    return QueryPlan(signature, 1, buffers, temp_blocks, 0, query)


def statement(text: str = "SELECT a FROM t", **given: Any) -> StatementCount:
    values: dict[str, Any] = {"calls": 1, "rows": 10, "plans": (plan(*INDEX),), **given}
    return StatementCount(f"f({text})", text, **values)


def result(*statements: StatementCount, **given: Any) -> ScenarioResult:
    values: dict[str, Any] = {
        "scenario": "report",
        "test": "tests/perf/test_it.py::test_report",
        "dataset": "100_offices",
        "statements": statements or (statement(),),
        "plan_source": PlanSource.AUTO_EXPLAIN,
        "environment": ENVIRONMENT,
        "settings": {"jit": "off", "work_mem": "4096"},
    }
    return ScenarioResult(**{**values, **given})


def source(calls: int, different: int, parts: int = 0) -> Source:
    return Source("app/mails.py", 12, "due", calls, different, parts)
