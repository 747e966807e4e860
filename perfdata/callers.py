"""Callers: the lines of the application's code that led to a statement."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from perfdata.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

_PACKAGE = Path(__file__).resolve().parent
_OWN_CODE = f"{Path(__file__).parent}{os.sep}"  # as frames name it
_LIBRARIES = tuple({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")})
INSTALLED = {"site-packages", "dist-packages"}
# The bundled project counts as an application, although it is part of this package.
_BUNDLED = _PACKAGE / "welfare"


class Caller(NamedTuple):
    """A line of code; ``file`` is relative to the root if it is inside it."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        """Write ``file:line in function``, which editors can open."""
        return f"{self.file}:{self.line} in {self.function}"


class FrameMark:
    """Identifies one execution of a function, in which several statements may be sent.

    It is the frame's trace function: the only attribute that a frame accepts, and gone with it. A
    reference to the frame would keep the function's objects alive, and its id is used again.
    """

    def __call__(self, *_: object) -> None:
        """Trace nothing, where a debugger starts after the frame was marked."""


class AppFrame(NamedTuple):
    """A running frame of the application; ``mark`` is None if a debugger or coverage traces it."""

    caller: Caller
    mark: FrameMark | None


class Callers:
    """Finds frames of the application: not of a library, not of perfdata.

    ``own_packages`` are installed packages that belong to the application, by import name. Raises
    ConfigError if one of them is not installed.
    """

    def __init__(self, root: Path, own_packages: Iterable[str] = ()) -> None:
        self._root = root.resolve()
        self._own = [tuple(package.split(".")) for package in own_packages]
        self._files: dict[str, str | None] = {}
        for top, *_ in self._own:
            if importlib.util.find_spec(top) is None:
                raise ConfigError(
                    f"own_packages names {top!r}, which is not installed: packages are named as in "
                    "an import"
                )

    def find(self) -> Caller | None:
        """Return the application's line that is running; None if the stack has none."""
        innermost = sys._getframe(1)  # noqa: SLF001  a traceback would cost much more
        for frame in _outwards(innermost):
            file = self.shown(frame.f_code.co_filename)
            if file is not None:
                return Caller(file, frame.f_lineno, frame.f_code.co_qualname)
        return None

    def stack(self) -> tuple[AppFrame, ...]:
        """Return the application's running frames, innermost first, up to perfdata's call of it."""
        found: list[AppFrame] = []
        for frame in _outwards(sys._getframe(1)):  # noqa: SLF001  as in find
            file = self.shown(frame.f_code.co_filename)
            if file is not None:
                caller = Caller(file, frame.f_lineno, frame.f_code.co_qualname)
                found.append(AppFrame(caller, _mark(frame)))
            elif found and frame.f_code.co_filename.startswith(_OWN_CODE):
                break
        return tuple(found)

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
        if not self._is_own(path) and (
            INSTALLED.intersection(path.parts)
            or path.is_relative_to(_PACKAGE)
            or any(path.is_relative_to(library) for library in _LIBRARIES)
        ):
            return None
        inside = path.is_relative_to(self._root)
        return (path.relative_to(self._root) if inside else path).as_posix()

    def _is_own(self, path: Path) -> bool:
        """Return whether a file belongs to an installed package that is the application's."""
        parts = path.with_suffix("").parts
        start = max((n for n, part in enumerate(parts, 1) if part in INSTALLED), default=0)
        return start > 0 and any(parts[start:][: len(own)] == own for own in self._own)


def calling_line() -> str:
    """Return the running line of the project's code: `` (app/db.py, line 3)``, or ``""``."""
    caller = Callers(Path.cwd()).find()
    return f" ({caller.file}, line {caller.line})" if caller else ""


def _mark(frame: FrameType) -> FrameMark | None:
    if frame.f_trace is None:
        frame.f_trace = FrameMark()
    return frame.f_trace if isinstance(frame.f_trace, FrameMark) else None


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
