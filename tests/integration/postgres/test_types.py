"""Types that somebody made: the same name is the same type only where it is made of the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from perfdata import SchemaError, Settings, create_snapshot, restore_snapshot
from perfdata.snapshot.format.manifest import fingerprint_schema
from perfdata.snapshot.format.reader import SnapshotFile
from perfdata.snapshot.format.writer import manifest_frame
from tests.integration.databases import run

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "kinds"
TYPES = {
    "addr": 'CREATE TYPE addr AS (street text, no varchar(9), "Zip" int)',
    "amount": "CREATE DOMAIN amount AS numeric(10,2)",
    "mood": "CREATE TYPE mood AS ENUM ('a', 'b')",
    "deep": "CREATE TYPE deep AS (moods mood[], amounts amount)",
    "span": "CREATE TYPE span AS RANGE (subtype = float8)",
    "sure": "CREATE DOMAIN sure AS mood NOT NULL",
}
TABLE = (
    "CREATE TABLE t (id int, addr addr, amounts amount[], moods mood[], deep deep, span span,"
    " sure sure, is_test_data boolean)",
    "INSERT INTO t VALUES (1, '(x,y,3)', '{1.25}', '{a,b}', '(\"{a,b}\",2.5)', '[1,2)', 'b', true)",
)
OTHERWISE = {
    "addr": ('CREATE TYPE addr AS (no varchar(9), street text, "Zip" int)',
        r't\.addr is public\.addr \(no .*snapshot public\.addr \(street text, no character '
        r'varying\(9\), "Zip" integer\)'),
    "amount": ("CREATE DOMAIN amount AS numeric(10,1)",
        r"amount\[\] \(= numeric\(10,1\)\), in the snapshot public\.amount\[\] \(= .*10,2"),
    "mood": ("CREATE TYPE mood AS ENUM ('a, b', 'a', 'c')",
        r"moods is public\.mood\[\] \('a, b', 'a', 'c'\), in the snapshot .*\('a', 'b'\)"),
    "span": ("CREATE TYPE span AS RANGE (subtype = numeric)",
        r"span \(of numeric\), in the snapshot public\.span \(of double precision\)"),
    "sure": ("CREATE DOMAIN sure AS mood",
        r"sure \(= public\.mood \('a', 'b'\)\), in the snapshot .*'b'\) not null\)"),
}  # fmt: skip


@pytest.fixture
def saved(empty_url: str, settings: Settings) -> str:
    run(empty_url, *TYPES.values(), *TABLE)
    create_snapshot(empty_url, NAME, settings=settings, replace=True)
    return empty_url


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize("kind", OTHERWISE)
def test_a_type_made_of_something_else_is_refused_however_it_is_asked_for(
    databases: Any, settings: Settings, digests: Callable[[str], Any], kind: str
) -> None:
    statement, said = OTHERWISE[kind]
    target = databases.make("template0")
    run(target, *{**TYPES, kind: statement}.values(), TABLE[0])
    before = digests(target)
    for allowed in (False, True):
        with pytest.raises(SchemaError, match=said):
            restore_snapshot(target, NAME, allow_drift=allowed, settings=settings)
    assert digests(target) == before


def test_the_same_types_are_and_more_labels_may_pass(saved: str, settings: Settings) -> None:
    rows = run(saved, "SELECT t::text FROM t")
    restore_snapshot(saved, NAME, settings=settings)
    run(saved, "ALTER TYPE mood ADD VALUE 'so, so' BEFORE 'b'")
    with pytest.raises(SchemaError, match=r"t\.moods is .*allow_drift=True accepts this"):
        restore_snapshot(saved, NAME, settings=settings)
    restore_snapshot(saved, NAME, allow_drift=True, settings=settings)
    assert run(saved, "SELECT t::text FROM t") == rows


def test_older_snapshots_that_describe_less_are_restored(saved: str, settings: Settings) -> None:
    run(saved, "ALTER TABLE t ADD m mood")
    path = create_snapshot(saved, NAME, settings=settings, replace=True).path
    file = SnapshotFile.open(path)
    manifest, offset = file.manifest, file.body_at
    short = {**{name: f"public.{name}" for name in TYPES}, "id": "integer"}
    short |= {"amounts": "public.amount[]", "moods": "public.mood[]", "m": "public.mood (a, b)"}
    columns = {name: short.get(name, was) for name, was in manifest.schema["t"].items()}
    schema = {"t": columns}
    older = replace(
        manifest, schema=schema, schema_fingerprint=fingerprint_schema(schema), generated={}
    )
    path.write_bytes(manifest_frame(older) + path.read_bytes()[offset:])
    restore_snapshot(saved, NAME, settings=settings)
    run(saved, "ALTER TYPE mood ADD VALUE 'so, so' BEFORE 'b'")
    with pytest.raises(SchemaError, match=r"t\.m is .*allow_drift=True accepts this"):
        restore_snapshot(saved, NAME, settings=settings)
    restore_snapshot(saved, NAME, allow_drift=True, settings=settings)
