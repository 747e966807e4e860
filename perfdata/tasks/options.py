"""Options with values: Invoke hands over the text that was typed, and here it is read."""

from __future__ import annotations

import re

from perfdata.errors import ConfigError

LOCK_TIMEOUT = "how long to wait for locks that others hold: 10s (the default), 500ms, 30"
AS_SUPERUSER = "let code of other roles (checks, defaults, indexes) run with this role's rights"

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|min)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0}


def read_duration(option: str, text: str) -> float:
    """Read ``10s``, ``500ms``, ``1min`` or plain seconds; ConfigError for anything else."""
    match = _DURATION.fullmatch(text)
    if not match:
        raise ConfigError(f"--{option} {text!r} is no length of time: say 10s, 500ms, 1min or 10")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def read_lock_timeout(text: str) -> float:
    """Read ``--lock-timeout``; where it was not given, the default."""
    from perfdata.postgres.locks import LOCK_TIMEOUT_S, lock_timeout

    seconds = read_duration("lock-timeout", text) if text else LOCK_TIMEOUT_S
    lock_timeout(seconds)
    return seconds
