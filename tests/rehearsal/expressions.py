"""GitHub's expressions, as far as these workflows use them: anything else is Unsupported."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<name>[A-Za-z_][\w-]*)|(?P<op>&&|\|\||==|!=|[!()\[\].,]))"
)
_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_STATUS = re.compile(r"\b(success|failure|always|cancelled)\(\)")
_LITERALS = {"true": True, "false": False, "null": None}


class Unsupported(Exception):  # noqa: N818  the rehearsal is incomplete, not the workflow wrong
    """A workflow uses what the rehearsal can't do: it must not be passed over."""


class Expressions:
    """Evaluates expressions over contexts (``github``, ``steps`` …) and status functions."""

    def __init__(
        self, contexts: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]] | None = None
    ) -> None:
        self.contexts = contexts
        self._functions: dict[str, Callable[..., Any]] = {
            "format": _format,
            "toJSON": _to_json,
            **(functions or {}),
        }

    def fill(self, text: str) -> str:
        """Replace every ``${{ … }}`` of a text by its value."""
        return _EXPRESSION.sub(lambda found: as_text(self.evaluate(found[1])), text)

    def fill_all(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Fill every value of a mapping."""
        return {name: self.fill(text) for name, text in texts.items()}

    def holds(self, condition: str | None) -> bool:
        """Tell whether an ``if`` holds; without a status function it also asks for success."""
        text = (condition or "success()").strip()
        if whole := _EXPRESSION.fullmatch(text):
            text = whole[1]
        if not _STATUS.search(text):
            text = f"success() && ({text})"
        return truth(self.evaluate(text))

    def evaluate(self, text: str) -> Any:
        """Return the value of one expression."""
        parser = _Parser(text, self.contexts, self._functions)
        value = parser.either()
        parser.end()
        return value


class _Parser:
    def __init__(
        self, text: str, contexts: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]
    ) -> None:
        self._text, self._contexts, self._functions = text, contexts, functions
        self._tokens: list[tuple[str, str]] = []
        place, text = 0, text.rstrip()
        while place < len(text):
            found = _TOKEN.match(text, place)
            if found is None:
                raise Unsupported(f"in expression {text!r}: {text[place:]!r}")
            kind = found.lastgroup or ""
            self._tokens.append((kind, found[kind]))
            place = found.end()

    def end(self) -> None:
        if self._tokens:
            raise Unsupported(f"in expression {self._text!r}: {self._tokens[0][1]!r}")

    def _take(self, *ops: str) -> str | None:
        if self._tokens and self._tokens[0][0] == "op" and self._tokens[0][1] in ops:
            return self._tokens.pop(0)[1]
        return None

    def _need(self, op: str) -> None:
        if self._take(op) is None:
            raise Unsupported(f"in expression {self._text!r}: no {op}")

    def either(self) -> Any:
        value = self._both()
        while self._take("||"):
            other = self._both()
            value = value if truth(value) else other
        return value

    def _both(self) -> Any:
        value = self._compared()
        while self._take("&&"):
            other = self._compared()
            value = other if truth(value) else value
        return value

    def _compared(self) -> Any:
        value = self._negated()
        while op := self._take("==", "!="):
            same = _same(value, self._negated())
            value = same if op == "==" else not same
        return value

    def _negated(self) -> Any:
        if self._take("!"):
            return not truth(self._negated())
        return self._reached()

    def _reached(self) -> Any:
        value = self._atom()
        while op := self._take(".", "["):
            if op == ".":
                if not self._tokens or self._tokens[0][0] != "name":
                    raise Unsupported(f"in expression {self._text!r}: no name after a dot")
                key = self._tokens.pop(0)[1]
            else:
                key = as_text(self.either())
                self._need("]")
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def _atom(self) -> Any:
        if self._take("("):
            value = self.either()
            self._need(")")
            return value
        if not self._tokens:
            raise Unsupported(f"expression {self._text!r} ends too early")
        kind, text = self._tokens.pop(0)
        if kind == "string":
            return text[1:-1].replace("''", "'")
        if kind == "number":
            return float(text)
        if kind == "name" and self._take("("):
            return self._call(text)
        if kind == "name" and text in _LITERALS:
            return _LITERALS[text]
        if kind == "name" and text in self._contexts:
            return self._contexts[text]
        raise Unsupported(f"in expression {self._text!r}: {text!r}")

    def _call(self, name: str) -> Any:
        if name not in self._functions:
            raise Unsupported(f"in expression {self._text!r}: function {name}")
        arguments = []
        while not self._take(")"):
            arguments.append(self.either())
            self._take(",")
        return self._functions[name](*arguments)


def truth(value: Any) -> bool:
    """Tell whether GitHub takes a value for true."""
    return bool(value) or isinstance(value, (dict, list))


def as_text(value: Any) -> str:
    """Write a value as GitHub puts it into a text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    return "Object" if isinstance(value, (dict, list)) else str(value)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one.casefold() == other.casefold()
    if type(one) is type(other):
        return bool(one == other)
    return _number(one) == _number(other)


def _number(value: Any) -> float:
    """Make a number as GitHub does to compare values of two types; NaN equals nothing."""
    if value is None or value == "":
        return 0.0
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _format(pattern: str, *values: Any) -> str:
    if "{{" in pattern or "}}" in pattern:
        raise Unsupported(f"format({pattern!r})")
    return re.sub(r"\{(\d+)\}", lambda found: as_text(values[int(found[1])]), pattern)


def _to_json(value: Any) -> str:
    return json.dumps(value, indent=2)
