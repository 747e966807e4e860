"""The databases of a pytest session: each perf test has its own clone of its dataset.

Without clones, all tests share the target, which is restored after something was written.
"""

from __future__ import annotations

import dataclasses
import hashlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from perfdata.errors import ConfigError
from perfdata.pytest_plugin.summary import shown_path
from perfdata.pytest_plugin.wording import pytest_wording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings
    from perfdata.dataset import Dataset, TableRows
    from perfdata.project import Project
    from perfdata.pytest_plugin.summary import Announcer
    from perfdata.snapshot.options import Built, Provided
    from perfdata.snapshot.perf_clones import Clones, PreparedTemplate
    from perfdata.target.target import Target
    from perfdata.templates.databases import Database


@dataclass(frozen=True)
class CurrentDatabase:
    """The database of the running test: a clone, or the target if ``no_clones`` gives a reason."""

    dataset: Dataset
    url: str
    no_clones: str = ""


class SessionDatabases:
    """Provides the datasets of a session's tests; closing drops the remaining clones."""

    def __init__(self, settings: Settings, announcer: Announcer) -> None:
        self._settings = settings
        self._announcer = announcer
        self._stack = ExitStack()
        self._target: Target | None = None
        self._clones: Clones | None = None
        self._no_clones = ""
        self._templates: dict[str, PreparedTemplate] = {}
        self._template_in_use: Database | None = None
        self._fresh_clone: str | None = None  # the conninfo
        self._loaded: tuple[str, str] | None = None
        self._seen: set[str] = set()
        self.current: CurrentDatabase | None = None

    def own_url(self) -> str:
        """Prepare the database of the settings, and return its URL."""
        return _url(self._open(self._settings).conninfo)

    def use(self, url: str) -> None:
        """Use the database of ``url`` from now on."""
        from perfdata.postgres.url import normalise_url

        if self._target is None or normalise_url(self._target.conninfo) != normalise_url(url):
            self._open(dataclasses.replace(self._settings, database_url=url))

    def close(self) -> None:
        """Drop the remaining clones."""
        self._stack.close()

    @property
    def project(self) -> Project | None:
        """The project whose datasets are provided."""
        return self._opened().project

    @contextmanager
    def provided(self, name: str) -> Iterator[Dataset]:
        """Provide a dataset in a fresh clone, or else in the target."""
        from perfdata.errors import NoClonesError

        target = self._opened()
        try:
            prepared = self._template(target, name)
        except NoClonesError as error:
            self._report_no_clones(str(error))
            with self._in_place(target, name) as dataset:
                yield dataset
        else:
            with self._cloned(prepared.template, _definition(target, name)) as dataset:
                yield dataset

    def prepare(self, name: str) -> None:
        """Make a dataset's template now, so that ``clone_of`` only clones it."""
        self._template(self._opened(), name)

    def fresh_clone(self) -> str:
        """Make another clone of the test's dataset, and return its URL.

        The previous one is dropped; the caller has closed its connections.
        """
        if self._template_in_use is None:
            raise ConfigError("a fresh clone was asked for outside of a test that runs on a clone")
        self._drop_fresh_clone()
        self._fresh_clone = self._open_clones().make(self._template_in_use)
        return _url(self._fresh_clone)

    @contextmanager
    def clone_of(self, dataset: str) -> Iterator[str]:
        """Clone another dataset for a block, which receives the clone's URL."""
        prepared = self._template(self._opened(), dataset)
        conninfo = self._open_clones().make(prepared.template)
        try:
            yield _url(conninfo)
        finally:
            self._open_clones().drop(conninfo)

    def rows(self, dataset: str) -> int:
        """Return the number of rows of a dataset that was already provided."""
        from perfdata.snapshot.store import find_snapshot

        return find_snapshot(dataset, self._settings).manifest.rows

    def data(self, name: str) -> dict[str, str]:
        """Return ScenarioResult.data for a dataset that was already provided."""
        from perfdata.snapshot.store import find_snapshot

        manifest = find_snapshot(name, self._settings).manifest
        data = {"dataset": (manifest.dataset_fingerprint or manifest.body.sha256)[:16]}
        if manifest.migrations:
            lines = (f"{each.revision} {each.sha256}\n" for each in manifest.migrations)
            digest = hashlib.sha256("".join(lines).encode()).hexdigest()[:8]
            data["migrations"] = f"{manifest.migrations[-1].revision} ({digest})"
        return data

    def _opened(self) -> Target:
        return self._target or self._open(self._settings)

    def _open_clones(self) -> Clones:
        if self._clones is None:
            raise ConfigError("the session's databases are closed")
        return self._clones

    def _open(self, settings: Settings) -> Target:
        from perfdata.target.target import open_target

        self._stack.close()
        self._loaded, self._clones, self._no_clones = None, None, ""
        self._templates.clear()
        if settings.database_url is not None:
            self._announcer.redaction.learn(settings.database_url)
        self._target = open_target(settings, self._announcer.report)
        self._announcer.redaction.learn(self._target.conninfo)
        return self._target

    @pytest_wording()
    def _template(self, target: Target, name: str) -> PreparedTemplate:
        from perfdata.errors import NoClonesError
        from perfdata.perf.capture.connections import CLONE_SETTINGS
        from perfdata.snapshot.perf_clones import Clones

        if self._no_clones:
            raise NoClonesError(self._no_clones)
        if self._clones is None:
            clones = Clones(target, CLONE_SETTINGS, self._announcer.report)
            self._clones = self._stack.enter_context(clones)
        if name not in self._templates:
            with self._locked():  # so that xdist's workers build a dataset once
                prepared = self._clones.template(name)
            if prepared.built is not None:
                self._announcer.line(_built_line(prepared.built, prepared.reason))
            self._announcer.line(_prepared_line(name, prepared))
            self._templates[name] = prepared
        return self._templates[name]

    @contextmanager
    def _cloned(self, template: Database, dataset: Dataset) -> Iterator[Dataset]:
        clones = self._open_clones()
        conninfo = clones.make(template)
        self._template_in_use = template
        self.current = CurrentDatabase(dataset, _url(conninfo))
        try:
            yield dataset
        finally:
            self.current = self._template_in_use = None
            clones.drop(conninfo)
            self._drop_fresh_clone()

    def _drop_fresh_clone(self) -> None:
        conninfo, self._fresh_clone = self._fresh_clone, None
        if conninfo is not None:
            self._open_clones().drop(conninfo)

    def _report_no_clones(self, reason: str) -> None:
        if not self._no_clones:
            self._no_clones = reason
            self._announcer.line(f"no clones, so buffers and plans are not judged: {reason}")

    @contextmanager
    def _in_place(self, target: Target, name: str) -> Iterator[Dataset]:
        """Lock the target, with a dataset in it, against other perf tests of the same home.

        The target is loaded again for another dataset, and after any write on the server: even a
        write that was rolled back changes the tables' physical layout.
        """
        with self._locked():
            if self._loaded != (name, _last_write(target)):
                self._load(target, name)
                self._loaded = (name, _last_write(target))
            dataset = _definition(target, name)
            self.current = CurrentDatabase(dataset, _url(target.conninfo), self._no_clones)
            try:
                yield dataset
            finally:
                self.current = None

    @pytest_wording()
    def _load(self, target: Target, name: str) -> None:
        """Restore a dataset, even after building it, so that every run has the same layout."""
        from perfdata.snapshot.provide import provide_dataset

        provided = provide_dataset(target, name, report=self._announcer.report)
        if provided.built is not None:
            self._announcer.line(_built_line(provided.built, provided.reason))
            provided = provide_dataset(target, name, build=False, report=self._announcer.report)
        again = " (again, after a write)" if name in self._seen else ""
        self._announcer.line(_restored_line(provided) + again)
        self._seen.add(name)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = FileLock(self._settings.make_home() / "perf.lock")
        try:
            lock.acquire(timeout=0.5)
        except Timeout:
            self._announcer.line(f"waiting for another perf test that uses {self._settings.home}")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _url(conninfo: str) -> str:
    from perfdata.postgres.url import make_url

    return make_url(conninfo, "psycopg")


def _last_write(target: Target) -> str:
    """Return a value that changes when any transaction of the server that wrote something ends."""
    from perfdata.postgres.connection import open_link

    with open_link(target.conninfo) as link:
        return str(link.value("SELECT pg_snapshot_xmax(pg_current_snapshot())::text"))


def _definition(target: Target, name: str) -> Dataset:
    """Return a dataset's definition, or a substitute for a snapshot without one.

    The substitute's ``as_of`` is the snapshot's, or the day on which it was created.
    """
    from perfdata.dataset import Dataset
    from perfdata.snapshot.store import find_snapshot

    project = target.project
    if project is not None and (found := project.find_dataset(name)):
        return found

    def generate(dataset: Dataset) -> Iterator[TableRows]:
        raise ConfigError(f"{dataset.name} is a snapshot without a dataset that makes its rows")

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


def _prepared_line(name: str, prepared: PreparedTemplate) -> str:
    if prepared.rows is None:
        return f"cloning {name} from an existing template"
    return f"restored {name}: {prepared.rows:,} rows in {prepared.duration_s:.2f} s, to be cloned"
