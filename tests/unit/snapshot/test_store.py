from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from perfdata import (
    Event,
    InvalidNameError,
    Settings,
    SnapshotDamagedError,
    SnapshotError,
    SnapshotExistsError,
    SnapshotNotFoundError,
    delete_snapshot,
    find_snapshot,
    list_snapshots,
    snapshot_exists,
)
from perfdata.snapshot.store import check_free, check_name

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "snapshots").mkdir()
    for name in ("100_offices", "Big"):
        (tmp_path / "snapshots" / f"{name}.json.zst").write_bytes(b"damaged")
    return Settings(root=tmp_path, home=tmp_path)


@pytest.mark.parametrize("name", ["a", "100_offices", "a.b-c_D", "x" * 100, "console"])
def test_these_are_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".a",
        "-a",
        "a.",
        "a/b",
        "../a",
        "a b",
        "x" * 101,
        "ä",
        "a\n",
        "CON",
        "nul.x",
        "Lpt1",
        "--help",
    ],
)
def test_these_are_none(name: str) -> None:
    with pytest.raises(InvalidNameError, match="is not a name"):
        check_name(name)


def test_a_near_miss_is_suggested(settings: Settings) -> None:
    with pytest.raises(SnapshotNotFoundError, match="did you mean 100_offices"):
        find_snapshot("10_offices", settings)
    with pytest.raises(SnapshotNotFoundError, match="did you mean Big"):
        find_snapshot("big", settings)
    with pytest.raises(SnapshotNotFoundError, match="there are: 100_offices, Big"):
        delete_snapshot("nothing_like_it", settings)


def test_existence_is_of_that_very_spelling(settings: Settings) -> None:
    assert snapshot_exists("Big", settings)
    assert not snapshot_exists("big", settings)


def test_names_that_differ_by_case_alone_are_refused(settings: Settings) -> None:
    with pytest.raises(SnapshotExistsError, match="must differ by more than case"):
        check_free("BIG", settings, replace=True)
    with pytest.raises(SnapshotExistsError, match="replace=True"):
        check_free("Big", settings, replace=False)
    check_free("Big", settings, replace=True)
    check_free("other", settings, replace=False)


def test_a_damaged_file_is_told_and_left_out_of_the_list(settings: Settings) -> None:
    told: list[Event] = []
    assert list_snapshots(settings, told.append) == []
    assert [event.text.partition(" is damaged")[0] for event in told] == [
        "left out: 100_offices.json.zst",
        "left out: Big.json.zst",
    ]


def test_a_damaged_file_can_be_deleted(settings: Settings) -> None:
    with pytest.raises(SnapshotDamagedError):
        find_snapshot("Big", settings)
    assert not delete_snapshot("Big", settings).exists()


def test_half_written_files_are_not_seen(settings: Settings) -> None:
    (settings.home / "snapshots" / ".new.json.zst.abc.tmp").write_bytes(b"")
    (settings.home / "snapshots" / ".new.json.zst").write_bytes(b"")
    assert not snapshot_exists("new", settings)


def test_a_home_without_snapshots_has_none(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, home=tmp_path / "absent")
    assert list_snapshots(settings) == []
    with pytest.raises(SnapshotNotFoundError, match="there are: none"):
        find_snapshot("a", settings)


def test_a_folder_that_can_not_be_looked_into_is_no_empty_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "scandir", closed)
    for look in (list_snapshots, lambda one: snapshot_exists("100_offices", one)):
        with pytest.raises(SnapshotError, match=r"snapshots can't be read: Permission denied"):
            look(settings)
