"""Redaction: keep known passwords out of a test session's output.

Reports are redacted before others read them: the terminal, JUnit's XML, perfdata's results, and
what a worker of xdist sends to the controller. What a test writes past pytest's capture (``-s``,
its own files) is not redacted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from perfdata.errors import ConfigError
from perfdata.libpq import SECRETS
from perfdata.passwords import STARS, any_pattern, expressions_of

if TYPE_CHECKING:
    import warnings

REDACTION_PLUGIN = "perfdata-redaction"
# Identifiers of a test are not changed.
_KEPT = {"nodeid", "location", "keywords"}


class Redaction:
    """The plugin that replaces known passwords with stars.

    The passwords in PERFDATA_DATABASE_URL and PGPASSWORD are always known.
    """

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()
        self._whole = self._parts = any_pattern(())
        self._asked = False

    def learn(self, url: str) -> None:
        """Add the passwords of a URL or a conninfo; an unreadable one is redacted entirely."""
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
        self._known.add(expressions_of(password, public))
        self._whole, self._parts = map(any_pattern, zip(*self._known, strict=True))

    def text(self, text: str) -> str:
        """Return a text with the passwords replaced."""
        return self._whole.sub(STARS, text) if self._knows_any() else text

    def _knows_any(self) -> bool:
        if not self._asked:
            self._asked = True
            self._add(os.environ.get("PGPASSWORD", ""), "")
            if url := os.environ.get("PERFDATA_DATABASE_URL"):
                self.learn(url)
        return bool(self._known)

    def _redacted(self, value: Any, *, parts: bool = False) -> Any:
        """Redact the texts in a value of a report; pytest's own objects are changed in place.

        With ``parts``, also redact parts of a password that a diff shows; as this is slow, it is
        for the texts of errors. Other types, such as named tuples, are returned unchanged.
        """
        if isinstance(value, str):
            whole = self.text(value)
            return self._parts.sub(STARS, whole) if parts else whole
        if type(value) in {list, tuple}:
            return type(value)(self._redacted(item, parts=parts) for item in value)
        if type(value) is dict:
            return {key: self._redacted(item, parts=parts) for key, item in value.items()}
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
        """Redact a test's report: its error, captured output, properties and results."""
        self._redact(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Redact the error of a collection."""
        if report.failed:
            self._redact(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage) -> None:
        """Redact a warning, which is shown at the end of the session."""
        message = warning_message.message
        if isinstance(message, Warning) and self._knows_any():
            message.args = self._redacted(message.args)
