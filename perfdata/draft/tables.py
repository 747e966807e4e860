"""Drafts of tables: how many rows, and the code of each column."""

from __future__ import annotations

import keyword
import re
from typing import TYPE_CHECKING

from perfdata.draft.keys import RowPlan, plan_rows
from perfdata.draft.model import ColumnDraft, TableDraft
from perfdata.draft.overlaps import is_within, widest_first
from perfdata.draft.references import NULL_SHARE, References
from perfdata.draft.values import INTEGERS, NUMBERS, draft_value, is_plain, quoted

if TYPE_CHECKING:
    from perfdata.draft.checks import ColumnRules
    from perfdata.draft.model import Schema
    from perfdata.draft.rules import TableRules
    from perfdata.draft.statistics import TableStatistics
    from perfdata.postgres.catalog import Column, Table

ROWS = 1000
_RESERVED = {"dataset", "date", "g", "timedelta"}


def variable_name(table: str) -> str:
    """Return a name for a table's variable."""
    name = re.sub(r"\W", "_", table)
    name = name if name.isidentifier() else f"t{name}"
    return f"{name}_" if keyword.iskeyword(name) else name


class Drafter:
    """Drafts tables one after another; parents before their children."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def draft(self, table: Table) -> TableDraft:
        """Draft a table."""
        schema = self._schema
        rules, known = schema.rules[table.oid], schema.statistics(table)
        keys = widest_first(schema.catalog, table)
        usable = [key for key in keys if schema.is_usable(key)]
        usable = [key for key in usable if not is_within(key, usable)]
        plan = plan_rows(schema, table, rules, usable, known)
        draft = self._started(table, plan, known)
        draft.comments += [*plan.comments, *(f"not read: {text}" for text in rules.unread)]
        schema.drafts[table.oid] = draft
        columns: dict[str, ColumnDraft] = {}
        for key in keys:
            for drafted in References(schema, draft, plan, rules, known).columns(key):
                columns.setdefault(drafted.name, drafted)
        for column in table.stored:
            found = columns.get(column.name)
            more = [found] if found else self._column(table, column, rules, plan, known)
            draft.columns |= {each.name: each for each in more}
        draft.comments += [
            f"{name} must differ from {limits.differs}"
            for name, limits in rules.columns.items()
            if limits.differs
            and "lambda" not in draft.columns[limits.differs].code
            and "lambda" not in draft.columns[name].code
        ]
        draft.comments += [
            f"not read: CHECK ({name} {'>' if limits.strictly else '>='} {limits.after})"
            for name, limits in rules.columns.items()
            if limits.after and _after(table, name, limits) is None
        ]
        return draft

    def _started(self, table: Table, plan: RowPlan, known: TableStatistics) -> TableDraft:
        variable = self._variable(table)
        if plan.parent is not None:
            parent = plan.parent
            zipf = f", zipf={plan.zipf}" if plan.zipf else ""
            limits = f"{plan.low}" if plan.low == plan.high else f"{plan.low}, {plan.high}"
            rows = f"g.per({parent.variable}, {limits}{zipf})"
            least, most = parent.least * plan.low, parent.most * plan.high
            return TableDraft(variable, table, rows, None, least, most)
        count = min(known.rows or ROWS, plan.most or known.rows or ROWS)
        rows = f'dataset.parameters["{variable}"]'
        return TableDraft(variable, table, rows, count, count, count)

    def _variable(self, table: Table) -> str:
        taken = {draft.variable for draft in self._schema.drafts.values()} | _RESERVED
        name = variable_name(table.name)
        if name in taken:
            name = f"{name}_{variable_name(table.schema)}"
        while name in taken:
            name += "_"
        return name

    def _column(
        self,
        table: Table,
        column: Column,
        rules: TableRules,
        plan: RowPlan,
        known: TableStatistics,
    ) -> list[ColumnDraft]:
        name, limits = column.name, rules.column(column.name)
        if name == self._schema.flag and column.base == "boolean":
            return [ColumnDraft(name, "True")]
        if name == plan.position:
            return [ColumnDraft(name, "g.position()")]
        if after := _after(table, name, limits):
            return [after]
        shape = known.column(name)
        unique = name in plan.unique
        value = draft_value(column, limits, unique=unique, shape=shape)
        if value is None or name.startswith("_"):
            return [_left_out(column)]
        hidden = [ColumnDraft(*each) for each in value.hidden]
        code = value.code
        if shape.null_share == 1.0 and not column.not_null and not unique:
            return [ColumnDraft(name, "None", "all are null there")]
        compared = {each.after for each in rules.columns.values()}
        never_null = column.not_null or limits.required or name in plan.keyed or name in compared
        share = NULL_SHARE if shape.null_share is None else shape.null_share
        if not never_null and share and code.startswith(("g.", "lambda")):
            code = f"g.nullable({code}, {share})"
        return [*hidden, ColumnDraft(name, code, "unique" if unique else "")]


def _left_out(column: Column) -> ColumnDraft:
    why = f"no value is known for type {column.type}"
    if column.name.startswith("_"):
        why = "names that begin with _ are not loaded"
    if column.not_null and not column.has_default:
        return ColumnDraft(column.name, "None", f"{why}: change this, as it is not null")
    return ColumnDraft(column.name, "", f"{column.name}: left out, {why}")


def _after(table: Table, name: str, limits: ColumnRules) -> ColumnDraft | None:
    """Draft a column whose value comes after another column's; None if their types can't tell."""
    first, after = int(limits.strictly), limits.after
    loaded = {each.name for each in table.stored if not each.name.startswith("_")}
    if after not in loaded or not is_plain(after):
        return None
    base, earlier = table.column(name).base, table.column(after).base
    is_time = earlier.startswith("timestamp")
    if base.startswith("timestamp") and (is_time or earlier == "date"):
        return ColumnDraft(name, f"g.timestamp({first}, 30, after={quoted(after)})")
    if base == "date" and (is_time or earlier == "date"):
        first += is_time  # a date is its midnight, which comes before the times of that day
        return ColumnDraft(name, f"g.date({first}, 30, after={quoted(after)})")
    if {base, earlier} <= {*INTEGERS, *NUMBERS}:
        number = after if base not in INTEGERS or earlier in INTEGERS else f"int({after})"
        return ColumnDraft(name, f"lambda {after}: {number} + 1", f"after {after}")
    return None
