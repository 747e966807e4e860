"""Draft a dataset: a first definition, which runs, from what the catalog says of the tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from perfdata.config import Settings
from perfdata.draft.code import module_text
from perfdata.draft.model import Schema
from perfdata.draft.order import tables_to_draft
from perfdata.draft.overlaps import settle_overlaps
from perfdata.draft.rules import read_rules
from perfdata.draft.statistics import read_statistics
from perfdata.draft.tables import Drafter
from perfdata.errors import SchemaError
from perfdata.postgres.connection import open_link
from perfdata.postgres.reflection import read_catalog
from perfdata.project import find_project, flag_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from perfdata.draft.model import TableDraft


@dataclass(frozen=True)
class Draft:
    """A drafted dataset: the text of a module, its tables, and what the user should know."""

    text: str
    tables: tuple[str, ...]
    notes: tuple[str, ...]


def draft_dataset(
    database: object,
    tables: Sequence[str] = (),
    *,
    like: str | None = None,
    name: str = "draft",
    as_of: date | None = None,
    settings: Settings | None = None,
) -> Draft:
    """Write a first definition of a dataset, which can be built as it is.

    Types, nullability, unique keys, foreign keys, lengths, enums and check constraints come from
    the catalog; what can't be read is a comment in the text.

    Args:
        database: a database with the tables: a URL, a SQLAlchemy Engine, Connection or Session, or
            a psycopg connection. No row is read.
        tables: the tables, by default all; tables that their rows must reference are added.
        like: the URL of a database whose planner statistics shape the rows: numbers of rows, null
            shares, distinct values, skew, rows by parent. No row of it is read, nor a value of
            one.
        name: the dataset's name.
        as_of: its reference date, by default today.

    Raises SchemaError for a table that does not exist, ConnectError.
    """
    settings = settings or Settings.load()
    flag = flag_of(find_project(settings), settings)
    with open_link(database) as link:
        catalog = read_catalog(link)
        rules = read_rules(link, catalog)
    chosen = tables_to_draft(catalog, tables)
    if not chosen:
        raise SchemaError("the database has no table", remedy="Run the migrations: db.migrate")
    statistics = {}
    if like is not None:
        with open_link(like) as link:
            statistics = read_statistics(link)
    single = settle_overlaps(catalog, chosen, rules)
    drafter = Drafter(Schema(catalog, rules, flag, statistics, single))
    drafts = [drafter.draft(table) for table in chosen]
    today = as_of or datetime.now(UTC).date()
    missing = [table.key for table in chosen if table.key not in statistics]
    return Draft(
        module_text(drafts, name, today),
        tuple(table.key for table in chosen),
        tuple(_notes(drafts, missing if like is not None else [])),
    )


def _notes(drafts: Sequence[TableDraft], missing: Sequence[str]) -> list[str]:
    notes = [f"{draft.table.key}: {comment}" for draft in drafts for comment in draft.comments]
    if missing:
        notes.append(
            f"no statistics of {', '.join(missing)} there: if they have rows, run ANALYZE as their "
            "owner"
        )
    return notes
