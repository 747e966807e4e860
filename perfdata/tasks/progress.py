"""Progress on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress, TaskID

    from perfdata.progress import Event, Report

# Work of less than a second needs no progress, nor the 60 ms that importing rich takes.
SHOWN_AFTER_S = 1.0
# In a log, a line now and then shows that long work is still running.
LINE_EVERY_S = 10.0


@contextmanager
def reporting() -> Iterator[Report]:
    """Yield a callback that shows the library's progress while a task works."""
    if sys.stderr.isatty():
        bars = _Bars()
        try:
            yield bars
        finally:
            bars.stop()
    else:
        yield Lines()


class Lines:
    """Progress as plain lines, for logs and pipes.

    Every message is printed. Work that takes over ``shown_after_s`` is printed with its total when
    it is done, and every ``line_every_s`` until then with the rows so far.
    """

    def __init__(
        self, shown_after_s: float = SHOWN_AFTER_S, line_every_s: float = LINE_EVERY_S
    ) -> None:
        self._shown_after_s = shown_after_s
        self._line_every_s = line_every_s
        self._started_s: dict[str, float] = {}
        self._printed_s: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Print a message, or the progress of work if it is due."""
        if event.done is None:
            _print(event.text)
            return
        now_s = time.monotonic()
        started_s = self._started_s.setdefault(event.text, now_s)
        printed_s = self._printed_s.setdefault(event.text, started_s)
        if event.finished:
            del self._started_s[event.text], self._printed_s[event.text]
            if now_s - started_s >= self._shown_after_s:
                _print(f"{event.text}: {event.done:,} rows")
        elif event.done and now_s - printed_s >= self._line_every_s:
            self._printed_s[event.text] = now_s
            _print(f"{event.text}: {_so_far(event.done, event.total)}")


def _so_far(done: int, total: int | None) -> str:
    return f"{done:,} rows so far" if total is None else f"{done:,} of {total:,} rows"


class _Bars:
    """Progress as rich's bars, for work that takes over a second."""

    def __init__(self) -> None:
        self._started_s: dict[str, float] = {}
        self._bars: dict[str, TaskID] = {}
        self._progress: Progress | None = None

    def __call__(self, event: Event) -> None:
        """Print a message, or move the bar of work that has taken long enough."""
        if event.done is None:
            if self._progress is None:
                _print(event.text)
            else:
                self._progress.console.print(event.text, markup=False, highlight=False)
            return
        now_s = time.monotonic()
        if now_s - self._started_s.setdefault(event.text, now_s) >= SHOWN_AFTER_S:
            self._show(event.text, event.done, event.total)

    def _show(self, text: str, done: int, total: int | None) -> None:
        if self._progress is None:
            self._progress = _make_progress()
            self._progress.start()
        if text not in self._bars:
            self._bars[text] = self._progress.add_task(text, total=total)
        self._progress.update(self._bars[text], completed=done, total=total)

    def stop(self) -> None:
        """Remove the bars; the task prints its result instead."""
        if self._progress is not None:
            self._progress.stop()


def _make_progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,.0f} rows"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
