"""Foreign text reaches no terminal and no job's log as anything but text."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from perfdata import Event
from perfdata.errors import ConfigError, PrivilegesError
from perfdata.perf.report.history import RunHistory
from perfdata.perf.report.html import render
from perfdata.perf.report.markdown import markdown
from perfdata.perf.report.results import Results
from perfdata.snapshot.format.manifest import Body, fingerprint_schema
from perfdata.snapshot.format.writer import manifest_frame
from perfdata.text import make_printable
from tests.unit.snapshot.parts import make_manifest

HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x9b31m\r\n::error::gone\n \t\u3000::add-mask::a"
    "\u2028::debug::b \u202egnp\u2066 ##[error]c \x7f\udcff"
)


def assert_harmless(text: str) -> None:
    assert all(char.isprintable() or char in "\n\t" for char in text)
    assert "\u202e" not in text
    assert not re.search(r"^\s*::", text, re.MULTILINE)
    assert "##[" not in text


@given(st.text(st.sampled_from([*HOSTILE, ":", "#", "[", "\n", " ", "佐"])))
def test_any_text_is_made_harmless_and_keeps_its_letters(text: str) -> None:
    made = make_printable(text)
    assert_harmless(made)
    assert make_printable(made) == made
    kept = [char for char in text if char.isprintable() and char != " "]
    assert [char for char in made if char not in " \n\t"] == kept


def test_what_is_harmless_stays_as_it_is() -> None:
    text = "staffs: 佐藤 “a” → b::text, ::1, #1 [2]\n\ta: :b\n"
    assert make_printable(text) == text


def test_errors_and_events_are_harmless_whoever_shows_them() -> None:
    assert_harmless(str(ConfigError(HOSTILE)))
    assert_harmless(str(PrivilegesError("refused", [HOSTILE])))
    assert_harmless(Event(HOSTILE, 1, 2).text)


def test_summaries_and_reports_are_harmless() -> None:
    text = markdown([], {HOSTILE: f"a\n{HOSTILE}"}, [HOSTILE], Path())
    assert_harmless(text)
    results = Results(created_at=datetime.now(UTC), scenarios=(), failures={HOSTILE: HOSTILE})
    page = render(results, RunHistory(), Path())
    assert not set(page) & set("\x1b\x07\x9b\u202e\u2066")


def run(home: Path, *arguments: str) -> tuple[str, str]:
    code = "from perfdata.tasks import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=home,
        env={**os.environ, "PERFDATA_HOME": str(home), "PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two snapshots of a table with a hostile name, and rows to match; one of another format."""
    hostile = HOSTILE.replace("\udcff", "")
    schema = {hostile: {hostile: hostile}}
    for number in (1, 2):
        head = json.dumps({hostile: {"columns": [hostile], "types": [hostile]}})[1:-2]
        row = json.dumps([f"{number} {hostile}"], ensure_ascii=False)
        text = '"tables": {\n' + head + ', "rows": [\n' + row + "\n]}\n}}\n"
        data = zstandard.ZstdCompressor().compress(text.encode())
        manifest = make_manifest(
            Body(len(text.encode()), len(data), hashlib.sha256(data).hexdigest()),
            name=f"s{number}",
            description=hostile,
            created_at=hostile,
            server_version=hostile,
            stats={hostile: 1},
            schema=schema,
            schema_fingerprint=fingerprint_schema(schema),
            left_out=[hostile],
            notes=[hostile],
            primary_keys={hostile: [hostile]},
            key_parts={hostile: hostile},
            dataset_fingerprint=hostile,
        )
        path = tmp_path / "snapshots" / f"s{number}.json.zst"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(manifest_frame(manifest) + data)
    other = make_manifest(Body(1, 1, ""), name="s3", format=hostile)
    (tmp_path / "snapshots" / "s3.json.zst").write_bytes(manifest_frame(other))
    return tmp_path


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("snapshot.list", "owned"),
        ("snapshot.info --name s1", ": :error::gone"),
        ("snapshot.info --name s3", "owned"),
        ("snapshot.verify --name s1", "good"),
        ("snapshot.diff --name s1 --other s2", "# #[error]c"),
        ("--project perfdata.welfare snapshot.key --name 10_offices --against s1", "owned"),
    ],
)
def test_what_a_snapshot_says_of_itself_is_printed_harmless(
    home: Path, command: str, shown: str
) -> None:
    out, err = run(home, *command.split())
    assert shown in out + err
    assert_harmless(out)
    assert_harmless(err)


@pytest.mark.parametrize(
    "command", ["snapshot.list", "snapshot.info --name s1", "snapshot.diff --name s1 --other s2"]
)
def test_json_escapes_what_a_terminal_or_a_runner_would_read(home: Path, command: str) -> None:
    out, err = run(home, *command.split(), "--json")
    assert_harmless(out)
    assert_harmless(err)
    assert HOSTILE[:20] in str(json.loads(out)).encode().decode("unicode_escape")
