"""The library's errors in the words of a pytest run, which takes none of its keyword arguments."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from perfdata.errors import OPTIONS, PerfdataError

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEYWORD = rf"\b(?:{'|'.join(OPTIONS)})\b"
_WITHIN = r"(?:[^.]|\.(?! |$))"  # a character of a sentence, such as the dot of db.adopt
_WAY = rf"(?:(?!, or\b)(?!;){_WITHIN})"
# Parts of a remedy that name a keyword argument: in brackets, an alternative, a sentence.
_PARTS = (
    re.compile(rf" \([^()]*{_KEYWORD}[^()]*\)"),
    re.compile(rf"[,;] or\b{_WAY}*?{_KEYWORD}{_WAY}*"),
    re.compile(rf"(?:^|(?<=\. )){_WITHIN}*?{_KEYWORD}{_WITHIN}*\.? ?"),
)
_NOTHING = "Nothing was touched"
_WAY_OUT = (
    "Build or create the snapshot again, or give perf tests a database of their own "
    "(PERFDATA_DATABASE_URL; without it they use the embedded server)"
)


@contextmanager
def pytest_wording() -> Iterator[None]:
    """Leave keyword arguments, which a pytest user cannot pass, out of errors raised in a block."""
    try:
        yield
    except PerfdataError as error:
        error.reason = without_keywords(error.reason)
        if error.remedy:
            error.remedy = _remedy(without_keywords(error.remedy))
        raise


def without_keywords(text: str) -> str:
    """Leave out the parts of a message that name keyword arguments, such as ``fresh=True``."""
    for part in _PARTS:
        text = part.sub("", text)
    return text.strip()


def _remedy(left: str) -> str:
    """Return what is left of a remedy, or the way that a pytest user always has."""
    if left.strip(". ") not in {"", _NOTHING}:
        return left
    return f"{_NOTHING}. {_WAY_OUT}" if left else _WAY_OUT
