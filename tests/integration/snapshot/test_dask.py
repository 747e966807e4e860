"""Distributed builds: the workers of a Dask cluster generate and load a dataset's rows."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cloudpickle
import pytest
from distributed import LocalCluster
from distributed.cfexecutor import ClientExecutor
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from perfdata import (
    ConfigError,
    ConnectError,
    Event,
    LoadError,
    PerfdataError,
    ProjectCodeError,
    RefusedError,
    ServerRefusedError,
    Settings,
    Target,
    build_dataset,
)
from perfdata.load.ranges import dask_cluster, distribution
from perfdata.load.ranges.blocks import BlockRange
from perfdata.load.ranges.done import DoneRanges, claim
from perfdata.load.ranges.jobs import DatasetReference, RangeJob
from perfdata.postgres.connection import open_link
from perfdata.postgres.url import normalise_url
from perfdata.snapshot.format.reader import SnapshotFile
from tests.homes import free_port
from tests.integration.databases import mark_owned, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perfdata import Built
    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import Link
    from tests.integration.conftest import Databases

pytestmark = pytest.mark.slow

TABLES = (
    "CREATE TABLE makers (id int PRIMARY KEY, name text NOT NULL, is_test_data boolean)",
    "CREATE TABLE parts (id int PRIMARY KEY, maker_id int NOT NULL REFERENCES makers,"
    " label text UNIQUE, key uuid UNIQUE, number int GENERATED ALWAYS AS IDENTITY,"
    " code text GENERATED ALWAYS AS (label || '!') STORED, is_test_data boolean)",
    "CREATE TABLE notes (part_id int REFERENCES parts, note text, is_test_data boolean)",
    "CREATE INDEX ON parts (maker_id)",
)
NAME = "workshop"
# How many rows each table has: of parts, three ranges of 65,536 rows, the last one smaller.
ROWS = {"makers": 5000, "parts": 150_000, "notes": 7}
PROJECT = """
import os
from datetime import date
from perfdata import Dataset, Project, TableRows
from perfdata import generate as g

def slow(id):
    {hook}
    return f"part {{id}}"

def workshop(dataset):
    makers = g.table(dataset, "makers", {makers}, id=g.serial(), name=g.faker("last_name"),
        is_test_data=True)
    parts = g.table(dataset, "parts", {parts}, id=g.serial(), maker_id=g.ref(makers, zipf=1.1),
        label=slow, key=g.uuid(), is_test_data=True)
    yield makers
    yield TableRows("notes", rows=[dict(part_id=n, note=f"no {{n}}", is_test_data=True)
        for n in range(1, 8)])
    yield parts

project = Project(name="workshop",
    datasets=[Dataset(name="workshop", generate=workshop, as_of=date(2026, 1, 1))])
"""


@pytest.fixture
def shop(databases: Databases) -> str:
    """A database that perfdata owns, with the project's tables."""
    url = databases.make("template0")
    run(url, *TABLES)
    mark_owned(url)
    return url


@pytest.fixture
def here(settings: Settings, shop: str, tmp_path: Path) -> Target:
    """The database as a target of a project of the test's own, on the embedded server."""
    own = replace(settings, root=tmp_path, project=f"workshop_{tmp_path.name}:project")
    write_project(own)
    return Target(own, normalise_url(shop), embedded=True)


def write_project(own: Settings, hook: str = "pass", **rows: int) -> None:
    """Write the project's module; ``hook`` is run for each row of parts."""
    module = str(own.project).partition(":")[0]
    counts = {**ROWS, **rows}
    (own.root / f"{module}.py").write_text(PROJECT.format(hook=hook, **counts), encoding="utf-8")
    sys.modules.pop(module, None)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two worker processes on this machine, which are started again when they die."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1"
    ) as made:
        yield made


@pytest.fixture
def build(here: Target, cluster: LocalCluster) -> Callable[..., Built]:
    def build(**options: Any) -> Built:
        return build_dataset(here, NAME, dask=cluster.scheduler_address, **options)

    return build


