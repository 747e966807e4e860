"""Calls one after the other in a thread, beside what the caller does meanwhile."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

P = ParamSpec("P")

# Calls that may wait, each with a block of rows, and their bytes: enough that neither side stands
# still, and few where rows are of megabytes.
_WAITING, _WAITING_BYTES = 8, 4 << 20


class Turns:
    """A context in which ``add`` queues calls; at its end all of them are done.

    What a call raises is raised by a later ``add`` or at the end, and those behind it are not made.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "perfdata-turns")
        self._waiting: deque[tuple[Future[object], int]] = deque()

    def add(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Queue a call; wait where too many wait already."""
        size = sum(len(one) for one in args if isinstance(one, bytes))
        self._waiting.append((self._thread.submit(call, *args, **kwargs), size))
        while len(self._waiting) > _WAITING or self._bytes() > _WAITING_BYTES:
            self._waiting.popleft()[0].result()

    def _bytes(self) -> int:
        return sum(size for _, size in self._waiting)

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
                self._waiting.popleft()[0].result()
        finally:
            self._thread.shutdown(cancel_futures=True)
