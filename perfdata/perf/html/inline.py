"""matplotlib's SVG as a part of an HTML page: its colours are the page's, its ids its own."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterator

_HREF = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"(?<=url\(#)")
# What speaks of the file, not of the picture, and a style sheet that would style the whole page.
_LEFT_OUT = {"metadata", "style"}


class Ink(Enum):
    """The page's colours, each by the colour that stands for it while matplotlib draws."""

    TEXT = "#000001"
    MUTED = "#000002"
    GRID = "#000003"
    LINE = "#000004"
    BAND = "#000005"
    BAD = "#000006"

    @property
    def variable(self) -> str:
        """How the page's style sheet calls it."""
        return f"var(--{self.name.lower()})"


def inlined(svg: str, prefix: str, title: str) -> str:
    """Make an ``svg`` element of a document that matplotlib wrote.

    ``prefix`` goes before every id, so that two pictures of a page have none in common; ``title``
    is what a screen reader says in the picture's place.
    """
    picture = ET.fromstring(svg)  # noqa: S314  matplotlib wrote it, a moment ago
    for element in _elements(picture):
        element.tag = element.tag.rpartition("}")[2]
        attributes = dict(element.attrib)
        element.attrib.clear()
        element.attrib.update(
            (name.rpartition("}")[2], _value(name, value, prefix))
            for name, value in attributes.items()
        )
    view = picture.get("viewBox", "")
    picture.attrib.clear()
    picture.attrib.update({"viewBox": view, "role": "img", "aria-label": title})
    text = ET.tostring(picture, encoding="unicode")
    for ink in Ink:
        text = text.replace(ink.value, ink.variable)
    return text


def _elements(parent: ET.Element) -> Iterator[ET.Element]:
    """Walk a tree, and take out of it what has no place in a page."""
    yield parent
    for child in list(parent):
        if child.tag.rpartition("}")[2] in _LEFT_OUT:
            parent.remove(child)
        else:
            yield from _elements(child)


def _value(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return prefix + value
    if name == _HREF:
        return f"#{prefix}{value.removeprefix('#')}"
    return _REFERENCE.sub(prefix, value)
