"""Read a JSON document piece by piece, in bounded memory."""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VALUE_MAX_CHARACTERS = 64 << 20
# A parsed list takes 64 bytes, and may have three characters: so parts are limited too.
VALUE_MAX_PARTS = 500_000
_CHUNK_BYTES = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")
# If a value is cut off, the parser stops at most this many characters before the end (a number may
# seem to end there) or, in a string, where that begins.
_CUT_OFF_WITHIN, _CUT_OFF = 16, "Unterminated string"


class Number(str):
    """A number as the document writes it, so that no digit is lost."""

    __slots__ = ()


class JsonStream:
    """A JSON document, read from bytes in UTF-8.

    All methods raise ValueError for what is not JSON, for an object that names a member twice, and
    for a value that is too long or too deep.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._parser = json.JSONDecoder(
            parse_float=Number,
            parse_int=Number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
        self._text = ""
        self._at = 0
        self._ended = False

    def members(self) -> Iterator[str]:
        """Yield the names in an object; read the value of each before asking for the next."""
        names: set[str] = set()
        for _ in self._parts("{", "}"):
            name = self.value()
            if type(name) is not str:
                raise ValueError("a name is no text")
            if name in names:
                raise ValueError(f"{name!r} comes twice")
            names.add(name)
            self._expect(":")
            yield name

    def items(self) -> Iterator[Any]:
        """Yield the values of an array."""
        for _ in self._parts("[", "]"):
            yield self.value()

    def value(self) -> Any:
        """Return the next value: dict, list, str, Number, bool or None."""
        self._peek()
        while True:
            try:
                value, end = self._parser.raw_decode(self._text, self._at)
                complete = self._ended or end <= len(self._text) - _CUT_OFF_WITHIN
            except json.JSONDecodeError as error:
                cut_off = error.pos > len(self._text) - _CUT_OFF_WITHIN
                if not (cut_off or error.msg.startswith(_CUT_OFF)):
                    raise ValueError(error.msg) from error
                if self._ended:
                    raise ValueError(
                        f"it ends too early, or not as JSON does: {error.msg}"
                    ) from error
                complete = False
            except RecursionError:
                raise ValueError("values are nested too deeply") from None
            if complete:
                self._at = end
                return value
            self._fill(max(_CHUNK_BYTES, self._checked_size() // 16))

    def end(self) -> None:
        """Raise ValueError unless the document ends here."""
        if self._skip_space():
            raise ValueError("something follows its end")

    def _parts(self, opening: str, closing: str) -> Iterator[None]:
        self._expect(opening)
        if self._peek() == closing:
            self._at += 1
            return
        while True:
            yield
            found = self._peek()
            self._at += 1
            if found == closing:
                return
            if found != ",":
                raise ValueError(f"{found!r} was found where ',' or {closing!r} was expected")

    def _expect(self, character: str) -> None:
        if (found := self._peek()) != character:
            raise ValueError(f"{found!r} was found where {character!r} was expected")
        self._at += 1

    def _peek(self) -> str:
        """Skip white space and return the next character."""
        if not self._skip_space():
            raise ValueError("it ends too early")
        return self._text[self._at]

    def _skip_space(self) -> bool:
        """Skip white space; tell whether something follows."""
        skipped = 0
        while True:
            begin = self._at
            found = _SPACE.match(self._text, begin)
            self._at = found.end() if found else begin
            if self._at < len(self._text):
                return True
            skipped += self._at - begin
            if skipped > VALUE_MAX_CHARACTERS:
                raise ValueError(f"over {VALUE_MAX_CHARACTERS:,} blanks follow one another")
            if self._ended:
                return False
            self._fill(_CHUNK_BYTES)

    def _checked_size(self) -> int:
        """Return how many characters of an unfinished value are here; ValueError for too many."""
        size = len(self._text) - self._at
        if size > VALUE_MAX_CHARACTERS:
            raise ValueError(f"a value has over {VALUE_MAX_CHARACTERS:,} characters")
        if sum(self._text.count(character, self._at) for character in ",[{") > VALUE_MAX_PARTS:
            raise ValueError(f"a value has over {VALUE_MAX_PARTS:,} parts")
        return size

    def _fill(self, size: int) -> None:
        """Read more, and forget what was read."""
        data = self._read(size)
        self._ended = not data
        self._text = self._text[self._at :] + self._decode(data, final=self._ended)
        self._at = 0


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(members)
    if len(made) < len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} comes twice")
    return made
