"""Driver hooks: while a project's code runs, it can connect to the target only.

psycopg, psycopg2 and asyncpg are hooked where they open a connection, whatever asked for it: an
engine, its creator, a pool, a thread. Programs are refused, as they could connect to anything.
perfdata marks its own connections with own_connection. docs/safety.md lists what is not covered.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Self, TypeVar

from perfdata.addresses import SOCKET_FOLDERS, Destination, destination_at, resolve
from perfdata.callers import calling_line
from perfdata.config import Settings
from perfdata.errors import ElsewhereError, PerfdataError, ProgramRefusedError, RefusedError
from perfdata.libpq import effective_parameters
from perfdata.tracebacks import code_error
from perfdata.variables import line_for_connection, line_for_overwritten, read_dotenv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

T = TypeVar("T")

# Programs that libraries run to find a version or another library.
_HARMLESS = {"git", "uname", "ldconfig", "gcc", "ld", "objdump"}

_own: ContextVar[bool] = ContextVar("perfdata's own connection", default=False)


class Confinement:
    """A block in which a project's code can connect to one target only (see confined).

    Whatever the code raises leaves the block as a PerfdataError.
    """

    def __init__(
        self, code: str, conninfo: str | None, fix: Sequence[str], loopback: str | None
    ) -> None:
        self.code = code
        self.fix = fix
        self.exclusive = False  # True: what blocks around this one allow is refused too
        self.refused: ElsewhereError | None = None  # the first one
        self._parameters = _target_parameters(conninfo)
        self._loopback = _target_parameters(loopback)

    def __enter__(self) -> Self:
        _install()
        _confinements.append(self)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        _confinements.remove(self)
        if isinstance(error, (Exception, SystemExit)) and not isinstance(error, PerfdataError):
            present = Settings.load().environment
            failed = code_error(self.code, error, passwords=self.passwords, present=present)
            raise self.refused or failed from error

    @property
    def passwords(self) -> list[str]:
        """The target's passwords, for texts that must not contain them."""
        found = ((each or {}).get("password") for each in (self._parameters, self._loopback))
        return [password for password in found if password]

    @functools.cached_property
    def target(self) -> Destination | None:
        """The target's addresses, resolved only when something connects."""
        return None if self._parameters is None else resolve(self._parameters)

    @functools.cached_property
    def loopback(self) -> Destination | None:
        """The target on the embedded server's port, where the application is given that."""
        return None if self._loopback is None else resolve(self._loopback)

    @functools.cached_property
    def answering(self) -> frozenset[str] | None:
        """The one of the target's places that answers; the others may be other servers."""
        import psycopg
        from psycopg.conninfo import make_conninfo

        conninfo = make_conninfo("", **self._parameters or {})
        try:
            with own_connection(), psycopg.connect(conninfo) as connection:
                info = connection.info
                folder = f"{info.host}/.s.PGSQL.{info.port}"
                place = (info.hostaddr, info.port) if info.hostaddr else folder
        except psycopg.Error:
            return None
        return destination_at(place, "", "").places

    def allows(self, requested: Destination, *, attempt: bool) -> bool:
        """Tell whether a connection can reach the target only.

        ``attempt``: the connection is one attempt on a list of hosts that was allowed as a whole.
        """
        if self.target is None:
            return False
        same = any(each.same(requested) for each in (self.target, self.loopback) if each)
        return same or (
            self.target.includes(requested) and (attempt or requested.places == self.answering)
        )

    def refuse(self, requested: Destination, driver: str) -> ElsewhereError:
        """Make the error, with both addresses and the lines that fix it."""
        if self.target is None:
            target = "none, as this code is given no database"
            lines = ["Connect when migrations run or rows are made, not when a module is imported"]
        else:
            target = self.target.described
            settings = Settings.load()
            dotenv, present = read_dotenv(settings.root / ".env"), settings.environment
            line = line_for_overwritten(present, dotenv, os.environ)
            if not line:
                added = line_for_connection(
                    driver, requested.database, present, dotenv | os.environ
                )
                line = f"{'Or set' if self.fix else 'Set'} the variable that its address comes "
                line += f"from, {added}"
            lines = [*self.fix, line]
        error = ElsewhereError(
            f"refused before it was opened: a connection of {self.code}{calling_line()}\n"
            f"  to:     {requested.described}\n"
            f"  target: {target}",
            lines,
        )
        self.refused = self.refused or error
        return error


# Of the whole process, as confined code may start threads. Only perfdata's callers add to it.
_confinements: list[Confinement] = []


def confined(
    code: str, conninfo: str | None, fix: Sequence[str] = (), loopback: str | None = None
) -> Confinement:
    """Return a context manager that refuses connections to anything but the database of a conninfo.

    With None it refuses every connection, by an ElsewhereError; a program is a ProgramRefusedError,
    any other exception but KeyboardInterrupt a ProjectCodeError. ``code`` names the code in errors;
    ``fix`` says how to change it; ``loopback`` is the URL of the same database on a port.
    """
    return Confinement(code, conninfo, fix, loopback)


