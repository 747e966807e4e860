"""Passwords in texts: found in all the forms in which they are written, and replaced with stars."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable

STARS = "***"
# The minimum lengths of passwords that are replaced anywhere, even inside a word, and as separate
# words. Shorter ones, and words of every report (postgres, the name of the user or the database),
# are replaced only in the place of a password in a URL or a setting.
_ANYWHERE, _WORD = 8, 4
_WORDS = "postgresql+psycopg password perfdata test"
_PLACES = (r"(?<=:)(?:{})(?=@)", r"(?<=password=)(?:{})(?!\w)", r"(?<=password=['\"])(?:{})(?!\w)")
# A diff shows only the differing part of a text, which may be part of a password.
_PARTS = r"(?:{ends})(?=@)|(?<=:)(?:{beginnings})(?=\.\.\.|…|'?$)"
_NEVER = "(?!)"
# Places of any password: postgresql://app:…@, PASSWORD '…', password=… and password = "…".
_URL_PASSWORD = re.compile(r"(://[^\s:/@]*):[^\s@]+@")
_SQL_PASSWORD = re.compile(r"(\bPASSWORD\s+)'(?:[^']|'')*'", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(password\s*==?\s*)"
    r"(?:\\?'(?:[^'\\]|\\.)*'|\\?\"(?:[^\"\\]|\\.)*\"|[^\s'\",)]+)",
    re.IGNORECASE,
)
# pydantic's errors show values of any variable, which may be secrets.
_PYDANTIC_VALUE = re.compile(r"\binput_value=.*?(?=, input_type=)")


def without_passwords(text: str, passwords: Iterable[str] = ()) -> str:
    """Replace passwords with stars: those given, and any in the place of one.

    Such places are a URL's, ``PASSWORD '…'`` and ``password=…``. Elsewhere a given password of up
    to 7 characters is replaced only as a whole word, and one of up to 3 not at all.
    """
    known = any_pattern(expressions_of(password, "")[0] for password in passwords if password)
    text = _PYDANTIC_VALUE.sub(f"input_value={STARS}", known.sub(STARS, text))
    text = _URL_PASSWORD.sub(rf"\1:{STARS}@", text)
    return _ASSIGNED.sub(rf"\1{STARS}", _SQL_PASSWORD.sub(rf"\1'{STARS}'", text))


def expressions_of(password: str, public: str) -> tuple[str, str]:
    """Return the expressions for a password in all its forms, and for parts of these.

    ``public`` are words that may be shown, such as the names of the user and the database.
    """
    forms = _forms(password)
    found = _any_of(forms)
    if password.lower() in f"{_WORDS} {public}".lower() or len(password) < _WORD:
        return "|".join(place.format(found) for place in _PLACES), ""
    if len(password) < _ANYWHERE:
        return rf"(?<!\w)(?:{found})(?!\w)", ""
    ends = _any_of(form[start:] for form in forms for start in range(1, len(form) - _WORD + 1))
    beginnings = _any_of(form[:end] for form in forms for end in range(_WORD, len(form)))
    return found, _PARTS.format(ends=ends, beginnings=beginnings)


def any_pattern(expressions: Iterable[str]) -> re.Pattern[str]:
    """Compile a pattern that matches any of the expressions; without one, nothing."""
    # The longest first: a password may begin with another one.
    longest_first = sorted(filter(None, expressions), key=len, reverse=True)
    return re.compile("|".join(longest_first) or _NEVER, re.IGNORECASE | re.MULTILINE)


def _forms(password: str) -> set[str]:
    """Return a password as it is, as encoded in URLs and conninfos, and as quoted."""
    encoded = {quote(password, safe) for safe in ("", "/", " +")} | {quote_plus(password)}
    escaped = re.sub(r"(['\\])", r"\\\1", password)
    quoted = {repr(password)[1:-1], json.dumps(password)[1:-1], escaped}
    return {password, *encoded, *quoted}


def _any_of(texts: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(set(texts), key=len, reverse=True)))
