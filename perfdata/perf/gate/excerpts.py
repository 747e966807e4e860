"""Excerpts of statements for messages: what is read and on which condition, not every column."""

from __future__ import annotations

import re

_LENGTH = 160  # characters of a statement in a one-line message
_COLUMN = 60  # characters of the column that stands for a list
_TOKEN = re.compile(
    r'"(?:[^"]|"")*"|[(),]|\bIS\s+(?:NOT\s+)?DISTINCT\s+FROM\b'
    r"|\b(?:SELECT|SET|FROM|WHERE|RETURNING)\b",
    re.IGNORECASE,
)
_LISTS = {"SELECT", "SET"}
_ENDS = {"FROM", "WHERE", "RETURNING"}


def shorten(text: str, length: int = _LENGTH) -> str:
    """Shorten a normalised statement: long lists of columns first, then the middle.

    FROM and WHERE stay, as in ``SELECT a, … FROM t WHERE b = ?``.
    """
    if len(text) <= length:
        return text
    for kept in (_COLUMN, 0):
        short = text
        for start, end in reversed(_column_lists(text)):
            short = short[:start] + _first_column(text[start:end], kept) + short[end:]
        if len(short) <= length:
            return short
    text = short
    half = length // 2
    where = max(
        (at for at, word, depth in _words(text) if word == "WHERE" and not depth), default=0
    )
    if where <= half:
        return f"{text[:length]}…"
    condition = text[where:]
    return f"{text[:half]}… {condition if len(condition) <= half else f'{condition[:half]}…'}"


def _words(text: str) -> list[tuple[int, str, int]]:
    """Return the position, word and depth in parentheses of each keyword, comma and end."""
    found, depth = [], 0
    for token in _TOKEN.finditer(text):
        word = token[0].upper()
        depth += (word == "(") - (word == ")")
        found.append((token.start(), word, depth))
    return found


def _column_lists(text: str) -> list[tuple[int, int]]:
    """Return the start and end of the outermost lists of columns, in order."""
    lists: list[tuple[int, int]] = []
    begun: list[tuple[int, int]] = []  # start and depth of the lists without an end so far
    for at, word, depth in _words(text):
        while begun and begun[-1][1] > depth:
            begun.pop()
        if word in _LISTS:
            begun.append((at + len(word), depth))
        elif word in _ENDS and begun and begun[-1][1] == depth:
            start, _ = begun.pop()
            lists = [*(other for other in lists if other[0] < start), (start, at)]
    return lists


def _first_column(columns: str, longest: int) -> str:
    """Return the first column of a list, or none that is longer, and an ellipsis."""
    end = next((at for at, word, depth in _words(columns) if word == "," and not depth), None)
    if end is None:
        return columns
    first = columns[:end]
    return f"{first}, … " if len(first) <= longest else " … "
