"""Lists of values that Faker's providers have, and a digest of those that a source names."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING

from perfdata.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

DEFAULT_LOCALE = "en_US"
_PATHS = ("perfdata.generate.faker", "perfdata.generate.pools.faker")
_PROVIDERS = (
    *("person", "address", "company", "job", "lorem", "color", "currency", "automotive"),
    *("internet", "geo", "bank", "emoji", "file", "user_agent", "phone_number", "date_time"),
)
# Weights of some lists are fractions: they are kept to nine digits.
_WEIGHT_SCALE = 1_000_000_000


@cache
def faker_list(name: str) -> dict[object, int]:
    """Return the values of a list with their weights; raise ConfigError if there is none.

    ``name`` is a method of Faker, such as ``last_name`` or ``ja_JP.first_name_pair``. The order
    does not depend on Faker's. A provider that Faker does not have in a locale is that of the
    locale which Faker uses instead, mostly ``en_US``.
    """
    prefix, _, method = name.rpartition(".")
    locale = prefix or DEFAULT_LOCALE
    _check_locale(locale)
    for provider in _PROVIDERS:
        lists = _lists(provider, locale)
        for attribute in _attributes(method):
            if attribute in lists:
                return dict(sorted(lists[attribute].items(), key=lambda item: repr(item[0])))
    known = sorted({attribute for each in _PROVIDERS for attribute in _lists(each, locale)})
    near = get_close_matches(method, known, 3) or known[:5]
    raise ConfigError(
        f"Faker has no list {method!r} for locale {locale}",
        remedy=f"Use another, such as {', '.join(near)}; or choice() with a list of your own",
    )


def _check_locale(locale: str) -> None:
    from faker.config import AVAILABLE_LOCALES

    if locale not in AVAILABLE_LOCALES:
        near = get_close_matches(locale, AVAILABLE_LOCALES, 3) or [DEFAULT_LOCALE]
        raise ConfigError(
            f"Faker has no locale {locale!r}", remedy=f"Use another, such as {', '.join(near)}"
        )


def faker_digest(names: Iterable[str]) -> str:
    """Hash lists, so that other lists (another Faker) are another dataset."""
    lists = {name: list(map(list, faker_list(name).items())) for name in sorted(names)}
    text = json.dumps(lists, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def named_lists(files: Iterable[Path]) -> tuple[set[str], list[str]]:
    """Return the lists that source files name, and where they name others by computed names.

    These are the calls of ``perfdata.generate.faker``, under whatever name it is imported. Any
    other use of that name, such as ``map(faker, names)``, counts as a computed name.
    """
    names, computed = set(), []
    for file in files:
        for use in _faker_uses(file):
            name = _literal_name(use)
            if name is None:
                computed.append(f"{file.name}, line {use.lineno}")
            else:
                names.add(name)
    return names, computed


def _literal_name(use: ast.expr) -> str | None:
    if not isinstance(use, ast.Call):
        return None
    keywords = [keyword.value for keyword in use.keywords if keyword.arg == "name"]
    for given in (*use.args[:1], *keywords):
        if isinstance(given, ast.Constant) and isinstance(given.value, str):
            return given.value
    return None


def _faker_uses(file: Path) -> Iterator[ast.expr]:
    """Yield the calls of ``perfdata.generate.faker``, and its name where it is not called."""
    source = file.read_bytes()
    if b"faker" not in source or b"perfdata" not in source:
        return
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return  # written for another Python
    nodes = list(ast.walk(tree))
    known = {name for node in nodes for name in _imported_names(node)}
    calls = {node.func: node for node in nodes if isinstance(node, ast.Call)}
    names = [node for node in nodes if isinstance(node, (ast.Name, ast.Attribute))]
    for name in names:
        if isinstance(name.ctx, ast.Load) and ast.unparse(name) in known:
            yield calls.get(name, name)


def _imported_names(node: ast.AST) -> Iterator[str]:
    """Yield the names by which ``perfdata.generate.faker`` can be called after an import."""
    imported: list[tuple[str, str]] = []  # names, and what they are
    if isinstance(node, ast.Import):
        for alias in node.names:
            package = alias.name.partition(".")[0]
            imported.append((alias.asname, alias.name) if alias.asname else (package, package))
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            star = alias.name == "*"
            path = f"{node.module}" if star else f"{node.module}.{alias.name}"
            imported.append(("" if star else alias.asname or alias.name, path))
    for name, path in imported:
        for whole in _PATHS:
            if f"{whole}.".startswith(f"{path}."):
                yield f"{name}{whole.removeprefix(path)}".removeprefix(".")


@cache
def _lists(provider: str, locale: str) -> dict[str, dict[object, int]]:
    """Return the lists of the provider that Faker uses for a locale, inherited ones included."""
    from faker.factory import Factory

    (found,) = Factory.create(locale, [f"faker.providers.{provider}"]).get_providers()
    cls = type(found)
    lists = {name: _weighted(getattr(cls, name)) for name in dir(cls) if name[0] != "_"}
    return {name: values for name, values in lists.items() if values}


def _weighted(value: object) -> dict[object, int]:
    """Return a list of texts or of tuples of texts with its weights; empty for anything else."""
    if isinstance(value, Mapping):
        weights = list(value.values())
        if all(isinstance(weight, (int, float)) for weight in weights):
            whole = all(float(weight).is_integer() for weight in weights)
            scale = 1 if whole else _WEIGHT_SCALE
            return {key: int(weight * scale) for key, weight in value.items() if _is_value(key)}
        return {key: 1 for key in value if _is_value(key)}
    if isinstance(value, (list, tuple)) and all(map(_is_value, value)):
        counts: dict[object, int] = {}
        for each in value:
            counts[each] = counts.get(each, 0) + 1
        return counts
    return {}


def _is_value(value: object) -> bool:
    parts = value if isinstance(value, tuple) else (value,)
    return bool(parts) and all(isinstance(part, str) for part in parts)


def _attributes(method: str) -> Iterator[str]:
    """Yield the attributes that a method may choose from: itself, then a word in the plural."""
    yield method
    words = method.split("_")
    for place, word in enumerate(words):
        for plural in (f"{word}s", f"{word[:-1]}ies", f"{word}es"):
            yield "_".join([*words[:place], plural, *words[place + 1 :]])
    yield f"{method}_list"
