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

if TYPE_CHECKING:
    import warnings
    from collections.abc import Iterable

REDACTION_PLUGIN = "perfdata-redaction"
_STARS = "***"
_SECRETS = ("password", "sslpassword", "oauth_client_secret")
# From so many characters on a password is taken for one wherever it stands, also within a word;
# from so many as a word of its own. A shorter one, or one that is a word of every report (postgres,
# the user's or the database's name), only where a URL or a setting has a password.
_ANYWHERE, _WORD = 8, 4
_WORDS = "postgresql+psycopg password perfdata test"
_PLACES = (r"(?<=:)(?:{})(?=@)", r"(?<=password=)(?:{})(?!\w)", r"(?<=password=['\"])(?:{})(?!\w)")
# A diff begins and ends where the texts differ: a part of a password may be left.
_PARTS = r"(?:{ends})(?=@)|(?<=:)(?:{beginnings})(?=\.\.\.|…|'?$)"
# What others know a test by is not touched.
_KEPT = {"nodeid", "location", "keywords"}


class Redaction:
    """The plugin that puts stars in the place of the passwords that it was told.

    PERFDATA_DATABASE_URL's and PGPASSWORD are known from the beginning.
    """

    def __init__(self) -> None:
        self._patterns: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._asked = False

    def learn(self, url: str) -> None:
        """Know the passwords of a URL or a conninfo; all of it where that can't be read."""
        from psycopg.conninfo import conninfo_to_dict

        from perfdata.database.connection import normalise_url

        try:
            parts = conninfo_to_dict(normalise_url(url))
        except ConfigError:
            login = url.partition("://")[2].rpartition("@")[0]
            self._add(login.partition(":")[2] or url, "")
            return
        public = " ".join(str(value) for key, value in parts.items() if key not in _SECRETS)
        for key in _SECRETS:
            self._add(str(parts.get(key) or ""), public)

    def _add(self, password: str, public: str) -> None:
        if not password:
            return
        self._patterns.add(_pattern(password, f"{_WORDS} {public}"))
        # The longest first: what begins with another password is not left half.
        longest_first = sorted(self._patterns, key=len, reverse=True)
        self._pattern = re.compile("|".join(longest_first), re.IGNORECASE | re.MULTILINE)

    def text(self, text: str) -> str:
        """Return a text without the passwords."""
        if not self._asked:
            self._asked = True
            self._add(os.environ.get("PGPASSWORD", ""), "")
            if url := os.environ.get("PERFDATA_DATABASE_URL"):
                self.learn(url)
        return self._pattern.sub(_STARS, text) if self._pattern else text

    def _redacted(self, value: Any) -> Any:
        """Redact each text that a report is made of; pytest's own parts are changed in place."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (list, tuple)):
            return type(value)(map(self._redacted, value))
        if isinstance(value, dict):
            return {key: self._redacted(one) for key, one in value.items()}
        if hasattr(value, "toterminal"):
            self._redact(value)
        return value

    def _redact(self, part: object) -> None:
        for name, value in list(vars(part).items()):
            if name not in _KEPT:
                setattr(part, name, self._redacted(value))

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
        if isinstance(message, Warning):
            message.args = self._redacted(message.args)


def _pattern(password: str, public: str) -> str:
    """Make the expression that finds a password in each form in which it may be written."""
    forms = _forms(password)
    found = _any_of(forms)
    if password.lower() in public.lower() or len(password) < _WORD:
        return "|".join(place.format(found) for place in _PLACES)
    if len(password) < _ANYWHERE:
        return rf"(?<!\w)(?:{found})(?!\w)"
    ends = _any_of(form[start:] for form in forms for start in range(1, len(form) - _WORD + 1))
    beginnings = _any_of(form[:end] for form in forms for end in range(_WORD, len(form)))
    return f"{found}|{_PARTS.format(ends=ends, beginnings=beginnings)}"


def _forms(password: str) -> set[str]:
    """Return a password as it is, as URLs and conninfos have it, and within quotes."""
    encoded = {quote(password, safe) for safe in ("", "/", " +")} | {quote_plus(password)}
    escaped = re.sub(r"(['\\])", r"\\\1", password)
    quoted = {repr(password)[1:-1], json.dumps(password)[1:-1], escaped}
    return {password, *encoded, *quoted}


def _any_of(texts: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(set(texts), key=len, reverse=True)))
