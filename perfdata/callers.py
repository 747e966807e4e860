"""Callers: the application's line of code that sent a statement."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from types import FrameType

_PACKAGE = Path(__file__).resolve().parent
_LIBRARIES = tuple({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")})
_INSTALLED = {"site-packages", "dist-packages"}
# The bundled project counts as an application, although it is part of this package.
_BUNDLED = _PACKAGE / "welfare"


class Caller(NamedTuple):
    """A line of code; ``file`` is relative to the root if it is inside it."""

    file: str
    line: int
    function: str


class Callers:
    """Finds the innermost frame of the application: not of a library, not of perfdata."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._files: dict[str, str | None] = {}

    def find(self) -> Caller | None:
        """Return the application's line that is running; None if the stack has none."""
        innermost = sys._getframe(1)  # noqa: SLF001  a traceback would cost much more
        for frame in _outwards(innermost):
            file = self.shown(frame.f_code.co_filename)
            if file is not None:
                return Caller(file, frame.f_lineno, frame.f_code.co_qualname)
        return None

    def shown(self, name: str) -> str | None:
        """Return the path to show for an application's file; None for any other file."""
        if name not in self._files:
            self._files[name] = self._shown(name)
        return self._files[name]

    def _shown(self, name: str) -> str | None:
        if name.startswith("<"):
            return None
        path = Path(name).resolve()
        if path.is_relative_to(_BUNDLED):
            return path.relative_to(_PACKAGE.parent).as_posix()
        if (
            _INSTALLED.intersection(path.parts)
            or path.is_relative_to(_PACKAGE)
            or any(path.is_relative_to(library) for library in _LIBRARIES)
        ):
            return None
        inside = path.is_relative_to(self._root)
        return (path.relative_to(self._root) if inside else path).as_posix()


def _outwards(frame: FrameType | None) -> Any:
    """Yield frames outwards, across SQLAlchemy's greenlet into the coroutine awaiting it."""
    greenlet = sys.modules.get("greenlet")
    inner = greenlet.getcurrent() if greenlet else None
    while frame is not None:
        yield frame
        frame = frame.f_back
        if frame is None and inner is not None and inner.parent is not None:
            inner = inner.parent
            frame = inner.gr_frame
