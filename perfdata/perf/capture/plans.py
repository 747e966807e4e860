"""Read the JSON plans of auto_explain and EXPLAIN into signatures and counts. Pure.

A signature omits filters, sort keys and costs, as they contain values. ``side_by_side`` aligns
two signatures.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from perfdata.perf.model import Misestimate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    Node = dict[str, Any]

# A misestimate is off by this factor in either direction, with at least this many rows estimated
# or returned: 1 row instead of 100 makes no plan slow.
WRONG_BY, AT_LEAST_ROWS = 100, 1000

_BLOCKS = ("Shared Hit Blocks", "Shared Read Blocks", "Local Hit Blocks", "Local Read Blocks")
_TEMP = ("Temp Read Blocks", "Temp Written Blocks")
_JOINS = {"Nested Loop": "Nested Loop", "Hash Join": "Hash", "Merge Join": "Merge"}
_STRATEGIES = {"Sorted": "Group", "Hashed": "Hash", "Mixed": "Mixed"}
_WRITING = {"ModifyTable", "LockRows"}
# These read all rows of their children, however few are requested.
_READING_ALL = {"Sort", "Hash", "ModifyTable", "Bitmap Heap Scan", "Recursive Union"}
_NO_ROWS_COUNTED = {"ModifyTable", "BitmapAnd", "BitmapOr"}
# Only some server versions state what an InitPlan returns.
_RETURNS = re.compile(r" \(returns .*\)\Z")

# A line of a message's context: the innermost function comes first, then its callers.
_FUNCTION = re.compile(r'^(?:PL/\w+ function "?(.+?)"?(?: line \d+.*)?|SQL function "(.+)".*)$')
_PLANNED = re.compile(r"\n\{\s*\"Query Text\"")
# The server's own statements that check foreign keys, after the user's statement.
_KEY_CHECK = re.compile(r"(?:SELECT 1|DELETE|UPDATE)\b.*\bOPERATOR\(", re.DOTALL)


@dataclass(frozen=True)
class ExecutedPlan:
    """The plan of one execution, with its cost including that of the functions it called.

    ``depth`` is the number of enclosing functions, triggers and foreign key checks. ``separate``
    tells that the enclosing statement's cost does not include this one, which ran after it.
    """

    query: str
    signature: tuple[str, ...]
    buffers: int
    temp_blocks: int
    wal_records: int
    misestimates: tuple[Misestimate, ...]
    writes: bool
    depth: int = 0
    separate: bool = False


def is_plan(message: str) -> bool:
    """Return whether a server message is one of auto_explain's, in any language."""
    return _PLANNED.search(message) is not None


def from_message(message: str, context: str | None, after: Collection[str] = ()) -> ExecutedPlan:
    """Read a message of auto_explain and its context.

    ``after`` are the functions that only AFTER triggers call.
    """
    document = json.loads(message[message.index("\n{") :])
    query = str(document["Query Text"])
    frames = _frames(context or "")
    checks_key = bool(context) and _KEY_CHECK.match(query) is not None
    separate = checks_key or (bool(frames) and frames[0] in after)
    return replace(
        _seen(query, document["Plan"]), depth=len(frames) + checks_key, separate=separate
    )


def from_explain(query: str, answer: Any) -> ExecutedPlan:
    """Read the output of EXPLAIN (ANALYZE, FORMAT JSON), parsed or as text."""
    document = json.loads(answer) if isinstance(answer, (str, bytes)) else answer
    return _seen(query, document[0]["Plan"])


def _frames(context: str) -> list[str]:
    """Return the functions of a context, innermost first."""
    matches = map(_FUNCTION.match, context.splitlines())
    return [match[1] or match[2] for match in matches if match]


def _seen(query: str, plan: Node) -> ExecutedPlan:
    nodes = [node for _, node in _walk(plan)]
    return ExecutedPlan(
        query=query,
        signature=tuple("  " * level + line(node) for level, node in _walk(plan)),
        buffers=sum(plan.get(name, 0) for name in _BLOCKS),
        temp_blocks=sum(plan.get(name, 0) for name in _TEMP),
        wal_records=plan.get("WAL Records", 0),
        misestimates=tuple(_misestimates(plan, cut=False)),
        writes=any(node["Node Type"] in _WRITING for node in nodes),
    )


def _walk(node: Node, level: int = 0) -> Iterator[tuple[int, Node]]:
    """Yield a plan's nodes in EXPLAIN's order, each with its level."""
    yield level, node
    for child in node.get("Plans", ()):
        yield from _walk(child, level + 1)


def line(node: Node) -> str:
    """Write a node as a line of a signature, like EXPLAIN's text without values."""
    words = [_label(node), *_place(node)]
    if name := node.get("Subplan Name"):
        words.insert(0, f"{_RETURNS.sub('', name)}:")
    return " ".join(words)


