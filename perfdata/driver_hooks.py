"""Hooks on the drivers: while a project's own code runs, it connects to the target alone.

psycopg, psycopg2 and asyncpg are judged where they open a connection, whatever made it: an engine,
its creator, a pool, a thread. Programs are refused, as they could open any connection. perfdata's
own connections pass by a token. docs/safety.md says what stays out of reach.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from perfdata.addresses import SOCKET_FOLDERS, Destination, destination_at, resolve
from perfdata.config import Settings
from perfdata.errors import ElsewhereError, ProgramRefusedError, RefusedError
from perfdata.libpq import effective_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

T = TypeVar("T")

# What libraries ask for a version, or for the place of another library.
_HARMLESS = {"git", "uname", "ldconfig", "gcc", "ld", "objdump"}
# Three lines, for env.py as Alembic's templates have it.
ENV_PY = (
    "Put these first in run_migrations_online() of env.py:",
    '    if connection := config.attributes.get("connection"):',
    "        context.configure(connection=connection, target_metadata=target_metadata)",
    "        with context.begin_transaction(): return context.run_migrations()",
)

_own: ContextVar[bool] = ContextVar("perfdata's own connection", default=False)


class _Confinement:
    """What may be reached while one piece of a project's code runs."""

    def __init__(self, code: str, conninfo: str | None, fix: Sequence[str]) -> None:
        self.code = code
        self.fix = fix
        self.refused: ElsewhereError | None = None
        self._parameters = _read(conninfo)

    def __enter__(self) -> None:
        _install()
        _confinements.append(self)

    def __exit__(self, *_: object) -> None:
        _confinements.remove(self)

    @functools.cached_property
    def target(self) -> Destination | None:
        """The target's addresses, which are looked up when something connects."""
        return None if self._parameters is None else resolve(self._parameters)

    @functools.cached_property
    def answering(self) -> frozenset[str] | None:
        """Which of several places the target answers at: another one may be another server's."""
        import psycopg
        from psycopg.conninfo import make_conninfo

        conninfo = make_conninfo("", **self._parameters or {})
        try:
            with own_connection(), psycopg.connect(conninfo) as connection:
                info = connection.info
                folder = f"{info.host}/.s.PGSQL.{info.port}"
                found = (info.hostaddr, info.port) if info.hostaddr else folder
        except psycopg.Error:
            return None
        return destination_at(found, "", "").places

    def allows(self, asked: Destination, *, attempt: bool) -> bool:
        """Tell whether nothing but the target can be reached; ``attempt``: one of a judged list."""
        if self.target is None:
            return False
        return self.target.same(asked) or (
            self.target.includes(asked) and (attempt or asked.places == self.answering)
        )

    def refuse(self, asked: Destination, driver: str) -> ElsewhereError:
        """Make the error, with both addresses and what mends it."""
        target = self.target.described if self.target else "none, as this code is given no database"
        variable = (
            f"{'Or' if self.fix else 'To mend it,'} set the variable that its address is taken "
            f"from, such as DATABASE_URL, to what `{Settings.load().command('db.url')} --driver "
            f"{driver}` prints (as an option of alembic.ini with each % doubled)."
        )
        error = ElsewhereError(
            f"refused before it was opened: a connection of {self.code}{_line()}\n"
            f"  to:     {asked.described}\n"
            f"  target: {target}",
            [*self.fix, variable],
        )
        self.refused = self.refused or error
        return error


# Of the whole process: code that is confined may start threads. Only such code adds to it.
_confinements: list[_Confinement] = []


@contextmanager
def confined(code: str, conninfo: str | None, fix: Sequence[str] = ()) -> Iterator[_Confinement]:
    """Refuse, in the block, connections to anything but the database of ``conninfo``.

    None allows no connection at all. ``code`` names in an error whose connection was refused, which
    is ElsewhereError; ``fix`` are lines that mend it. ProgramRefusedError is raised for programs.
    """
    confinement = _Confinement(code, conninfo, fix)
    with confinement:
        yield confinement


def confine(make: Callable[[], Iterable[T]], code: str, conninfo: str) -> Iterator[T]:
    """Yield the items that a project's code makes, each of them made under confined."""
    # One for all: where the target is takes 0.1 ms to find out, and a row may be an item.
    confinement = _Confinement(code, conninfo, ())
    with confinement:
        iterator = iter(make())
    while True:
        with confinement:
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


@contextmanager
def own_connection() -> Iterator[None]:
    """Let perfdata connect in the block, wherever it does."""
    token = _own.set(True)
    try:
        yield
    finally:
        _own.reset(token)


