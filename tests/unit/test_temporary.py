"""Temporary files: what is written to, what was left, and what only looks like them."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from perfdata.temporary import find_leftovers, give_name, temporary_beside, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
