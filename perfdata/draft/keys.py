"""How rows become unique: by a column of their own, or by how many rows each parent has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perfdata.draft.order import must_exist
from perfdata.draft.values import INTEGERS, can_differ, draft_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.draft.model import Schema, TableDraft
    from perfdata.draft.rules import TableRules
    from perfdata.draft.statistics import TableStatistics
    from perfdata.postgres.catalog import ForeignKey, Table

_CHILDREN = 3  # the most rows of a parent


@dataclass
class RowPlan:
    """How many rows a table has, and which columns make them unique.

    Attributes:
        main: the foreign key to ``parent``, for each row of which there are ``low`` to ``high``.
        position: the column that counts the rows of a parent.
        unique: columns with a different value in each row.
        distinct: foreign keys that reference different rows for each parent.
        unlike: a foreign key that references another row than ``main`` does.
        keyed: the columns of all unique keys.
        most: how many rows there can be at most, None for any number.
    """

    main: ForeignKey | None = None
    parent: TableDraft | None = None
    low: int = 1
    high: int = 1
    zipf: float | None = None
    position: str = ""
    unique: set[str] = field(default_factory=set)
    distinct: list[ForeignKey] = field(default_factory=list)
    unlike: ForeignKey | None = None
    keyed: set[str] = field(default_factory=set)
    most: int | None = None
    comments: list[str] = field(default_factory=list)


def plan_rows(
    schema: Schema,
    table: Table,
    rules: TableRules,
    keys: Sequence[ForeignKey],
    known: TableStatistics,
) -> RowPlan:
    """Plan a table's rows so that every unique key holds; ``keys`` lead to drafted tables."""
    plan = RowPlan(keyed={name for key in rules.keys for name in key})
    sequences = {each.column for each in schema.catalog.sequences if each.table == table.oid}
    plan.unique |= sequences & {column.name for column in table.stored}
    for columns in sorted(rules.keys, key=len):
        _make_unique(schema, table, rules, keys, plan, columns)
    limits = [
        value.most
        for name in plan.unique
        if (value := draft_value(table.column(name), rules.column(name), unique=True))
        and value.most is not None
    ]
    if table.oid in schema.single:
        limits.append(1)
        plan.comments.append(f"one row, as foreign keys of {schema.single[table.oid]} share it")
    plan.most = min(limits, default=None)
    if plan.main is None:
        _choose_parent(schema, rules, keys, plan, known)
    elif plan.parent is not None and plan.position and known.rows:
        low, high, zipf = known.children(plan.main, schema.statistics(plan.parent.table))
        plan.low, plan.high, plan.zipf = max(low, 1), max(high, 1), zipf
    return plan


def _make_unique(
    schema: Schema,
    table: Table,
    rules: TableRules,
    keys: Sequence[ForeignKey],
    plan: RowPlan,
    columns: Sequence[str],
) -> None:
    """Make one key unique, unless what is planned makes it so."""
    inside = [
        key
        for key in keys
        if set(key.child_columns) <= set(columns) and key.parent not in schema.single
    ]
    referring = {name for key in keys for name in key.child_columns}
    own = [name for name in columns if name not in referring]
    if plan.unique & set(own) or _is_planned(plan, columns):
        return
    free = [name for name in own if _can_differ(table, rules, name)]
    numbers = [name for name in free if table.column(name).base in INTEGERS]
    if inside and numbers and plan.main is None and not _has_limits(rules, numbers[0]):
        _number_children(schema, plan, inside[0], numbers[0])
    elif free:
        plan.unique.add(free[0])
    elif inside and plan.main is None:
        _share_parents(schema, rules, plan, inside, columns)
    elif own:
        plan.unique.add(own[0])
    else:
        plan.comments.append(f"make ({', '.join(columns)}) unique")


def _is_planned(plan: RowPlan, columns: Sequence[str]) -> bool:
    """Tell whether a key holds since a parent has one row, or rows that differ."""
    if plan.main is None or not set(plan.main.child_columns) <= set(columns):
        return False
    others = [name for key in plan.distinct for name in key.child_columns]
    return plan.high == 1 or plan.position in columns or bool(set(others) & set(columns))


def _can_differ(table: Table, rules: TableRules, name: str) -> bool:
    limits = rules.column(name)
    generated = table.column(name).generated
    return can_differ(table.column(name)) and limits.choices is None and not generated


def _has_limits(rules: TableRules, name: str) -> bool:
    """Tell whether a number may be too large, or may not begin with 1."""
    limits = rules.column(name)
    return limits.high is not None or (limits.low is not None and limits.low > 1)


def _number_children(schema: Schema, plan: RowPlan, main: ForeignKey, position: str) -> None:
    plan.main, plan.parent, plan.position = main, schema.parent(main), position
    plan.low, plan.high = 1, _CHILDREN


def _share_parents(
    schema: Schema,
    rules: TableRules,
    plan: RowPlan,
    inside: Sequence[ForeignKey],
    columns: Sequence[str],
) -> None:
    """Give each parent one row, or a few that reference different rows of another table."""
    plan.main, plan.parent = inside[0], schema.parent(inside[0])
    others = [
        key
        for key in inside[1:]
        if len(key.child_columns) == 1 and key.child_columns[0] not in plan.main.child_columns
    ]
    other = schema.parent(others[0]) if others else None
    if other is None or plan.parent is None:
        return
    (name,), first = others[0].child_columns, plan.main.child_columns[0]
    if rules.column(name).differs == first or rules.column(first).differs == name:
        if other is plan.parent and other.count and other.is_serial(others[0].parent_columns[0]):
            plan.unlike = others[0]
    elif len(columns) > 1:
        plan.distinct.append(others[0])
        plan.high = min(_CHILDREN, other.least)


def _choose_parent(
    schema: Schema,
    rules: TableRules,
    keys: Sequence[ForeignKey],
    plan: RowPlan,
    known: TableStatistics,
) -> None:
    """Let the rows follow from those of a table that each of them must reference."""
    for key in keys:
        parent = schema.parent(key)
        if key.parent in schema.single:
            continue
        limited = any(rules.column(name).high is not None for name in key.child_columns)
        if parent is None or limited or not must_exist(schema.catalog, key):
            continue
        low, high, zipf = 1, _CHILDREN, None
        if known.rows:
            low, high, zipf = known.children(key, schema.statistics(parent.table))
        if not high or (plan.most is not None and parent.most * high > plan.most):
            continue
        plan.main, plan.parent, plan.low, plan.high, plan.zipf = key, parent, low, high, zipf
        return
