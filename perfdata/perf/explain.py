"""EXPLAIN: where a session's plans come from, and how to ask for them without auto_explain."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from perfdata.perf.model import PlanSource
from perfdata.perf.plans import from_explain

if TYPE_CHECKING:
    from perfdata.perf.plans import SeenPlan

# What a session of a clone is set to (POSTGRES.md, Statistics and plans). Without TIMING a node
# costs hardly more than without ANALYZE; log_parameter_max_length is known to 16 and newer.
AUTO_EXPLAIN = {
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_format": "json",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_wal": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_triggers": "off",
    "auto_explain.log_verbose": "off",
    "auto_explain.log_settings": "off",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_level": "info",
    "auto_explain.sample_rate": "1",
}
LOADED = """
SELECT current_setting('auto_explain.log_min_duration', true),
  current_setting('is_superuser') = 'on'"""
_SWITCH = """
SELECT set_config('auto_explain.log_min_duration', '{}', false)
WHERE current_setting('auto_explain.log_min_duration', true) IS NOT NULL
  AND current_setting('is_superuser') = 'on'"""
SWITCHED_ON, SWITCHED_OFF = _SWITCH.format(0), _SWITCH.format(-1)
SWITCHED_ON_LOCALLY = SWITCHED_ON.replace("false)", "true)", 1)  # for one transaction

# The functions that AFTER triggers alone call, as a message's context names them.
AFTER_FUNCTIONS = """
SELECT tgfoid::regprocedure::text FROM pg_trigger WHERE NOT tgisinternal
GROUP BY tgfoid HAVING bool_and(tgtype & 66 = 0)"""

_EXPLAINS = "plans and buffers are of an EXPLAIN before each statement, which is rolled back"
_NOT_LOADED = f"{_EXPLAINS}: auto_explain is not loaded in this session"
_OFF = f"{_EXPLAINS}: this role may not switch auto_explain on"
_ALWAYS_ON = "times hold what auto_explain does (some 20 µs a statement): the role may not stop it"

EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, WAL, TIMING OFF, FORMAT JSON) "
COMMENTS = r"(?:--[^\n]*\n|/\*.*?\*/|[\s(])*"  # what may stand before a statement's first word
_EXPLAINED = re.compile(
    COMMENTS + r"(?:SELECT|INSERT|UPDATE|DELETE|WITH|VALUES|MERGE|TABLE)\b",
    re.IGNORECASE | re.DOTALL,
)
_SAVEPOINT = "perfdata_explain"


def plan_source(level: str | None, may_switch: bool) -> tuple[PlanSource, tuple[str, ...]]:
    """Tell where a session's plans come from by its answers to LOADED, and what is to be said."""
    if level is None:
        return PlanSource.EXPLAIN, (_NOT_LOADED,)
    if may_switch:
        return PlanSource.AUTO_EXPLAIN, ()
    if level == "0":
        return PlanSource.AUTO_EXPLAIN, (_ALWAYS_ON,)
    return PlanSource.EXPLAIN, (_OFF,)


def explainable(query: str) -> bool:
    """Tell whether EXPLAIN takes a statement."""
    return _EXPLAINED.match(query) is not None


def explain_inline(
    cursor: Any, refused: type[Exception], query: str, parameters: Any, *, autocommit: bool
) -> SeenPlan | None:
    """Execute a statement by EXPLAIN with a DBAPI cursor, and roll that back.

    None where the server refuses it (``refused`` is the driver's error): the statement itself will
    then say why.
    """
    begin, undo, end = around(autocommit=autocommit)
    cursor.execute(begin)
    try:
        cursor.execute(EXPLAIN + query, parameters)
        answer = cursor.fetchone()[0]
    except refused:
        answer = None
    for statement in (undo, end):
        cursor.execute(statement)
    return None if answer is None else from_explain(query, answer)


def around(*, autocommit: bool) -> tuple[str, str, str]:
    """Return the statements before and after what is to be rolled back."""
    if autocommit:
        return "BEGIN", "ROLLBACK", "SELECT"
    return f"SAVEPOINT {_SAVEPOINT}", f"ROLLBACK TO {_SAVEPOINT}", f"RELEASE {_SAVEPOINT}"
