"""Notices: auto_explain's messages, as the drivers hand them over."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from perfdata.perf.plans import is_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    Take = Callable[[str, str | None, Any], None]


class Notices:
    """Hears driver connections until it is closed, and passes on the messages with plans."""

    def __init__(self, take: Take) -> None:
        """Take what is given each message, its context, and the connection that sent it."""
        self._take = take
        self._heard: dict[int, tuple[Any, Callable[[], None]]] = {}

    def listen(self, connection: Any) -> bool:
        """Hear a connection of psycopg or asyncpg; False of another driver."""
        if id(connection) in self._heard:
            return True
        if hasattr(connection, "add_notice_handler"):
            handler = partial(self._psycopg, connection)
            connection.add_notice_handler(handler)
            end = partial(connection.remove_notice_handler, handler)
        elif hasattr(connection, "add_log_listener"):
            connection.add_log_listener(self._asyncpg)
            end = partial(connection.remove_log_listener, self._asyncpg)
        else:
            return False
        self._heard[id(connection)] = (connection, end)
        return True

    def close(self) -> None:
        """Hear nothing any more."""
        heard, self._heard = self._heard, {}
        for _, end in heard.values():
            end()

    def _psycopg(self, connection: Any, diagnostic: Any) -> None:
        # Read as it comes: the driver frees a message when this returns.
        text = diagnostic.message_primary or ""
        if is_plan(text):
            self._take(text, diagnostic.context, connection)

    def _asyncpg(self, connection: Any, message: Any) -> None:
        if is_plan(message.message or ""):
            self._take(message.message, message.context, connection)