def _label(node: Node) -> str:
    kind = node["Node Type"]
    if kind == "ModifyTable":
        return str(node["Operation"])
    if kind in _JOINS:
        how = "" if node["Join Type"] == "Inner" else f" {node['Join Type']}"
        plain = kind if kind == "Nested Loop" else f"{_JOINS[kind]} Join"
        kind = f"{_JOINS[kind]}{how} Join" if how else plain
    elif kind == "Aggregate":
        part = node.get("Partial Mode", "Simple")
        kind = f"{_STRATEGIES.get(node['Strategy'], '')}Aggregate"
        kind = kind if part == "Simple" else f"{part} {kind}"
    elif kind == "SetOp":
        kind = f"{_STRATEGIES.get(node['Strategy'], '')}SetOp {node['Command']}"
    elif "Custom Plan Provider" in node:
        kind = f"{kind} ({node['Custom Plan Provider']})"
    kind = f"Parallel {kind}" if node.get("Parallel Aware") else kind
    return f"{kind} Backward" if node.get("Scan Direction") == "Backward" else kind


def _place(node: Node) -> Iterator[str]:
    """Yield a node's index and relation, with the alias that distinguishes uses of one table."""
    index, alias = node.get("Index Name"), node.get("Alias")
    if index is not None:
        yield f"on {index}" if "Relation Name" not in node else f"using {index}"
    names = ("Relation Name", "CTE Name", "Function Name", "Table Function Name", "Tuplestore Name")
    found = next((node[name] for name in names if name in node), alias)
    if found is not None:
        yield f"on {found}"
        if alias not in (None, found):
            yield alias


def _misestimates(node: Node, *, cut: bool) -> Iterator[Misestimate]:
    """Yield the misestimated nodes.

    ``cut``: a parent may stop reading early, so that fewer rows than estimated mean nothing.
    """
    if (found := _misestimate(node)) and not (cut and found.actual < found.estimated):
        yield found
    kind = node["Node Type"]
    for number, child in enumerate(node.get("Plans", ())):
        yield from _misestimates(child, cut=_stops(node, kind, number, cut=cut))


def _stops(node: Node, kind: str, number: int, *, cut: bool) -> bool:
    """Return whether a node may stop reading its child early."""
    if kind in _READING_ALL or (kind == "Aggregate" and node["Strategy"] != "Sorted"):
        return False
    first_match = node.get("Join Type") in {"Semi", "Anti"} or node.get("Inner Unique", False)
    inner = number == 1 and kind == "Nested Loop" and first_match
    subplan = "Subplan Name" in node.get("Plans", [{}])[number]  # EXISTS, or never read
    return cut or inner or subplan or kind in {"Limit", "Merge Join"}


def _misestimate(node: Node) -> Misestimate | None:
    loops = node.get("Actual Loops", 0)
    if not loops or node["Node Type"] in _NO_ROWS_COUNTED:
        return None
    estimated, actual = node["Plan Rows"], node["Actual Rows"]
    most, least = max(estimated, actual), max(1, min(estimated, actual))
    if most / least < WRONG_BY or most * loops < AT_LEAST_ROWS:
        return None
    return Misestimate(line(node), round(estimated), round(actual))


def without_inner(plans: Iterable[ExecutedPlan]) -> Iterator[ExecutedPlan]:
    """Subtract from each plan the cost of those that ran inside it, so that nothing counts twice.

    ``plans`` are those of one statement in the order in which they ended: inner ones first.
    """
    waiting: list[ExecutedPlan] = []  # with full costs; their outer statement has not ended
    for plan in plans:
        own = whole = plan
        for inner in [ended for ended in waiting if ended.depth > plan.depth]:
            waiting.remove(inner)
            if inner.separate:
                whole = _with_cost(whole, inner, 1)
            else:
                own = _with_cost(own, inner, -1)
        waiting.append(whole)
        yield own


def _with_cost(plan: ExecutedPlan, inner: ExecutedPlan, sign: int) -> ExecutedPlan:
    """Return a plan with the cost of another one added (1) or subtracted (-1)."""
    return replace(
        plan,
        buffers=plan.buffers + sign * inner.buffers,
        temp_blocks=plan.temp_blocks + sign * inner.temp_blocks,
        wal_records=plan.wal_records + sign * inner.wal_records,
    )


@dataclass(frozen=True)
class NodePair:
    """A node of the old plan and its counterpart in the new one, as indented signature lines.

    None where a node has no counterpart.
    """

    old: str | None
    new: str | None
    changed: bool


def side_by_side(old: Sequence[str], new: Sequence[str]) -> list[NodePair]:
    """Align two plans' signatures and mark the changed nodes.

    A node that only moved to another level is unchanged, unless levels are all that differs.
    """
    pairs = list(_paired(old, new))
    if any(pair.changed for pair in pairs) or list(old) == list(new):
        return pairs
    return [NodePair(pair.old, pair.new, pair.old != pair.new) for pair in pairs]


def _paired(old: Sequence[str], new: Sequence[str]) -> Iterator[NodePair]:
    old_nodes, new_nodes = ([line.lstrip() for line in tree] for tree in (old, new))
    matcher = SequenceMatcher(None, old_nodes, new_nodes, autojunk=False)
    for kind, low, high, start, end in matcher.get_opcodes():
        for left, right in zip_longest(old[low:high], new[start:end]):
            yield NodePair(left, right, changed=kind != "equal")
