"""The stage of a pytest session: the databases that its perf tests run on, one after the other.

Each test has a clone of its own. Where there can be no clones, all tests take turns on the
database itself, which is restored after what was written.
"""

from __future__ import annotations

import dataclasses
import hashlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from perfdata.errors import ConfigError, NoClonesError
from perfdata.perf.summary import shown_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from perfdata.config import Settings
    from perfdata.dataset import Dataset, TableRows
    from perfdata.perf.room import Elsewhere
    from perfdata.perf.summary import Announcer
    from perfdata.snapshot.clones import Clones, Sealed
    from perfdata.snapshot.options import Built, Provided
    from perfdata.target.target import Target


@dataclass(frozen=True)
class Scene:
    """Where a test runs: on which dataset, at which URL, and what makes another clone of it.

    ``fresh`` is None where there are no clones, and ``why_not`` says why.
    """

    dataset: Dataset
    url: str
    fresh: Callable[[], str] | None
    why_not: str = ""


class Stage:
    """Keeps what the tests of a session ask for; leaving drops its clones."""

    def __init__(self, settings: Settings, announcer: Announcer) -> None:
        """Take the settings, and where lines go."""
        self._settings = settings
        self._announcer = announcer
        self._stack = ExitStack()
        self._target: Target | None = None
        self._clones: Clones | None = None
        self._why_not = ""
        self._templates: dict[str, Sealed] = {}
        self._loaded: tuple[str, str] | None = None
        self._seen: set[str] = set()
        self.scene: Scene | None = None

    def own_url(self) -> str:
        """Make the database of the settings ready, and return its URL."""
        return _url(self._open(self._settings).conninfo)

    def use(self, url: str) -> None:
        """Take the database of ``url`` from now on."""
        from perfdata.postgres.url import normalise_url

        if self._target is None or normalise_url(self._target.conninfo) != normalise_url(url):
            self._open(dataclasses.replace(self._settings, database_url=url))

    def close(self) -> None:
        """Drop what clones are left."""
        self._stack.close()

    @contextmanager
    def provided(self, name: str) -> Iterator[Dataset]:
        """Provide a dataset, in a fresh clone or else in the database itself."""
        target = self._target or self._open(self._settings)
        try:
            sealed = self._template(target, name)
        except NoClonesError as error:
            self._say_why_not(str(error))
            with self._in_place(target, name) as dataset:
                yield dataset
        else:
            with self._cloned(sealed, _definition(target, name)) as dataset:
                yield dataset

    def elsewhere(self, dataset: Dataset, asked: Sequence[str]) -> Elsewhere:
        """Return the other datasets that growth is measured on: those asked for, or a small one.

        Raises ConfigError where there is none to be found.
        """
        from perfdata.perf.growth import others
        from perfdata.perf.room import Elsewhere

        target = self._target or self._open(self._settings)
        return Elsewhere(others(dataset, asked, target.project), self._cloned_beside, self._rows)

    @contextmanager
    def _cloned_beside(self, name: str) -> Iterator[str]:
        """Clone another dataset for a while, beside the test's own."""
        target = self._target or self._open(self._settings)
        sealed = self._template(target, name)
        if self._clones is None:
            raise ConfigError("the stage was closed")
        conninfo = self._clones.make(sealed.template)
        try:
            yield _url(conninfo)
        finally:
            self._clones.drop(conninfo)

    def _rows(self, name: str) -> int:
        """Return how many rows a dataset has, which was provided before."""
        from perfdata.snapshot.store import find_snapshot

        return find_snapshot(name, self._settings).manifest.rows

    def data(self, name: str) -> dict[str, str]:
        """Return what a dataset that was provided is made of, as ScenarioResult.data holds it."""
        from perfdata.snapshot.store import find_snapshot

        manifest = find_snapshot(name, self._settings).manifest
        made_of = {"dataset": (manifest.dataset_fingerprint or manifest.body.sha256)[:16]}
        if manifest.migrations:
            all_of_them = "".join(f"{one.revision} {one.sha256}\n" for one in manifest.migrations)
            digest = hashlib.sha256(all_of_them.encode()).hexdigest()[:8]
            made_of["migrations"] = f"{manifest.migrations[-1].revision} ({digest})"
        return made_of

    def _open(self, settings: Settings) -> Target:
        from perfdata.target.target import open_target

        self._stack.close()
        self._loaded, self._clones, self._why_not = None, None, ""
        self._templates.clear()
        if settings.database_url is not None:
            self._announcer.redaction.learn(settings.database_url)
        self._target = open_target(settings, self._announcer.report)
        self._announcer.redaction.learn(self._target.conninfo)
        return self._target

    def _template(self, target: Target, name: str) -> Sealed:
        from perfdata.perf.engine import CLONE_SETTINGS
        from perfdata.snapshot.clones import Clones

        if self._why_not:
            raise NoClonesError(self._why_not)
        if self._clones is None:
            clones = Clones(target, CLONE_SETTINGS, self._announcer.report)
            self._clones = self._stack.enter_context(clones)
        if name not in self._templates:
            with self._alone():  # so that a dataset is built once, however many ask for it
                sealed = self._clones.template(name)
            if sealed.built is not None:
                self._announcer.line(_built_line(sealed.built, sealed.reason))
            self._announcer.line(_sealed_line(name, sealed))
            self._templates[name] = sealed
        return self._templates[name]

    @contextmanager
    def _cloned(self, sealed: Sealed, dataset: Dataset) -> Iterator[Dataset]:
        clones = self._clones
        if clones is None:
            raise ConfigError("the stage was closed")
        first = clones.make(sealed.template)
        others: list[str] = []

        def fresh() -> str:
            # Whoever asks has closed what it had of the clone before.
            while others:
                clones.drop(others.pop())
            others.append(clones.make(sealed.template))
            return _url(others[0])

        self.scene = Scene(dataset, _url(first), fresh)
        try:
            yield dataset
        finally:
            self.scene = None
            for one in (first, *others):
                clones.drop(one)

    def _say_why_not(self, reason: str) -> None:
        if not self._why_not:
            self._why_not = reason
            self._announcer.line(f"no clones, so that buffers and plans are not judged: {reason}")

    @contextmanager
    def _in_place(self, target: Target, name: str) -> Iterator[Dataset]:
        """Hold the database, with a dataset in it, against other perf tests of the same home.

        It is loaded again for another dataset, and when anything was written since, by whomever:
        also a write that was rolled back leaves the tables laid out in another way.
        """
        with self._alone():
            if self._loaded != (name, _last_write(target)):
                self._load(target, name)
                self._loaded = (name, _last_write(target))
            dataset = _definition(target, name)
            self.scene = Scene(dataset, _url(target.conninfo), None, self._why_not)
            try:
                yield dataset
            finally:
                self.scene = None

    def _load(self, target: Target, name: str) -> None:
        """Restore a dataset; one that was built too, to lie as it will in every later run."""
        from perfdata.snapshot.provide import provide_dataset

        provided = provide_dataset(target, name, report=self._announcer.report)
        if provided.built is not None:
            self._announcer.line(_built_line(provided.built, provided.reason))
            provided = provide_dataset(target, name, build=False, report=self._announcer.report)
        again = ", as something was written" if name in self._seen else ""
        self._announcer.line(_restored_line(provided) + again)
        self._seen.add(name)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = FileLock(self._settings.make_home() / "perf.lock")
        try:
            lock.acquire(timeout=0.5)
        except Timeout:
            self._announcer.line(f"waiting for another perf test on {self._settings.home}")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _url(conninfo: str) -> str:
    from perfdata.postgres.url import make_url

    return make_url(conninfo, "psycopg")


