"""Datasets: named, seeded, scaled definitions of rows."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfdata.driver_hooks import confined
from perfdata.errors import ConfigError
from perfdata.faker_lists import faker_digest, named_lists
from perfdata.sources import imported_sources, named_sources, source_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import date

    from sqlalchemy import FromClause

# The values of perfdata.generate: to be raised when the same columns give others.
_VALUES = "1"


@dataclass(frozen=True, init=False)
class TableRows:
    r"""The rows of one table, or a part of them; give exactly one of blocks, rows and arrow.

    - ``table``: a name in schema public, ``schema.table``, or a SQLAlchemy model or Table, which is
      kept in ``model``
    - ``columns``: the columns, in the order of the values; the others take their defaults
    - ``blocks``: COPY text: bytes of whole lines, with tabs between values and ``\N`` for null
    - ``rows``: dicts or instances of a model, or, with ``columns``, tuples; consumed once, lazily
    - ``arrow``: anything with ``__arrow_c_stream__``, such as a Polars frame (extra ``arrow``)

    Raises ConfigError if none of them is given, or several.
    """

    table: str
    columns: tuple[str, ...]
    blocks: Iterable[bytes] = field(repr=False)
    rows: Iterable[object] | None = field(repr=False)
    arrow: Any = field(repr=False)
    model: Any

    def __init__(
        self,
        table: str | type | FromClause,
        columns: Iterable[str] = (),
        blocks: Iterable[bytes] | None = None,
        *,
        rows: Iterable[object] | None = None,
        arrow: object = None,
    ) -> None:
        name = table if isinstance(table, str) else _name_of(table)
        given = [what for what in (blocks, rows, arrow) if what is not None]
        if len(given) != 1:
            raise ConfigError(
                f"TableRows of {name} has {len(given)} of blocks, rows and arrow: give one of them"
            )
        values = {
            "table": name,
            "columns": tuple(columns),
            "blocks": () if blocks is None else blocks,
            "rows": rows,
            "arrow": arrow,
            "model": None if isinstance(table, str) else table,
        }
        for attribute, value in values.items():
            object.__setattr__(self, attribute, value)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A named definition of rows; the same seed, parameters and version give the same rows.

    - ``generate``: yields, or returns in a list, the rows of each table, in any order; the parts of
      one table consecutively
    - ``as_of``: the reference date of the rows, used as today
    - ``sources``: the modules or packages whose code decides the rows. Default: the modules of
      ``generate`` and of the project (``defined_in``, which load_project sets), with the modules
      of their own project that they import
    - ``pools``: returns a digest of values from outside the sources, such as a file's. Faker's
      lists whose names ``perfdata.generate.faker`` is given as literals are covered without it

    All fields but ``description`` and ``defined_in`` are part of the fingerprint.
    """

    name: str
    generate: Callable[[Dataset], Iterable[TableRows]] = field(repr=False)
    as_of: date
    parameters: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0
    version: int = 1
    description: str = ""
    sources: tuple[str, ...] = ()
    defined_in: str | None = None
    pools: Callable[[], str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raise ConfigError for a parameter that is not a number."""
        for name, value in self.parameters.items():
            if not isinstance(value, (int, float)):
                raise ConfigError(
                    f"parameter {name} of dataset {self.name} is {value!r}: parameters are numbers"
                )

    def fingerprint(self) -> str:
        """Return a SHA-256 of everything that decides the rows, as 64 hexadecimal digits."""
        return _digest(self.fingerprint_parts())

    def fingerprint_parts(self) -> dict[str, str]:
        """Return the parts that the fingerprint hashes, by name."""
        parts = {
            "name": self.name,
            "parameters": json.dumps(dict(sorted(self.parameters.items()))),
            "seed": str(self.seed),
            "version": str(self.version),
            "as_of": self.as_of.isoformat(),
            "values": _VALUES,
        }
        importing = () if self.sources else (_module_of(self.generate), self.defined_in)
        modules = [module for module in importing if module is not None]
        sources = named_sources(self.sources)
        for module in modules:
            sources |= imported_sources(module)
        parts |= {f"source {module}": digest for module, digest in sources.items()}
        lists, computed = named_lists(source_files(self.sources, modules))
        if computed and self.pools is None:
            raise ConfigError(
                f"dataset {self.name} calls faker() with a computed name ({computed[0]}), so its "
                "fingerprint cannot cover that list",
                remedy="Write the name as a literal, or return a digest of the list from "
                "Dataset(pools=…)",
            )
        if lists:
            parts["faker"] = faker_digest(lists)
        if self.pools is not None:
            with confined(f"dataset {self.name}", None):
                parts["pools"] = self.pools()
        return parts


def _name_of(model: object) -> str:
    """Return the name of a model's table; raise ConfigError for what is neither that nor a name."""
    from perfdata.postgres.catalog import table_key

    table: Any = getattr(model, "__table__", model)
    if not hasattr(table, "schema") or not isinstance(getattr(table, "name", None), str):
        raise ConfigError(
            f"TableRows of {model!r}: expected a table's name, or a SQLAlchemy model or Table"
        )
    return table_key(table.schema or "public", table.name)


def _module_of(generate: object) -> str:
    """Return a function's module; raise ConfigError for a partial, whose code is elsewhere."""
    module = getattr(generate, "__module__", None)
    if isinstance(generate, functools.partial) or not isinstance(module, str):
        raise ConfigError(
            f"the module of generate={generate!r} is unknown: pass a plain function and put what "
            "varies into parameters, or list the modules in sources"
        )
    return module


def _digest(parts: Mapping[str, str]) -> str:
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
