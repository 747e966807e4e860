"""The variables that an application lacks, and the line of ``environment`` that sets them."""

from __future__ import annotations

import json
import re
from traceback import walk_tb
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

DATABASE_URL = "DATABASE_URL"
# Words that make a variable the database's: SMTP_HOST is not.
_DATABASE = {"ASYNCPG", "DATABASE", "DB", "PG", "POSTGRES", "POSTGRESQL", "SQLALCHEMY"}
# Words of other databases: those of other systems, and the tests' own, which they may empty.
_OTHERS = {
    "CLICKHOUSE", "MARIADB", "MONGO", "MONGODB", "MSSQL", "MYSQL", "ORACLE", "REDIS", "SQLITE",
    "TEST", "TESTING", "TESTS",
}  # fmt: skip
_PLACEHOLDERS = {
    "URL": "{url}", "URI": "{url}", "DSN": "{url}",
    "HOST": "{host}", "HOSTNAME": "{host}", "SERVER": "{host}", "ADDRESS": "{host}",
    "PORT": "{port}",
    "USER": "{user}", "USERNAME": "{user}",
    "PASSWORD": "{password}", "PASS": "{password}",
}  # fmt: skip
# Only after a word of the database: DB_APPLICATION_NAME is not its name.
_NAMES = {"DATABASE", "DB", "NAME"}
# PGHOST, DBNAME: two words without an underscore between them.
_JOINED = re.compile(rf"(?<![A-Z])({'|'.join(_DATABASE)})({'|'.join([*_PLACEHOLDERS, *_NAMES])})$")
_NO_ADDRESS = "a value"
_PARTS = "{user}:{password}@{host}:{port}/{database}"
_SETTINGS_MODULES = ("pydantic_settings", "pydantic.env_settings")


def missing_variables(error: BaseException) -> list[str]:
    """Return the variables whose absence raised an exception; none for any other exception.

    Known are ``os.environ[…]``, also as the cause of a library's error, and pydantic's settings.
    """
    for raised in _chain(error):
        modules = _modules(raised)
        if isinstance(raised, KeyError) and modules[-1:] == ["os"]:
            return [str(raised.args[0])]
        if _is_validation(raised) and any(name.startswith(_SETTINGS_MODULES) for name in modules):
            errors = raised.errors()  # type: ignore[attr-defined]
            names = [
                str(item["loc"][0]) for item in errors if "missing" in item["type"] and item["loc"]
            ]
            prefix, fields = _settings_class(raised)
            return [f"{prefix if name in fields else ''}{name}".upper() for name in names]
    return []


def message_of(error: BaseException) -> str:
    """Return an exception's message; of pydantic's errors, without the values that they show."""
    if not _is_validation(error):
        return str(error)
    lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]  # type: ignore[attr-defined]
    return "; ".join(lines)


def line_for_missing(names: Iterable[str], present: Collection[str]) -> str:
    """Return the line of pyproject.toml that sets variables, where these are present already."""
    return _line({name: _value(name) for name in names}, present)


def line_for_connection(
    driver: str, database: str, present: Collection[str], environ: Mapping[str, str]
) -> str:
    """Return the line for the variables that a refused connection's address came from.

    These are one with a PostgreSQL URL of this database, else those with the address's parts, else
    DATABASE_URL.
    """
    others = {name: value for name, value in environ.items() if name not in present}
    for name, value in others.items():
        found = re.match(r"postgres(?:ql)?(\+\w+)?://[^?]*/([^?]*)", value)
        if found and found[2] == database:
            text = f"postgresql{found[1]}://{_PARTS}" if found[1] else "{url}"
            return _line({name: text}, present)
    parts = {name: part for name in others if (part := placeholder_for(name)) not in {"", "{url}"}}
    if "{host}" in parts.values():
        return _line(parts, present)
    text = "{url}" if driver == "psycopg2" else f"postgresql+{driver}://{_PARTS}"
    return _line({"NAME" if DATABASE_URL in present else DATABASE_URL: text}, present)


def line_for_overwritten(
    present: Iterable[str], dotenv: Mapping[str, str], environ: Mapping[str, str]
) -> str:
    """Return what to do if the application has set variables to what its .env has; or nothing."""
    names = [name for name in present if name in dotenv and dotenv[name] == environ.get(name)]
    if not names:
        return ""
    return (
        f"The application replaced {' and '.join(names)}, which perfdata had set, with the value "
        "in .env: call load_dotenv without override=True"
    )


def placeholder_for(name: str) -> str:
    """Return the placeholder of a variable, judged by its name; empty if it is not PostgreSQL's."""
    words = _JOINED.sub(r"\1_\2", name.upper()).split("_")
    if _OTHERS.intersection(words) or not _DATABASE.intersection(words[:-1]):
        return ""
    if words[-1] in _NAMES:
        return "{database}" if words[-2] in _DATABASE else ""
    return _PLACEHOLDERS.get(words[-1], "")


def read_dotenv(file: Path) -> dict[str, str]:
    """Return the variables in a .env file; none if it can't be read."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = re.findall(
        r"^[ \t]*(?:export[ \t]+)?(\w+)[ \t]*=[ \t]*(.*?)[ \t]*$", text, re.MULTILINE | re.ASCII
    )
    return {name: value.strip("'\"") for name, value in lines}


def _line(variables: Mapping[str, str], present: Collection[str]) -> str:
    pairs = ", ".join(f"{_key(name)} = {json.dumps(value)}" for name, value in variables.items())
    where = "[tool.perfdata] of pyproject.toml"
    if present:
        return f"in environment of {where}, add: {pairs}"
    return f"in {where}: environment = {{{pairs}}}"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name)


def _value(name: str) -> str:
    return placeholder_for(name) or _NO_ADDRESS


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it was raised from or while handling."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def _modules(error: BaseException) -> list[str]:
    """Return the modules of an exception's traceback, the innermost last."""
    return [str(frame.f_globals.get("__name__", "")) for frame, _ in walk_tb(error.__traceback__)]


def _is_validation(error: BaseException) -> bool:
    """Tell whether this is pydantic's error, which is not imported for that."""
    return type(error).__name__ == "ValidationError" and hasattr(error, "errors")


def _settings_class(error: BaseException) -> tuple[str, Collection[str]]:
    """Return the env_prefix of pydantic's settings, and its fields, whose aliases have none."""
    for frame, _ in walk_tb(error.__traceback__):
        if (settings := frame.f_locals.get("__pydantic_self__")) is not None:
            kind = type(settings)
            return kind.model_config.get("env_prefix") or "", kind.model_fields
    return "", ()
