"""Small files that decompress to gigabytes: refused before they fill the memory."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import zstandard

from perfdata import SnapshotError
from perfdata.snapshot.format.frames import MANIFEST_MAX_VALUES, STATISTICS_MAX_BYTES
from perfdata.snapshot.format.manifest import Body
from perfdata.snapshot.format.writer import manifest_frame
from tests.unit.snapshot.parts import make_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")

MIB = 1 << 20
HEAD = b'"tables": {\n"t": {"columns": ["a"], "types": ["text"], "rows": [\n'
END = b"\n]}\n}}\n"
# The peak of this program alone: what ru_maxrss says begins with the memory of who started it.
MEASURED = """
import re, sys
from pathlib import Path
from perfdata.tasks import main
try:
    main()
finally:
    sys.stdout.flush()
    print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def run(home: Path, *arguments: str) -> tuple[str, float]:
    """Run a task; return what it said, and the peak of its memory in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments],
        cwd=home,
        env={**os.environ, "PERFDATA_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    *said, peak_kib = done.stdout.splitlines()
    return "\n".join([*said, done.stderr]), int(peak_kib) / 1024


def compressed(parts: Iterable[bytes]) -> tuple[int, bytes]:
    """Return the length of what is compressed, and the frame, which is small."""
    frame = zstandard.ZstdCompressor().compressobj()
    size, data = 0, b""
    for part in parts:
        size += len(part)
        data += frame.compress(part)
    data += frame.flush()
    assert len(data) < 400_000
    return size, data


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "snapshots").mkdir()
    return tmp_path / "snapshots" / "bomb.json.zst"


def numbered(form: bytes, count: int) -> bytes:
    return b"".join(form.replace(b"#", b"%06d" % number) for number in range(count))


BEGIN = b'{"format": "perfdata/1", "notes": '


@pytest.mark.parametrize(
    "parts",
    [
        [BEGIN, *[b" " * MIB] * 4200],
        [BEGIN, b"[", *[b'{"":0},' * 100_000] * 40],
        [BEGIN, b"[", b'{"":0},' * (MANIFEST_MAX_VALUES // 2 - 10), b"0],"],
        [BEGIN, b"{", numbered(b'"#":"a #",', MANIFEST_MAX_VALUES - 10), b'"":0},'],
        [BEGIN, b'"\\ud83d\\ude00', b"a" * (4 * MIB - 100), b'",'],
        [b'{"notes": "', "😀".encode() * (MIB - 100), b'",'],
    ],
    ids=["blanks", "objects", "as many objects as pass", "names", "long text", "4 bytes a letter"],
)
def test_listing_takes_under_64_mb_whatever_a_manifest_expands_to(
    path: Path, parts: list[bytes]
) -> None:
    path.write_bytes(compressed(parts)[1])
    said, peak_mib = run(path.parents[1], "snapshot.list")
    assert "left out: bomb.json.zst is damaged or no snapshot" in said
    assert peak_mib < 64


def test_a_manifest_of_many_tables_is_listed_in_under_64_mb(path: Path) -> None:
    schema = {f"t{number}": {"a": "text"} for number in range(MANIFEST_MAX_VALUES // 4)}
    one = make_manifest(Body(1, 1, ""), schema=schema, stats=dict.fromkeys(schema, 0))
    path.write_bytes(manifest_frame(one))
    said, peak_mib = run(path.parents[1], "snapshot.list")
    assert "bomb" in said
    assert "left out" not in said
    assert peak_mib < 64


def test_what_could_not_be_read_again_is_not_written() -> None:
    schema = {f"t{number}": {"a": "text"} for number in range(MANIFEST_MAX_VALUES)}
    with pytest.raises(SnapshotError, match=r"can't be saved: its manifest of 100,000 tables"):
        manifest_frame(make_manifest(Body(1, 1, ""), schema=schema))


ROW = [b'["', *[b"a" * MIB] * 300, b'"],\n']


@pytest.mark.parametrize(
    ("parts", "declared", "said", "longest_mib"),
    [
        ([HEAD, b'["', *[b"a" * MIB] * 4200, b'"]', END], 1000, "more than 1,000 bytes", 0),
        ([HEAD, b'["', *[b"a" * MIB] * 1400], None, "a line of its body is longer than any", 1024),
        ([HEAD, *ROW, *ROW, *ROW, b'["a"]', END], None, "is damaged", 300),
        ([HEAD[:-1] + b'["a"', *[b', "a"' * 100_000] * 500], None, "a line of its body", 0),
        ([HEAD[:30], b', "a"' * MIB, b'], "types": [], "rows": [', END], None, "the head of", 0),
        ([HEAD, END[1:5], b"}" + END[5:], *[b"\n" * MIB] * 4200], None, "damaged", 0),
        (
            [
                HEAD[:12],
                numbered(b'"#": {"columns": [], "types": [], "rows": [\n]},\n', 40000),
                HEAD[12:],
                END,
            ],
            None,
            "table 000000 has other columns in its body than in its manifest",
            0,
        ),
        (
            [HEAD, END[1:-3], b'},\n"statistics": {"environment": "", "relations": [\n']
            + [b"aa\n" * STATISTICS_MAX_BYTES] * 10,
            None,
            "its planner statistics are too long",
            0,
        ),
    ],
    ids=["not declared", "long", "rows", "no row", "head", "behind", "tables", "statistics"],
)
def test_verifying_takes_under_200_mb_and_the_longest_row(
    path: Path, parts: list[bytes], declared: int | None, said: str, longest_mib: int
) -> None:
    size, data = compressed(parts)
    body = Body(declared or size, len(data), hashlib.sha256(data).hexdigest())
    path.write_bytes(manifest_frame(make_manifest(body)) + data)
    found, peak_mib = run(path.parents[1], "snapshot.verify", "--name", "bomb")
    assert "damaged" in found
    assert said in found
    assert peak_mib < 200 + longest_mib


PLAIN = b'{"stats": {"t": 1}, "tables": {"t": ['


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([PLAIN, *[b" " * MIB] * 600], "blanks follow one another"),
        ([PLAIN, b'{"a": "', *[b"a" * MIB] * 600], "t, row 1: a value has over"),
        ([PLAIN, b'{"a": [', *[b"[]," * MIB] * 100], "t, row 1: a value has over"),
        ([PLAIN, b'{"a": "', *[b"a" * MIB] * 50, b'","b": [', *[b"[]," * MIB] * 50], "parts"),
        ([PLAIN, b"[" * (64 * MIB)], "t, row 1: values are nested too deeply"),
    ],
    ids=["blanks", "text", "lists", "text and lists", "depth"],
)
@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_importing_plain_json_takes_under_300_mb(
    tmp_path: Path, parts: list[bytes], said: str, compress: Callable[[bytes], bytes]
) -> None:
    file = tmp_path / "bomb"
    file.write_bytes(compress(b"".join(parts)))
    found, peak_mib = run(tmp_path, "snapshot.import", "--file", str(file))
    assert said in found
    assert peak_mib < 300
    assert not (tmp_path / "snapshots").exists()
