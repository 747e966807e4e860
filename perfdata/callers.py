"""Callers: the line of the application that sent a statement."""

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
# The bundled project is an application that happens to lie inside of the package.
_BUNDLED = _PACKAGE / "welfare"


class Caller(NamedTuple):
    """A line of code; ``file`` is relative to the root where it lies in there."""

    file: str
    line: int
    function: str


class Callers:
    """Finds the nearest frame that is neither a library's nor perfdata's own."""

    def __init__(self, root: Path) -> None:
        """Take the folder that files are named from."""
        self._root = root.resolve()
        self._files: dict[str, str | None] = {}

    def find(self) -> Caller | None:
        """Return the line that is being executed; None where no application is in the stack."""
        frame = sys._getframe(1)  # noqa: SLF001  a traceback would cost much more
        for one in _outwards(frame):
            file = self.shown(one.f_code.co_filename)
            if file is not None:
                return Caller(file, one.f_lineno, one.f_code.co_qualname)
        return None

    def shown(self, name: str) -> str | None:
        """Return what an application's file is called; None for a library's, or perfdata's own."""
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
            or any(path.is_relative_to(one) for one in _LIBRARIES)
        ):
            return None
        inside = path.is_relative_to(self._root)
        return (path.relative_to(self._root) if inside else path).as_posix()


def _outwards(frame: FrameType | None) -> Any:
    """Yield frames outwards; from SQLAlchemy's greenlet on into the coroutine that waits for it."""
    greenlet = sys.modules.get("greenlet")
    inner = greenlet.getcurrent() if greenlet else None
    while frame is not None:
        yield frame
        frame = frame.f_back
        if frame is None and inner is not None and inner.parent is not None:
            inner = inner.parent
            frame = inner.gr_frame
