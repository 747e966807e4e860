"""How work in progress is shown, on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress, TaskID

    from perfdata.progress import Event, Report

# Work that is done within a second is not worth a bar (nor rich's 60 ms to import).
BAR_AFTER_S = 1.0
# In a log, one line now and then shows that it lives.
LINE_EVERY_S = 10.0


@contextmanager
def reporting() -> Iterator[Report]:
    """Give the library a callback for as long as a task works."""
    if sys.stderr.isatty():
        bars = _Bars()
        try:
            yield bars
        finally:
            bars.stop()
    else:
        yield Lines()


class Lines:
    """Progress in plain lines: each message once, and how far slow work has come."""

    def __init__(
        self, bar_after_s: float = BAR_AFTER_S, line_every_s: float = LINE_EVERY_S
    ) -> None:
        """Take after how many seconds slow work is first mentioned, and how often then."""
        self._next_s: dict[str, float] = {}
        self._bar_after_s = bar_after_s
        self._line_every_s = line_every_s

    def __call__(self, event: Event) -> None:
        """Print the event where it is a message, or where work has taken long enough."""
        if event.done is None:
            _print(event.text)
            return
        now_s = time.monotonic()
        due_s = self._next_s.setdefault(event.text, now_s + self._bar_after_s)
        if event.done and now_s >= due_s:
            self._next_s[event.text] = now_s + self._line_every_s
            _print(f"{event.text}: {amount(event.done, event.total)}")


class _Bars:
    """Progress on a terminal: rich's bars, from the moment that work takes over a second."""

    def __init__(self) -> None:
        self._started_s: dict[str, float] = {}
        self._bars: dict[str, TaskID] = {}
        self._progress: Progress | None = None

    def __call__(self, event: Event) -> None:
        """Show the event."""
        if event.done is None:
            if self._progress is None:
                _print(event.text)
            else:
                self._progress.console.print(event.text, markup=False, highlight=False)
            return
        now_s = time.monotonic()
        if now_s - self._started_s.setdefault(event.text, now_s) >= BAR_AFTER_S:
            self._show(event.text, event.done, event.total)

    def _show(self, text: str, done: int, total: int | None) -> None:
        if self._progress is None:
            self._progress = _make_progress()
            self._progress.start()
        if text not in self._bars:
            self._bars[text] = self._progress.add_task(text, total=total)
        self._progress.update(self._bars[text], completed=done, total=total)

    def stop(self) -> None:
        """Take the bars away: what a task prints at its end says the same."""
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


def amount(done: int, total: int | None) -> str:
    """Write how far work has come: ``12,000 of 32,101 rows``."""
    return f"{done:,} rows" if total is None else f"{done:,} of {total:,} rows"
