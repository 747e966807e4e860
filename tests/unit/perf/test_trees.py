"""Plan trees side by side."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perfdata.perf.capture.plans import NodePair, side_by_side

NODES = ("Sort", "Hash Join (Inner)", "Seq Scan on offices", "Hash")
TREES = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(NODES))).map(
    lambda nodes: ["  " * depth + node for depth, node in nodes]
)


def test_a_node_that_took_the_place_of_another_stands_beside_it() -> None:
    old = ("Limit", "  Index Scan using by_email on staffs")
    new = ("Limit", "  Seq Scan on staffs")
    assert side_by_side(old, new) == [
        NodePair("Limit", "Limit", changed=False),
        NodePair(old[1], new[1], changed=True),
    ]


def test_what_lies_below_a_new_node_is_not_changed() -> None:
    old = ("Nested Loop (Inner)", "  Seq Scan on offices", "  Index Scan using pk on staffs")
    new = ("Sort", *(f"  {line}" for line in old))
    pairs = side_by_side(old, new)
    assert pairs[0] == NodePair(None, "Sort", changed=True)
    assert [(pair.old, pair.changed) for pair in pairs[1:]] == [(line, False) for line in old]


def test_nodes_that_only_lie_elsewhere_are_marked() -> None:
    old = ("Append", "  Limit", "    Seq Scan on a", "    Seq Scan on b")
    new = ("Append", "  Limit", "    Seq Scan on a", "  Seq Scan on b")
    assert [pair.changed for pair in side_by_side(old, new)] == [False, False, False, True]


@given(TREES, TREES)
def test_no_node_is_lost_and_trees_that_differ_are_marked(old: list[str], new: list[str]) -> None:
    pairs = side_by_side(old, new)
    assert [pair.old for pair in pairs if pair.old is not None] == old
    assert [pair.new for pair in pairs if pair.new is not None] == new
    assert any(pair.changed for pair in pairs) == (old != new)