def saved_rows(built: Built) -> dict[str, tuple[int, str]]:
    """Return the number of rows and a digest of each table in a build's snapshot."""
    assert built.snapshot
    found = {}
    for body in SnapshotFile.open(built.snapshot.path).tables():
        text = b"".join(block.rstrip(b",\n") + b"\n" for block in body.blocks)
        found[body.key] = (
            text.count(b"\n"),
            hashlib.sha256(text.replace(b",\n", b"\n")).hexdigest(),
        )
    return found


def test_workers_build_what_one_process_builds(
    here: Target, build: Callable[..., Built], shop: str
) -> None:
    """The same rows in the same order, with the same numbers from sequences; nothing is left."""
    events: list[Event] = []
    built = build(report=events.append)
    assert built.rows == ROWS
    together = saved_rows(built)
    parts = [event.done for event in events if event.text == "parts"]
    assert parts[0] == 0
    assert parts[-1] == ROWS["parts"]
    assert len(set(parts)) > 3
    assert works(shop) == []
    assert run(shop, "SELECT count(*), max(number) FROM parts") == [(150_000, 150_000)]
    run(shop, "ALTER SEQUENCE parts_number_seq RESTART")
    assert together == saved_rows(build_dataset(here, NAME))


def name_of(url: str) -> str:
    return str(conninfo_to_dict(url)["dbname"])


def works(url: str) -> list[tuple[Any, ...]]:
    """Return the private databases of the server."""
    return run(url, "SELECT datname FROM pg_database WHERE datname LIKE 'perfdata_work%'")


def once(folder: Path, action: str, condition: str = "int(id) == 70_000") -> str:
    """Return a hook that does something at one row, the first time."""
    create = f"os.close(os.open({str(folder / 'once')!r}, os.O_EXCL | os.O_CREAT))"
    lines = f"try: {create}", "except FileExistsError: pass", f"else: {action}"
    return "".join([f"if {condition}:", *(f"\n        {line}" for line in lines)])


def test_a_worker_that_is_killed_costs_its_range_again(
    here: Target, build: Callable[..., Built], tmp_path: Path
) -> None:
    write_project(here.settings, once(tmp_path, "os.kill(os.getpid(), 9)"))
    assert saved_rows(build())["parts"][0] == ROWS["parts"]
    assert (tmp_path / "once").exists()


def load_then_die(folder: str, job: Any) -> None:
    """Load a range and, the first time, die before anybody learns of it."""
    import os
    from pathlib import Path

    from perfdata.load.ranges.jobs import load_range

    load_range(job)
    if job.blocks.table == "parts" and job.blocks.first == 16:
        with (Path(folder) / "tries").open("a", encoding="utf-8") as tries:
            tries.write(".")
        if (Path(folder) / "tries").stat().st_size == 1:
            os.kill(os.getpid(), 9)


