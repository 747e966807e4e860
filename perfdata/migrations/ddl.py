"""The DDL of a project's metadata, by table: hashed, kept in a database, compared.

Only for the child process.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import MetaData

    # The statements of each table; of a type or a sequence under its kind and name.
    Ddl = Mapping[str, Sequence[str]]

# A setting of a database is read whenever a connection is opened: 64 kB take 0.2 ms of 1.7. 100
# tables of 13 columns take 12 kB, so about 500 fit.
_MAX_PACKED = 64_000


def read_ddl(metadata: MetaData) -> Ddl:
    """Return the statements that make the tables of the metadata."""
    from sqlalchemy import create_mock_engine

    statements: dict[str, list[str]] = {}

    def append(statement: Any, *_: Any, **__: Any) -> None:
        text = str(statement.compile(dialect=engine.dialect))
        statements.setdefault(_owner(statement.element), []).append(text)

    engine = create_mock_engine("postgresql+psycopg://", append)
    metadata.create_all(engine, checkfirst=False)
    # Sorted, because SQLAlchemy keeps a table's indexes in a set.
    return {name: sorted(texts) for name, texts in sorted(statements.items())}


def _owner(element: Any) -> str:
    """Name the table that a statement is about, else the object and its kind."""
    table = getattr(element, "table", element)
    name = getattr(table, "fullname", None) or getattr(table, "name", "")
    kind = type(element).__name__.lower()
    return str(name) if hasattr(table, "columns") else f"{kind} {name}"


def hash_ddl(ddl: Ddl) -> str:
    """Return the SHA-256 of all statements, as 64 hexadecimal digits."""
    text = json.dumps(sorted(text for texts in ddl.values() for text in texts))
    return hashlib.sha256(text.encode()).hexdigest()


def pack_ddl(ddl: Ddl) -> str:
    """Return the statements as short text, empty if they are too long for a setting."""
    packed = base64.b64encode(zlib.compress(json.dumps(ddl).encode(), 9)).decode()
    return packed if len(packed) <= _MAX_PACKED else ""


def unpack_ddl(packed: str | None) -> Ddl | None:
    """Return the statements that pack_ddl packed, None if it is none of its texts."""
    try:
        ddl: Ddl = json.loads(zlib.decompress(base64.b64decode(packed or "")))
    except (ValueError, zlib.error):
        return None
    return ddl


def added_tables(before: Ddl, now: Ddl) -> list[str]:
    """Return the tables that only ``now`` has, if nothing else differs."""
    same = all(now.get(name) == texts for name, texts in before.items())
    return [name for name in now if name not in before] if same else []


def describe_differences(before: Ddl, now: Ddl) -> list[str]:
    """Say what differs, a table or one of its columns at a time."""
    lines: list[str] = []
    for name in sorted({*before, *now}):
        if name not in before:
            lines.append(f"{name} is new")
        elif name not in now:
            lines.append(f"{name} is gone")
        else:
            lines += _differences(name, _parts(before[name]), _parts(now[name]))
    return lines


def _parts(statements: Sequence[str]) -> list[str]:
    """Split CREATE TABLE into its columns and constraints; other statements are one part."""
    parts: list[str] = []
    for statement in statements:
        lines = statement.strip().splitlines()
        inner = lines[1:-1] if lines[0].startswith("CREATE TABLE") else [" ".join(lines)]
        parts += [line.strip().rstrip(", ") for line in inner]
    return parts


def _differences(table: str, before: Sequence[str], now: Sequence[str]) -> Iterator[str]:
    new = {part.partition(" ")[0]: part for part in now if part not in before}
    for part in before:
        if part in now:
            continue
        name, _, definition = part.partition(" ")
        if other := new.pop(name, None):
            yield f"{table}.{name} was {definition}, is {other.partition(' ')[2]}"
        else:
            yield f"{table}: {part} is gone"
    yield from (f"{table}: {part} is new" for part in new.values())
