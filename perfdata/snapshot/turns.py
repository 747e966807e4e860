"""Calls one after the other in a thread, beside what the caller does meanwhile."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

P = ParamSpec("P")

# Calls that may wait: enough that neither side stands still, and each holds a block of rows.
_WAITING = 8


class Turns:
    """A context in which ``add`` queues calls; at its end all of them are done.

    What a call raises is raised by a later ``add`` or at the end, and those behind it are not made.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "perfdata-turns")
        self._waiting: deque[Future[object]] = deque()

    def add(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Queue a call; wait where too many wait already."""
        self._waiting.append(self._thread.submit(call, *args, **kwargs))
        while len(self._waiting) > _WAITING:
            self._waiting.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            while self._waiting and kind is None:
                self._waiting.popleft().result()
        finally:
            self._thread.shutdown(cancel_futures=True)