def test_a_range_whose_worker_dies_after_the_commit_is_not_doubled(
    build: Callable[..., Built], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(distribution, "load_range", partial(load_then_die, str(tmp_path)))
    assert saved_rows(build())["parts"][0] == ROWS["parts"]
    assert (tmp_path / "tries").read_text() == ".."


def test_tasks_that_run_twice_at_once_load_a_range_once(
    build: Callable[..., Built], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit: Any = ClientExecutor.submit
    others: list[object] = []

    def twice(self: ClientExecutor, *job: Any) -> Any:
        others.append(submit(self, *job))
        return submit(self, *job)

    monkeypatch.setattr(ClientExecutor, "submit", twice)
    assert saved_rows(build())["parts"][0] == ROWS["parts"]
    assert len(others) == 4


def test_an_error_names_the_range_and_leaves_nothing(
    here: Target, build: Callable[..., Built], shop: str
) -> None:
    write_project(here.settings, "1 / (int(id) - 70_000)")
    with pytest.raises(ProjectCodeError) as raised:
        build()
    assert "parts, rows 65,537 to 131,072 could not be loaded" in str(raised.value)
    assert "ZeroDivisionError" in str(raised.value)
    assert works(shop) == []


def test_a_row_that_the_server_refuses_is_named(here: Target, build: Callable[..., Built]) -> None:
    write_project(here.settings, "return 'the same' if int(id) in {70_000, 70_001} else str(id)")
    with pytest.raises(PerfdataError, match="parts_label_key"):
        build()


def test_a_range_that_always_kills_its_worker_is_named_at_last(
    here: Target, build: Callable[..., Built], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distribution, "_ATTEMPTS", 1)
    write_project(here.settings, "if int(id) == 70_000: os.kill(os.getpid(), 9)")
    with pytest.raises(LoadError, match=r"rows 65,537 to 131,072 could not be loaded in 1 attempt"):
        build()


def test_workers_with_another_version_of_the_dataset_are_refused(
    here: Target, build: Callable[..., Built]
) -> None:
    build()
    write_project(here.settings, "str(id)")  # the workers have imported the one before
    with pytest.raises(ConfigError, match=f"another version of dataset {NAME}.*source workshop_"):
        build()


def test_what_is_sent_to_workers_shows_no_password() -> None:
    settings = Settings(
        Path("/"), Path("/"), database_url="postgresql://u:pw@h/d", environment={"URL": "pw"}
    )
    dataset = DatasetReference(settings, NAME, {}, "password=pw")
    blocks, table = BlockRange("parts", 0, 0, 1, 1), cast("Table", None)
    job = RangeJob(dataset, blocks, table, "password=pw", "public", "done")
    assert "pw" not in repr(job)


def write_until_sealed(late: Link, done: DoneRanges, blocks: BlockRange) -> None:
    """Do what a task does, and seal the database before it commits."""
    with late.transaction():
        assert claim(late, done.schema, blocks)
        assert late.execute("INSERT INTO public.makers VALUES (1, 'late')") == 1
        done.drop()


def test_a_task_that_is_still_running_writes_nothing_after_the_seal(shop: str) -> None:
    blocks = BlockRange("parts", 0, 0, 16, 65_536)
    with open_link(shop) as link, open_link(shop) as late:
        done = DoneRanges.create(link)
        with pytest.raises(ServerRefusedError, match="connection"):
            write_until_sealed(late, done, blocks)
        assert run(shop, "SELECT count(*) FROM makers") == [(0,)]
        with (
            pytest.raises(ServerRefusedError, match="does not exist"),
            open_link(shop) as later,
            later.transaction(),
        ):
            claim(later, done.schema, blocks)


def test_nobody_answers(here: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "_CONNECT_S", 0.5)
    with pytest.raises(ConnectError, match=r"no Dask scheduler answered at tcp://127.0.0.1:\d+"):
        build_dataset(here, NAME, dask=f"tcp://127.0.0.1:{free_port()}")
    with pytest.raises(ConfigError, match="not the address of a Dask scheduler"):
        build_dataset(here, NAME, dask="udp://127.0.0.1:1")


def test_a_database_that_perfdata_does_not_own_is_refused(here: Target, shop: str) -> None:
    run(shop, sql.SQL("COMMENT ON DATABASE {} IS NULL").format(sql.Identifier(name_of(shop))))
    with pytest.raises(RefusedError, match=r"does not own.*db\.adopt"):
        build_dataset(here, NAME, dask="tcp://127.0.0.1:8786")


def test_the_package_that_is_missing_is_named(
    here: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install 'perfdata\[dask\]'"):
        build_dataset(here, NAME, dask="tcp://127.0.0.1:8786")


def test_a_cluster_without_workers(here: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "_WORKERS_S", 0.5)
    with (
        LocalCluster(n_workers=0, dashboard_address=":0", host="127.0.0.1") as empty,
        pytest.raises(LoadError, match="has no worker"),
    ):
        build_dataset(here, NAME, dask=empty.scheduler_address)


def test_workers_of_other_hosts_are_refused(here: Target, shop: str) -> None:
    with (
        LocalCluster(
            n_workers=1,
            processes=False,
            protocol="tcp://",
            dashboard_address=":0",
            host="127.0.0.1",
            contact_address="tcp://192.0.2.1:9999",
        ) as elsewhere,
        pytest.raises(RefusedError, match=r"tcp://192.0.2.1:9999"),
    ):
        build_dataset(here, NAME, dask=elsewhere.scheduler_address)
    assert works(shop) == []
