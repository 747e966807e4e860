"""The columns of foreign keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.draft.model import ColumnDraft
from perfdata.draft.order import must_exist
from perfdata.draft.statistics import ColumnStatistics
from perfdata.draft.values import draft_value, is_plain, quoted

if TYPE_CHECKING:
    from perfdata.draft.keys import RowPlan
    from perfdata.draft.model import Schema, TableDraft
    from perfdata.draft.rules import TableRules
    from perfdata.draft.statistics import TableStatistics
    from perfdata.postgres.catalog import ForeignKey

NULL_SHARE = 0.1


class References:
    """The drafts of the columns of a table's foreign keys."""

    def __init__(
        self,
        schema: Schema,
        draft: TableDraft,
        plan: RowPlan,
        rules: TableRules,
        known: TableStatistics,
    ) -> None:
        self._schema = schema
        self._draft = draft
        self._plan = plan
        self._rules = rules
        self._known = known

    def columns(self, key: ForeignKey) -> list[ColumnDraft]:
        """Return the drafts of the key's columns."""
        parent = self._schema.parent(key)
        if key.parent == key.child:
            return self._to_itself(key)
        if parent is None or not self._schema.is_usable(key):
            return self._to_later(key, parent)
        if key is self._plan.main:
            return [
                ColumnDraft(name, f"g.parent({'' if other == 'id' else quoted(other)})")
                for name, other in zip(key.child_columns, key.parent_columns, strict=True)
            ]
        if key is self._plan.unlike and self._plan.main is not None:
            (name,), first = key.child_columns, self._plan.main.child_columns[0]
            if is_plain(first):
                return [ColumnDraft(name, f"lambda {first}: {first} % {parent.rows} + 1")]
        zipf = self._known.column(key.child_columns[0]).zipf
        options = f", zipf={zipf}" if zipf else ""
        if key in self._plan.distinct:
            options = ", distinct=True"
        first = key.parent_columns[0]
        code = f"g.ref({parent.variable}{'' if first == 'id' else f', {quoted(first)}'}{options})"
        if len(key.child_columns) == 1:
            return [self._single(key, parent, code)]
        variable = f"{parent.variable}_of_{self._draft.variable}"
        self._draft.before.append(f"{variable} = {code}")
        codes = [variable, *(f"{variable}[{quoted(name)}]" for name in key.parent_columns[1:])]
        return [
            ColumnDraft(name, code) for name, code in zip(key.child_columns, codes, strict=True)
        ]

    def _single(self, key: ForeignKey, parent: TableDraft, code: str) -> ColumnDraft:
        (name,), (referenced,) = key.child_columns, key.parent_columns
        limits = self._rules.column(name)
        column = self._draft.table.column(name)
        if (limits.low is not None or limits.high is not None) and parent.is_serial(referenced):
            value = draft_value(column, limits, shape=ColumnStatistics(distinct=parent.least))
            if value is not None:
                return ColumnDraft(name, value.code, f"keys of {parent.variable}")
        share = self._known.column(name).null_share
        share = NULL_SHARE if share is None else share
        if not column.not_null and share and name not in self._plan.keyed:
            code = f"g.nullable({code}, {share})"
        return ColumnDraft(name, code)

    def _to_itself(self, key: ForeignKey) -> list[ColumnDraft]:
        """Reference earlier rows, or, where some must be referenced, the row itself."""
        if len(key.child_columns) == 1 and not must_exist(self._schema.catalog, key):
            (name,), (referenced,) = key.child_columns, key.parent_columns
            if referenced == "id":
                return [ColumnDraft(name, "g.earlier()")]
        return [
            ColumnDraft(name, f"lambda {other}: {other}", "the row itself")
            if is_plain(other)
            else ColumnDraft(name, "None", "references its own table: change this")
            for name, other in zip(key.child_columns, key.parent_columns, strict=True)
        ]

    def _is_required(self, name: str) -> bool:
        return self._draft.table.column(name).not_null

    def _to_later(self, key: ForeignKey, parent: TableDraft | None) -> list[ColumnDraft]:
        """Reference nothing, or the first row of a table that comes later."""
        other = self._schema.catalog.by_oid[key.parent].key
        why = f"references {other}"
        why += ", which is drafted later" if parent is None else ", of which it can't be drafted"
        if not must_exist(self._schema.catalog, key):
            nullable = [name for name in key.child_columns if not self._is_required(name)]
            return [ColumnDraft(name, "None", why) for name in nullable]
        return [ColumnDraft(name, "1", f"{why}: change this") for name in key.child_columns]
