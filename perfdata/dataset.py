"""Datasets: named, seeded, scaled definitions of rows."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perfdata.driver_hooks import confined
from perfdata.errors import ConfigError
from perfdata.sources import imported_sources, named_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import date


@dataclass(frozen=True)
class TableRows:
    r"""One table's rows, ready for COPY.

    ``table`` is a bare name in schema public, else ``schema.table``. ``blocks`` yields bytes in
    COPY's text format (tab between values, ``\N`` for null), each block whole lines.
    """

    table: str
    columns: tuple[str, ...]
    blocks: Iterable[bytes]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A named definition of rows: the same seed, parameters and version give the same rows.

    ``generate`` yields the tables in any order, each once. ``sources`` are the modules or packages
    whose code decides the rows (by default the modules of ``generate`` and of the project, which
    is ``defined_in`` and set when it is loaded, with what they import of their own); ``pools``
    returns a digest of values taken from elsewhere, such as a Faker provider's lists. Both are
    part of the fingerprint.
    """

    name: str
    generate: Callable[[Dataset], Iterator[TableRows]] = field(repr=False)
    as_of: date
    parameters: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0
    version: int = 1
    description: str = ""
    sources: tuple[str, ...] = ()
    defined_in: str | None = None
    pools: Callable[[], str] | None = field(default=None, repr=False)

    def fingerprint(self) -> str:
        """Hash everything that decides the rows, as 64 hexadecimal digits."""
        return _digest(self.fingerprint_parts())

    def fingerprint_parts(self) -> dict[str, str]:
        """Return what the fingerprint is made of, by name."""
        parts = {
            "name": self.name,
            "parameters": json.dumps(dict(sorted(self.parameters.items()))),
            "seed": str(self.seed),
            "version": str(self.version),
            "as_of": self.as_of.isoformat(),
        }
        if self.sources:
            sources = named_sources(self.sources)
        else:
            sources = imported_sources(_module_of(self.generate))
            if self.defined_in is not None:
                sources |= imported_sources(self.defined_in)
        parts |= {f"source {module}": digest for module, digest in sources.items()}
        if self.pools is not None:
            with confined(f"dataset {self.name}", None):
                parts["pools"] = self.pools()
        return parts


def _module_of(generate: object) -> str:
    """Return the module that a function comes from; what hides it would hide its code."""
    module = getattr(generate, "__module__", None)
    if isinstance(generate, functools.partial) or not isinstance(module, str):
        raise ConfigError(
            f"generate={generate!r} does not tell in which module its code stands: give a "
            "function, with what varies in parameters, or name the modules in sources"
        )
    return module


def _digest(parts: Mapping[str, str]) -> str:
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