def _last_write(target: Target) -> str:
    """Return what changes whenever a transaction of the server that wrote something ends."""
    from perfdata.postgres.connection import open_link

    with open_link(target.conninfo) as link:
        return str(link.value("SELECT pg_snapshot_xmax(pg_current_snapshot())::text"))


def _definition(target: Target, name: str) -> Dataset:
    """Return a dataset; one for a snapshot that no dataset stands behind is made up.

    Its ``as_of`` is the day on which the snapshot was created.
    """
    from perfdata.dataset import Dataset
    from perfdata.snapshot.store import find_snapshot

    project = target.project
    if project is not None and (found := project.find_dataset(name)):
        return found

    def generate(dataset: Dataset) -> Iterator[TableRows]:
        raise ConfigError(f"{dataset.name} is a snapshot: no dataset makes its rows")

    manifest = find_snapshot(name, target.settings).manifest
    day = date.fromisoformat((manifest.as_of or manifest.created_at)[:10])
    return Dataset(name=name, generate=generate, as_of=day, description=manifest.description)


def _built_line(built: Built, reason: str) -> str:
    rows = f"{sum(built.rows.values()):,} rows in {built.duration_s:.2f} s"
    saved = f", saved {shown_path(built.snapshot.path)}" if built.snapshot else ""
    return f"built {built.name} ({reason}): {rows}{saved}"


def _restored_line(provided: Provided) -> str:
    restored = provided.restored
    if restored is None:
        return f"{provided.name} was not restored"
    rows = sum(restored.rows.values())
    return f"restored {provided.name}: {rows:,} rows in {restored.duration_s:.2f} s"


def _sealed_line(name: str, sealed: Sealed) -> str:
    if sealed.rows is None:
        return f"cloning {name} from a template that is there"
    return f"restored {name}: {sealed.rows:,} rows in {sealed.duration_s:.2f} s, to be cloned"
