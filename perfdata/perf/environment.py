"""The environment that a baseline holds for: what decides counts beside data and settings.

It is a mapping with ``postgresql`` (the major version), ``provider`` (builtin, icu, libc),
``locale`` and ``block_size`` (bytes), as perfdata.perf.engine.Facts reads them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_USUAL_COLLATION = ("builtin", "C.UTF-8")  # the embedded server's
_USUAL_BLOCK = 8192


def signature(environment: Mapping[str, str]) -> str:
    """Name an environment, as a folder's name: ``pg18``, ``pg15-libc-en_US.UTF-8``, ``pg18-16k``.

    The embedded server's collation and the usual block size go without saying.
    """
    parts = [f"pg{environment['postgresql']}"]
    collation = (environment["provider"], environment["locale"])
    if collation != _USUAL_COLLATION:
        parts += collation
    if (block := int(environment["block_size"])) != _USUAL_BLOCK:
        parts.append(f"{block // 1024}k")
    return "-".join(re.sub(r"[^\w.@-]+", "_", part) for part in parts)
