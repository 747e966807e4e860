"""A file in the user's browser, where there is somebody to look at it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def open_in_browser(path: Path) -> str | None:
    """Open a file in the browser; where that can't be, return why, and do nothing."""
    import webbrowser

    if os.environ.get("CI"):
        return "this is continuous integration"
    # Without a display Python would start a text browser in this terminal, and wait for it.
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return "there is no display"
    return None if webbrowser.open(path.resolve().as_uri()) else "no browser was found"
