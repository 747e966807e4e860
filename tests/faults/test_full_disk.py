"""A disk that fills up: on a small one of this module's own, which only root can mount."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest

from perfdata import Settings, create_snapshot, restore_snapshot
from perfdata.errors import PerfdataError, RefusedError
from perfdata.server.cluster import RESERVE_BYTES
from perfdata.server.embedded import EmbeddedServer
from perfdata.target.garbage import collect_garbage
from perfdata.templates.marks import Kind
from tests.integration.databases import run
from tests.integration.fresh_shop import MADE, SHOP, others
from tests.integration.server.test_embedded import open_folder
from tests.integration.tasks.test_tasks import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from perfdata.progress import Event

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
NAME = "small"


class Disk:
    """A small disk with an embedded server's home on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(root=folder, home=folder / "home")
        self.server = EmbeddedServer(self.settings)

    def fill(self, left: int = 0) -> None:
        """Write a file that leaves so many bytes."""
        self.empty()
        with (self.folder / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self.free() - left)

    def empty(self) -> None:
        (self.folder / "filler").unlink(missing_ok=True)

    def free(self) -> int:
        return shutil.disk_usage(self.folder).free

    def write_log(self) -> None:
        """Have the server write to its log until the disk is full, which ends it."""
        message = "SELECT pg_logical_emit_message(false, '', repeat('x', 1000000))"
        with pytest.raises(psycopg.OperationalError):
            run(self.server.conninfo("postgres"), *[message] * 100)


@pytest.fixture
def disk() -> Iterator[Disk]:
    with open_folder() as folder:
        command = ["mount", "-t", "tmpfs", "-o", "size=320m,mode=0755", "tmpfs", str(folder)]
        if subprocess.run(command, check=False, capture_output=True).returncode != 0:
            pytest.skip("this root may not mount a small disk")
        disk = Disk(folder)
        try:
            disk.server.start()
            yield disk
            disk.server.stop()
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def shop(disk: Disk) -> str:
    """A database on the small disk with a snapshot of its 20 flagged customers."""
    run(disk.server.conninfo("postgres"), "CREATE DATABASE shop")
    url = disk.server.conninfo("shop")
    run(url, *SHOP)
    create_snapshot(url, NAME, settings=disk.settings)
    return url


def test_a_full_disk_lets_the_server_start_and_gc_run(disk: Disk, shop: str) -> None:
    for _ in range(2):
        restore_snapshot(shop, NAME, fresh=True, settings=disk.settings)
        reserve = disk.server.status().data.parent / "reserve"
        assert reserve.stat().st_size == RESERVE_BYTES
        disk.fill()
        disk.write_log()
        assert not disk.server.status().running
        told: list[Event] = []
        collected = collect_garbage(disk.settings, told.append)
        assert any("released the 32 MB reserved" in event.text for event in told)
        assert Kind.BEFORE not in others(disk.server.conninfo("postgres"), shop)
        assert len(collected.removed) == 1
        disk.empty()
        disk.server.start()
        assert reserve.exists(), "it is reserved again once there is room"


def test_a_server_that_stopped_starts_on_a_full_disk(disk: Disk, shop: str) -> None:
    disk.server.stop()
    disk.fill()
    assert disk.server.start().running
    assert run(shop, "SELECT count(*) FROM customers") == [(20,)]


def test_a_fresh_restore_refuses_where_the_clones_do_not_fit(disk: Disk, shop: str) -> None:
    """Though the rows alone would: the template is a clone of the target."""
    run(shop, "CREATE TABLE archive AS SELECT repeat('x', 1000) FROM generate_series(1, 70000)")
    create_snapshot(shop, NAME, settings=disk.settings, replace=True)
    before = others(disk.server.conninfo("postgres"), shop)
    with pytest.raises(RefusedError, match=r"a fresh database needs about .*a clone of shop"):
        restore_snapshot(shop, NAME, fresh=True, settings=disk.settings)
    assert others(disk.server.conninfo("postgres"), shop) == before
    run(shop, "DROP TABLE archive", "CHECKPOINT")
    create_snapshot(shop, NAME, settings=disk.settings, replace=True)
    assert restore_snapshot(shop, NAME, fresh=True, settings=disk.settings).strategy == MADE
    disk.fill(8 << 20)  # the rows alone would fit
    before = others(disk.server.conninfo("postgres"), shop)
    with pytest.raises(RefusedError, match="the clone of a template needs about"):
        restore_snapshot(shop, NAME, fresh=True, settings=disk.settings)
    assert others(disk.server.conninfo("postgres"), shop) == before


@pytest.mark.parametrize("made", [False, True], ids=["made", "migrated"])
@pytest.mark.parametrize("task", [("db.migrate",), ("snapshot.restore", "--name", "10_offices")])
def test_a_task_that_meets_a_full_disk_ends_in_one_line(
    disk: Disk, task: tuple[str, ...], *, made: bool
) -> None:
    """While the embedded server makes its database, or migrates it."""
    shell = Shell(disk.settings.home)
    if made:
        run(disk.server.conninfo("postgres"), "CREATE DATABASE perfdata", "CHECKPOINT")
    disk.fill(200_000)
    done = shell.run("invoke", *task)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    disk.empty()
    assert shell.run("invoke", *task).returncode == 0


def test_what_can_not_be_written_is_told_with_what_to_do(disk: Disk) -> None:
    disk.server.stop()
    disk.fill()
    (disk.server.status().data.parent / "reserve").unlink()
    disk.fill()
    with pytest.raises(PerfdataError, match="free space on"):
        disk.server.start()
