"""Temporary files: what is written to, what was left, and what only looks like them."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from perfdata import temporary
from perfdata.temporary import (
    find_leftovers,
    give_name,
    remove_leftover,
    temporary_beside,
    write_whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_WRITER = """
import sys, time
from pathlib import Path
from perfdata.temporary import temporary_beside

with temporary_beside(Path(sys.argv[1])) as file:
    print(file.name, flush=True)
    time.sleep(60)
"""


@contextmanager
def writer(path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a process that writes a temporary file beside ``path``; yield it and the file's name."""
    command = [sys.executable, "-c", _WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().rstrip("\n")
        process.kill()


def test_the_file_of_a_killed_process_is_left_over_and_that_of_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    with writer(tmp_path / "a.json") as (process, name):
        assert find_leftovers(tmp_path) == []
        process.kill()
        process.wait()
        assert [str(path) for path in find_leftovers(tmp_path)] == [name]


def test_the_next_writer_of_the_same_file_removes_what_was_left_of_it_alone(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        with writer(tmp_path / name):
            pass
    with writer(tmp_path / "a.json") as (_, living):
        write_whole(tmp_path / "a.json", "text")
        left = {path.name.rpartition(".json")[0] for path in find_leftovers(tmp_path)}
        assert left == {".b"}
        assert living in map(str, tmp_path.iterdir())
    assert (tmp_path / "a.json").read_text() == "text"


def test_files_of_other_programs_are_not_left_over(tmp_path: Path) -> None:
    for name in (".a.json.tmp", "a.json.0123456789abcdef.tmp", ".a.json.0123.tmp", ".gitignore"):
        (tmp_path / name).touch()
    assert find_leftovers(tmp_path) == []
    assert find_leftovers(tmp_path / "absent") == []


def test_what_was_not_finished_is_gone_and_the_file_before_it_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "first")

    def interrupted() -> None:
        with temporary_beside(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "first"
    with temporary_beside(path) as file:
        file.write(b"second")
        file.flush()
        give_name(file, path)
    assert path.read_text() == "second"


def test_a_file_is_removed_before_its_writer_gets_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer sees then that it is gone, and makes another."""
    lock, unlink = temporary._lock, Path.unlink
    made, found, writes, removed = (threading.Event() for _ in range(4))

    def lock_after_the_other(descriptor: int, *, wait: bool) -> None:
        if wait:
            made.set()
            assert found.wait(10)
        lock(descriptor, wait=wait)
        if not wait:
            found.set()

    def unlink_late(path: Path, *, missing_ok: bool = False) -> None:
        if not removed.is_set():
            writes.wait(0.5)  # the writer goes on as far as it gets
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(temporary, "_lock", lock_after_the_other)
    monkeypatch.setattr(Path, "unlink", unlink_late)

    def write() -> None:
        with temporary_beside(tmp_path / "a.json") as file:
            writes.set()
            assert removed.wait(10)
            give_name(file, tmp_path / "a.json")

    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write)
        assert made.wait(10)
        (file,) = tmp_path.iterdir()
        assert remove_leftover(file)
        removed.set()
        writing.result(10)
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


def test_where_nothing_can_be_locked_nothing_is_left_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    with temporary_beside(tmp_path / "a.json") as file:
        assert find_leftovers(tmp_path) == []
        write_whole(tmp_path / "a.json", "text")
        assert [file.name] == [str(one) for one in tmp_path.iterdir() if one.suffix == ".tmp"]
    assert (tmp_path / "a.json").read_text() == "text"
