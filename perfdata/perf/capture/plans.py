"""Plans: what auto_explain and EXPLAIN write as JSON, as signatures and counts. Pure.

A signature has no values: filters, sort keys and costs are left out, as they hold literals.
``side_by_side`` aligns the nodes of two.
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

# A node whose rows were estimated wrongly by this factor, either way, and of which at least so many
# rows came or were expected: 1 row in the place of 100 makes no plan slow.
WRONG_BY, AT_LEAST_ROWS = 100, 1000

_BLOCKS = ("Shared Hit Blocks", "Shared Read Blocks", "Local Hit Blocks", "Local Read Blocks")
_TEMP = ("Temp Read Blocks", "Temp Written Blocks")
_JOINS = {"Nested Loop": "Nested Loop", "Hash Join": "Hash", "Merge Join": "Merge"}
_STRATEGIES = {"Sorted": "Group", "Hashed": "Hash", "Mixed": "Mixed"}
_WRITING = {"ModifyTable", "LockRows"}
# These read all that comes from below, however little of it is asked for.
_READING_ALL = {"Sort", "Hash", "ModifyTable", "Bitmap Heap Scan", "Recursive Union"}
_NO_ROWS_COUNTED = {"ModifyTable", "BitmapAnd", "BitmapOr"}
# Newer and older servers say what an InitPlan returns, or do not.
_RETURNS = re.compile(r" \(returns .*\)\Z")

# The innermost function of a message's context, and each that it was called by.
_FUNCTION = re.compile(r'^(?:PL/\w+ function "?(.+?)"?(?: line \d+.*)?|SQL function "(.+)".*)$')
_PLANNED = re.compile(r"\n\{\s*\"Query Text\"")
# What the server itself runs to check a foreign key, after the statement.
_KEY_CHECK = re.compile(r"(?:SELECT 1|DELETE|UPDATE)\b.*\bOPERATOR\(", re.DOTALL)


@dataclass(frozen=True)
class ExecutedPlan:
    """One execution's plan, with what it cost, also inside of the functions that it called.

    ``depth`` is the number of statements that it ran in: of functions, triggers, key checks.
    ``apart``: the cost of the statement around does not hold it, as it ran after that.
    """

    query: str
    signature: tuple[str, ...]
    buffers: int
    temp_blocks: int
    wal_records: int
    misestimates: tuple[Misestimate, ...]
    writes: bool
    depth: int = 0
    apart: bool = False

    def less(self, inner: ExecutedPlan) -> ExecutedPlan:
        """Return the plan without the cost of one that ran inside of it."""
        return replace(
            self,
            buffers=self.buffers - inner.buffers,
            temp_blocks=self.temp_blocks - inner.temp_blocks,
            wal_records=self.wal_records - inner.wal_records,
        )


def is_plan(message: str) -> bool:
    """Tell whether a server's message is one of auto_explain's, in whatever language."""
    return _PLANNED.search(message) is not None


def from_message(message: str, context: str | None, after: Collection[str] = ()) -> ExecutedPlan:
    """Read a message of auto_explain, and the context that it came with.

    ``after`` are the functions that only triggers call which run after a statement.
    """
    document = json.loads(message[message.index("\n{") :])
    query = str(document["Query Text"])
    frames = _frames(context or "")
    checks_key = bool(context) and _KEY_CHECK.match(query) is not None
    apart = checks_key or (bool(frames) and frames[0] in after)
    return replace(_seen(query, document["Plan"]), depth=len(frames) + checks_key, apart=apart)


def from_explain(query: str, answer: Any) -> ExecutedPlan:
    """Read what EXPLAIN (ANALYZE, FORMAT JSON) of a statement gave, as JSON or as text."""
    document = json.loads(answer) if isinstance(answer, (str, bytes)) else answer
    return _seen(query, document[0]["Plan"])


def _frames(context: str) -> list[str]:
    """Return the functions of a context, the innermost first."""
    found = map(_FUNCTION.match, context.splitlines())
    return [one[1] or one[2] for one in found if one]


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
    """Yield a plan's nodes as EXPLAIN lists them, each with its level."""
    yield level, node
    for child in node.get("Plans", ()):
        yield from _walk(child, level + 1)


def line(node: Node) -> str:
    """Write a node as a line of a signature: as EXPLAIN's text does, with no values."""
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
    """Yield which index of what a node reads, with the alias that tells one use from another."""
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
    """Yield the nodes that were estimated wrongly.

    ``cut``: somebody above may stop asking, so that fewer rows than expected tell nothing.
    """
    if (found := _misestimate(node)) and not (cut and found.actual < found.estimated):
        yield found
    kind = node["Node Type"]
    for number, child in enumerate(node.get("Plans", ())):
        yield from _misestimates(child, cut=_stops(node, kind, number, cut=cut))


def _stops(node: Node, kind: str, number: int, *, cut: bool) -> bool:
    """Tell whether a node may stop reading its child before that has ended."""
    if kind in _READING_ALL or (kind == "Aggregate" and node["Strategy"] != "Sorted"):
        return False
    first_match = node.get("Join Type") in {"Semi", "Anti"} or node.get("Inner Unique", False)
    inner = number == 1 and kind == "Nested Loop" and first_match
    subplan = "Subplan Name" in node.get("Plans", [{}])[number]  # EXISTS, or never asked
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
    """Take out of each plan what those cost that ran inside of it, so that nothing counts twice.

    ``plans`` are a statement's, in the order in which they ended: the inner ones first.
    """
    waiting: list[ExecutedPlan] = []  # whole costs of those whose statement around has not ended
    for plan in plans:
        own = whole = plan
        for inner in [one for one in waiting if one.depth > plan.depth]:
            waiting.remove(inner)
            if inner.apart:
                whole = whole.less(_negative(inner))
            else:
                own = own.less(inner)
        waiting.append(whole)
        yield own


def _negative(plan: ExecutedPlan) -> ExecutedPlan:
    return replace(
        plan,
        buffers=-plan.buffers,
        temp_blocks=-plan.temp_blocks,
        wal_records=-plan.wal_records,
    )


@dataclass(frozen=True)
class NodePair:
    """A node of the old tree beside its like in the new one; None where it has none.

    Both are lines of a plan's signature, indented as they stand there.
    """

    old: str | None
    new: str | None
    changed: bool


def side_by_side(old: Sequence[str], new: Sequence[str]) -> list[NodePair]:
    """Put two plans' signatures beside each other, with what changed marked.

    A node that only lies deeper, as another was put above it, is not changed; where nothing but
    depths differ, those that lie elsewhere are.
    """
    pairs = list(_paired(old, new))
    if any(pair.changed for pair in pairs) or list(old) == list(new):
        return pairs
    return [NodePair(pair.old, pair.new, pair.old != pair.new) for pair in pairs]


def _paired(old: Sequence[str], new: Sequence[str]) -> Iterator[NodePair]:
    one, other = ([line.lstrip() for line in tree] for tree in (old, new))
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    for kind, low, high, start, end in matcher.get_opcodes():
        for left, right in zip_longest(old[low:high], new[start:end]):
            yield NodePair(left, right, changed=kind != "equal")