def confine(
    make: Callable[[], Iterable[T]], code: str, conninfo: str | None, loopback: str | None = None
) -> Iterator[T]:
    """Yield the items that a project's code makes, confining it while it makes each of them."""
    # One for all items: reading the target's parameters takes 0.1 ms, and each row may be an item.
    confinement = confined(code, conninfo, loopback=loopback)
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
    """Exempt perfdata's own connections in a block from any confinement."""
    token = _own.set(True)
    try:
        yield
    finally:
        _own.reset(token)


def _target_parameters(conninfo: str | None) -> dict[str, str] | None:
    """Read the target's parameters now: confined code could change the environment later."""
    if conninfo is None:
        return None
    import psycopg

    try:
        return effective_parameters(conninfo)
    except psycopg.ProgrammingError:
        return None  # perfdata's own connection to it will raise the error


def _check(driver: str, addresses: Callable[[], Destination], *, attempt: bool = False) -> None:
    if not _confinements or _own.get():
        return
    requested = addresses()
    deciding = [each for each in _confinements if each.exclusive] or _confinements
    if not any(each.allows(requested, attempt=attempt) for each in deciding):
        raise deciding[-1].refuse(requested, driver)


def _check_psycopg(parameters: Mapping[str, Any]) -> None:
    """Check all hosts of a list before the first is tried."""
    _check("psycopg", lambda: resolve(effective_parameters(parameters)))


def _check_attempt(conninfo: str) -> None:
    _check("psycopg", lambda: resolve(effective_parameters(conninfo)), attempt=True)


def _check_psycopg2(dsn: str, *_: Any, **__: Any) -> None:
    _check("psycopg2", lambda: resolve(effective_parameters(dsn), SOCKET_FOLDERS))


def _check_asyncpg(*, addr: Any, params: Any, **_: Any) -> None:
    # asyncpg tries every usual socket folder: a socket that doesn't exist reaches nothing.
    if not isinstance(addr, str) or Path(addr).exists():
        _check("asyncpg", lambda: destination_at(addr, params.database, params.user))


def _check_popen(popen: object, *args: Any, **kwargs: Any) -> None:
    import inspect

    given = inspect.signature(_popen_init).bind(popen, *args, **kwargs).arguments
    command = given["args"]
    first = command if isinstance(command, (str, bytes, os.PathLike)) else next(iter(command), "")
    _check_program("sh" if given.get("shell") else given.get("executable") or first)


def _check_program(program: Any, *_: object, **__: object) -> None:
    name = PurePath(os.fsdecode(program)).name
    if not _confinements or name in _HARMLESS:
        return
    # Not remembered as Confinement.refused: code that copes without the program may go on.
    raise ProgramRefusedError(
        f"refused: {_confinements[-1].code}{calling_line()} may not run the program {name}, as "
        "programs can connect to any database; a project's code may run only "
        f"{', '.join(sorted(_HARMLESS))}"
    )


_DRIVERS: dict[str, tuple[str, Callable[..., None]]] = {
    "psycopg.connection": ("conninfo_attempts", _check_psycopg),
    "psycopg.connection_async": ("conninfo_attempts_async", _check_psycopg),
    "psycopg.generators": ("connect", _check_attempt),
    "psycopg2": ("_connect", _check_psycopg2),
    "asyncpg.connect_utils": ("_connect_addr", _check_asyncpg),
}
_popen_init = subprocess.Popen.__init__


class _DriverFinder:
    """Hooks a driver when it is imported, as importing all of them here would be slow."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _DRIVERS:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next(filter(None, specs), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _hook(module, *_DRIVERS[name])

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@functools.cache
def _install() -> None:
    """Hook drivers, imported or not, and programs; once, as hooks do nothing outside confined."""
    sys.meta_path.insert(0, _DriverFinder())
    for name, (attribute, check) in _DRIVERS.items():
        if name in sys.modules:
            _hook(sys.modules[name], attribute, check)
    # Not an audit hook: it would slow down the whole process (id() sixfold), where perf tests run.
    _hook(subprocess.Popen, "__init__", _check_popen)
    _hook(os, "system", lambda *_: _check_program("sh"))
    for attribute in ("execv", "execve", "posix_spawn", "posix_spawnp"):
        _hook(os, attribute, _check_program)


def _hook(owner: Any, attribute: str, check: Callable[..., None]) -> None:
    original = getattr(owner, attribute, None)
    if original is None:
        raise RefusedError(
            f"this version of {owner.__name__} has no {attribute}, where perfdata would check its "
            "connections",
            remedy="Install an older version of it, or a newer perfdata",
        )

    @functools.wraps(original)
    def checked(*args: Any, **kwargs: Any) -> Any:
        check(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(owner, attribute, checked)
