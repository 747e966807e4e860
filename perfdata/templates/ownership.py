"""Ownership: whether a database is perfdata's own, by a mark that holds on its very server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.templates.databases import list_databases, write_mark
from perfdata.templates.marks import Kind, own_words, parse_mark, read_mark

if TYPE_CHECKING:
    from perfdata.postgres.link import Link
    from perfdata.templates.databases import TargetDatabase

_HERE = """
SELECT d.oid::bigint, d.datname, pg_catalog.shobj_description(d.oid, 'pg_database')
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()"""


def is_owned(link: Link) -> bool:
    """Tell whether the database of a link is perfdata's own, to be used and replaced."""
    ((oid, name, comment),) = link.rows(_HERE)
    mark = read_mark(comment, oid, link.server_identifier)
    return mark is not None and mark.kind is Kind.MADE and mark.names(name)


def leads_to(link: Link, target: TargetDatabase) -> bool:
    """Tell whether a link is to the target of a target, which a pooler may reach elsewhere."""
    ((*here, _),) = link.rows(_HERE)
    there = [target.oid, target.name]
    return here == there and link.server_identifier == target.link.server_identifier


def complete_marks(link: Link) -> None:
    """Write the server's identifier into marks that lack it.

    For the embedded server, which nobody but perfdata fills: there they hold as they are.
    """
    for one in list_databases(link):
        mark = parse_mark(one.comment)
        if mark is not None and not mark.server and mark.oid == one.oid:
            write_mark(link, one.name, own_words(one.comment), mark)
