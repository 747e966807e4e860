"""The reserve, on a disk that has as much room as a test says."""

from __future__ import annotations

import shutil
import zlib
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from perfdata.server.cluster import RESERVE_BYTES, create_reserve, release_reserve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENOUGH = 24 << 20


@pytest.fixture
def leave(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have the disk have so many bytes left."""

    def set_free(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))

    return set_free


def test_a_reserve_takes_its_room_on_a_disk_that_compresses_too(
    tmp_path: Path, leave: Callable[[int], None]
) -> None:
    leave(RESERVE_BYTES + ENOUGH)
    create_reserve(tmp_path)
    (reserve,) = tmp_path.iterdir()
    assert reserve.name == "reserve"
    assert reserve.stat().st_size == RESERVE_BYTES
    assert reserve.stat().st_mode & 0o777 == 0o600
    assert len(zlib.compress(reserve.read_bytes(), 1)) >= RESERVE_BYTES


def test_no_reserve_is_laid_without_room_to_spare(
    tmp_path: Path, leave: Callable[[int], None]
) -> None:
    leave(RESERVE_BYTES + ENOUGH - 1)
    create_reserve(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_reserve_that_is_there_is_not_laid_again(
    tmp_path: Path, leave: Callable[[int], None]
) -> None:
    (tmp_path / "reserve").write_text("here")
    leave(RESERVE_BYTES + ENOUGH)
    create_reserve(tmp_path)
    assert (tmp_path / "reserve").read_text() == "here"


def test_a_reserve_is_given_up_only_where_the_room_is_needed(
    tmp_path: Path, leave: Callable[[int], None]
) -> None:
    leave(ENOUGH - 1)
    assert not release_reserve(tmp_path)
    (tmp_path / "reserve").touch()
    leave(ENOUGH)
    assert not release_reserve(tmp_path)
    assert (tmp_path / "reserve").exists()
    leave(ENOUGH - 1)
    assert release_reserve(tmp_path)
    assert not (tmp_path / "reserve").exists()
