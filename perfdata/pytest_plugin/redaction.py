"""Redaction: known passwords are kept out of whatever a test session writes.

Reports are redacted before anybody reads them: the terminal, JUnit's XML, perfdata's own results,
and, in a worker of xdist, what goes to the controller. What a test itself writes past pytest's
capture (``-s``, files of its own) is not seen here.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest

from perfdata.errors import ConfigError
from perfdata.libpq import SECRETS

if TYPE_CHECKING:
    import warnings
    from collections.abc import Iterable

REDACTION_PLUGIN = "perfdata-redaction"
_STARS = "***"
# From so many characters on a password is taken for one wherever it stands, also within a word;
# from so many as a word of its own. A shorter one, or one that is a word of every report (postgres,
# the user's or the database's name), only where a URL or a setting has a password.
_ANYWHERE, _WORD = 8, 4
_WORDS = "postgresql+psycopg password perfdata test"
_PLACES = (r"(?<=:)(?:{})(?=@)", r"(?<=password=)(?:{})(?!\w)", r"(?<=password=['\"])(?:{})(?!\w)")
# A diff begins and ends where the texts differ: a part of a password may be left.
_PARTS = r"(?:{ends})(?=@)|(?<=:)(?:{beginnings})(?=\.\.\.|…|'?$)"
_NEVER = "(?!)"
# What others know a test by is not touched.
_KEPT = {"nodeid", "location", "keywords"}


class Redaction:
    """The plugin that puts stars in the place of the passwords that it was told.

    PERFDATA_DATABASE_URL's and PGPASSWORD are known from the beginning.
    """

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()
        self._whole = self._parts = _any_pattern(())
        self._asked = False

    def learn(self, url: str) -> None:
        """Know the passwords of a URL or a conninfo; all of it where that can't be read."""
        from psycopg.conninfo import conninfo_to_dict

        from perfdata.postgres.url import normalise_url

        try:
            parts = conninfo_to_dict(normalise_url(url))
        except ConfigError:
            login = url.partition("://")[2].rpartition("@")[0]
            self._add(login.partition(":")[2] or url, "")
            return
        public = " ".join(str(value) for key, value in parts.items() if key not in SECRETS)
        for key in SECRETS:
            self._add(str(parts.get(key) or ""), public)

    def _add(self, password: str, public: str) -> None:
        if not password:
            return
        self._known.add(_expressions(password, f"{_WORDS} {public}"))
        self._whole, self._parts = map(_any_pattern, zip(*self._known, strict=True))

    def text(self, text: str) -> str:
        """Return a text without the passwords."""
        return self._whole.sub(_STARS, text) if self._knows_any() else text

    def _knows_any(self) -> bool:
        if not self._asked:
            self._asked = True
            self._add(os.environ.get("PGPASSWORD", ""), "")
            if url := os.environ.get("PERFDATA_DATABASE_URL"):
                self.learn(url)
        return bool(self._known)

    def _redacted(self, value: Any, *, parts: bool = False) -> Any:
        """Redact each text that a report is made of; pytest's own parts are changed in place.

        ``parts``: also what a diff left of a password. Only the texts of errors are searched for
        that, as it takes long. What can't be made again, such as a named tuple, is left as it is.
        """
        if isinstance(value, str):
            whole = self.text(value)
            return self._parts.sub(_STARS, whole) if parts else whole
        if type(value) in {list, tuple}:
            return type(value)(self._redacted(one, parts=parts) for one in value)
        if type(value) is dict:
            return {key: self._redacted(one, parts=parts) for key, one in value.items()}
        if hasattr(value, "toterminal"):
            self._redact(value, parts=parts)
        return value

    def _redact(self, part: object, *, parts: bool = False) -> None:
        if not self._knows_any():
            return
        facts = getattr(part, "__dict__", {})
        for name, value in facts.items():
            if name not in _KEPT:
                facts[name] = self._redacted(value, parts=parts or name == "longrepr")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Redact a test's report: its error, what was captured, its properties and results."""
        self._redact(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Redact what a module ran into."""
        if report.failed:
            self._redact(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage) -> None:
        """Redact a warning, which is shown at the end of the session."""
        message = warning_message.message
        if isinstance(message, Warning) and self._knows_any():
            message.args = self._redacted(message.args)


def _expressions(password: str, public: str) -> tuple[str, str]:
    """Make the expressions that find a password in each form it may have, and parts of these."""
    forms = _forms(password)
    found = _any_of(forms)
    if password.lower() in public.lower() or len(password) < _WORD:
        return "|".join(place.format(found) for place in _PLACES), ""
    if len(password) < _ANYWHERE:
        return rf"(?<!\w)(?:{found})(?!\w)", ""
    ends = _any_of(form[start:] for form in forms for start in range(1, len(form) - _WORD + 1))
    beginnings = _any_of(form[:end] for form in forms for end in range(_WORD, len(form)))
    return found, _PARTS.format(ends=ends, beginnings=beginnings)


def _any_pattern(expressions: Iterable[str]) -> re.Pattern[str]:
    # The longest first: what begins with another password is not left half.
    longest_first = sorted(filter(None, expressions), key=len, reverse=True)
    return re.compile("|".join(longest_first) or _NEVER, re.IGNORECASE | re.MULTILINE)


def _forms(password: str) -> set[str]:
    """Return a password as it is, as URLs and conninfos have it, and within quotes."""
    encoded = {quote(password, safe) for safe in ("", "/", " +")} | {quote_plus(password)}
    escaped = re.sub(r"(['\\])", r"\\\1", password)
    quoted = {repr(password)[1:-1], json.dumps(password)[1:-1], escaped}
    return {password, *encoded, *quoted}


def _any_of(texts: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(set(texts), key=len, reverse=True)))