def _read(conninfo: str | None) -> dict[str, str] | None:
    """Read where the target is, as the environment is now: the confined code could change that."""
    if conninfo is None:
        return None
    import psycopg

    try:
        return effective_parameters(conninfo)
    except psycopg.ProgrammingError:
        return None  # whoever connects to it will say so


def _judge(driver: str, addresses: Callable[[], Destination], *, attempt: bool = False) -> None:
    if not _confinements or _own.get():
        return
    asked = addresses()
    if not any(one.allows(asked, attempt=attempt) for one in _confinements):
        raise _confinements[-1].refuse(asked, driver)


def _line() -> str:
    from perfdata.callers import Callers

    found = Callers(Path.cwd()).find()
    return f" ({found.file}, line {found.line})" if found else ""


def _judge_psycopg(parameters: Mapping[str, Any]) -> None:
    """Judge all hosts of a list, before the first of them is tried."""
    _judge("psycopg", lambda: resolve(effective_parameters(parameters)))


def _judge_attempt(conninfo: str) -> None:
    _judge("psycopg", lambda: resolve(effective_parameters(conninfo)), attempt=True)


def _judge_psycopg2(dsn: str, *_: Any, **__: Any) -> None:
    _judge("psycopg2", lambda: resolve(effective_parameters(dsn), SOCKET_FOLDERS))


def _judge_asyncpg(*, addr: Any, params: Any, **_: Any) -> None:
    # It tries every folder that a socket could be in; where none is nothing is reached.
    if not isinstance(addr, str) or Path(addr).exists():
        _judge("asyncpg", lambda: destination_at(addr, params.database, params.user))


def _judge_popen(popen: object, *args: Any, **kwargs: Any) -> None:
    import inspect

    given = inspect.signature(_popen_init).bind(popen, *args, **kwargs).arguments
    command = given["args"]
    first = command if isinstance(command, (str, bytes, os.PathLike)) else next(iter(command), "")
    _judge_program("sh" if given.get("shell") else given.get("executable") or first)


def _judge_shell(*_: object) -> None:
    _judge_program("sh")


def _judge_program(program: Any, *_: object, **__: object) -> None:
    name = PurePath(os.fsdecode(program)).name
    if not _confinements or name in _HARMLESS:
        return
    # Not kept in the confinement: code that does without the program is none the worse.
    raise ProgramRefusedError(
        f"refused: {_confinements[-1].code}{_line()} may not run the program {name}: programs can "
        "connect to any database, so that perfdata lets a project's code run none but "
        f"{', '.join(sorted(_HARMLESS))}"
    )


_DRIVERS: dict[str, tuple[str, Callable[..., None]]] = {
    "psycopg.connection": ("conninfo_attempts", _judge_psycopg),
    "psycopg.connection_async": ("conninfo_attempts_async", _judge_psycopg),
    "psycopg.generators": ("connect", _judge_attempt),
    "psycopg2": ("_connect", _judge_psycopg2),
    "asyncpg.connect_utils": ("_connect_addr", _judge_asyncpg),
}
_popen_init = subprocess.Popen.__init__


class _DriverFinder:
    """Hooks a driver when it is imported: to import all of them here would take too long."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _DRIVERS:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (one.find_spec(name, path, target) for one in others)), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _hook(module, *_DRIVERS[name])

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@functools.cache
def _install() -> None:
    """Hook what is imported, and what will be; once, as a hook does nothing outside of confined."""
    sys.meta_path.insert(0, _DriverFinder())
    for name, (attribute, judge) in _DRIVERS.items():
        if name in sys.modules:
            _hook(sys.modules[name], attribute, judge)
    # Not an audit hook: that slows all of the process down, id() sixfold, and perf tests run in it.
    _hook(subprocess.Popen, "__init__", _judge_popen)
    _hook(os, "system", _judge_shell)
    for attribute in ("execv", "execve", "posix_spawn", "posix_spawnp"):
        _hook(os, attribute, _judge_program)


def _hook(owner: Any, attribute: str, judge: Callable[..., None]) -> None:
    original = getattr(owner, attribute, None)
    if original is None:
        raise RefusedError(
            f"this version of {owner.__name__} connects in a way that perfdata does not know: it "
            f"has no {attribute}. Take an older one, or a newer perfdata"
        )

    @functools.wraps(original)
    def judged(*args: Any, **kwargs: Any) -> Any:
        judge(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(owner, attribute, judged)
