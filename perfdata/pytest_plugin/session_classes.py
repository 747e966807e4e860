"""The classes of perf tests' sessions: SQLAlchemy's, or those that the settings name."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

from perfdata.errors import ConfigError
from perfdata.project import import_object

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from perfdata.config import Settings

S = TypeVar("S")


def session_class(settings: Settings) -> type[Session]:
    """Return the setting ``session_class``, imported; raise ConfigError if it is no Session."""
    from sqlalchemy.orm import Session

    return _chosen(settings, "session_class", settings.session_class, Session)


def async_session_class(settings: Settings) -> type[AsyncSession]:
    """Return ``async_session_class``, imported; raise ConfigError if it is no AsyncSession."""
    from sqlalchemy.ext.asyncio import AsyncSession

    return _chosen(settings, "async_session_class", settings.async_session_class, AsyncSession)


def _chosen(settings: Settings, name: str, reference: str | None, base: type[S]) -> type[S]:
    if reference is None:
        return base
    if (root := str(settings.root)) not in sys.path:
        sys.path.insert(0, root)
    found = import_object(reference, f"[tool.perfdata] {name}")
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(
            f"[tool.perfdata] {name} {reference!r} is no subclass of SQLAlchemy's {base.__name__}"
        )
    return found
