"""Write a snapshot file: the body, table by table, and the frame of the manifest."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, ParamSpec, Self

import zstandard

from perfdata.errors import SnapshotError
from perfdata.snapshot.format.frames import (
    MANIFEST_MAX_BYTES,
    MANIFEST_MAX_VALUES,
    WINDOW_LOG,
    is_too_large,
)
from perfdata.snapshot.format.manifest import Body

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perfdata.postgres.statistics import Statistics
    from perfdata.snapshot.format.manifest import Manifest

# Measured on 325 MB of rows (5000_offices) and 6.5 MB (100_offices), with the CPU time for the
# larger. Level 1 with long-distance matching: 76 and 1.50 MB, 0.9 s; it matches any 4 equal digits
# of random uuids. Two hash tables that match 7 bytes and more: 74 and 1.16 MB, 1.2 s. Long matches
# from 32 bytes on, so that a uuid referenced by a later table is one: 71 and 1.12 MB, 2.6 s; with
# larger tables for them 69 and 1.09 MB, 3.6 s. Windows of up to 2^26 find nothing more; 2^27 does
# (66 MB), but takes 174 MB of memory instead of 11.
_COMPRESSION = {
    "window_log": WINDOW_LOG,
    "strategy": zstandard.STRATEGY_DFAST,
    "hash_log": 18,
    "chain_log": 15,
    "min_match": 7,
    "enable_ldm": True,
    "ldm_min_match": 32,
    "ldm_hash_log": 18,
    "ldm_hash_rate_log": 4,
    "ldm_bucket_size_log": 3,
}

P = ParamSpec("P")

# How many calls may wait, each with a block of rows, and their bytes: enough to keep both threads
# busy, and few if rows have megabytes.
_WAITING, _WAITING_BYTES = 8, 4 << 20


def compressor() -> zstandard.ZstdCompressor:
    """Return a new compressor; it is not thread-safe."""
    from_level = zstandard.ZstdCompressionParameters.from_level
    parameters = from_level(1, write_checksum=True, **_COMPRESSION)
    return zstandard.ZstdCompressor(compression_params=parameters)


class BodyWriter:
    """Writes the second frame to a file, table by table."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame = compressor().compressobj()
        self._digest = hashlib.sha256()
        self._bytes = self._compressed = 0
        self._before = b'"tables": {\n'

    def table(self, key: str, columns: Sequence[str], types: Sequence[str]) -> None:
        """Begin a table, and end the one before it."""
        head = json.dumps({key: {"columns": list(columns), "types": list(types)}})
        self._write(self._before + head[1:-2].encode() + b', "rows": [')
        self._before = b"\n]},\n"
        self._separator = b"\n"

    def rows(self, block: bytes) -> None:
        """Write a block of whole lines, each a row as a JSON array."""
        self._write(self._separator)
        # A single row may be of any size: avoid a copy.
        single = block.find(b"\n") == len(block) - 1
        self._write(memoryview(block)[:-1] if single else block[:-1].replace(b"]\n", b"],\n"))
        self._separator = b",\n"

    def finish(self, statistics: Statistics | None = None) -> Body:
        """Write the planner's statistics, if given, and end the document and the frame."""
        self._write(self._before.rstrip(b",\n") + b"\n}")
        if statistics is not None:
            head = json.dumps({"statistics": {"environment": statistics.environment}})
            self._write(b",\n" + head[1:-2].encode() + b', "relations": [\n')
            self._write(b",\n".join(statistics.relations) + b"\n]}")
        self._write(b"}\n")
        self._store(self._frame.flush())
        return Body(self._bytes, self._compressed, self._digest.hexdigest())

    def _write(self, data: bytes | memoryview) -> None:
        self._bytes += len(data)
        self._store(self._frame.compress(data))

    def _store(self, data: bytes) -> None:
        self._compressed += len(data)
        self._digest.update(data)
        self._file.write(data)


def manifest_frame(manifest: Manifest) -> bytes:
    """Return the first frame: the manifest's entries, one a line, and a comma before the body.

    Raises SnapshotError for a manifest that is too large to be read again.
    """
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in asdict(manifest).items()]
    text = ("{" + ",\n ".join(lines) + ",\n").encode()
    if is_too_large(text):
        raise SnapshotError(
            f"snapshot {manifest.name} can't be saved: its manifest of {len(manifest.schema):,} "
            f"tables has {len(text):,} bytes, and at most {MANIFEST_MAX_BYTES:,} with "
            f"{MANIFEST_MAX_VALUES:,} values can be read",
            remedy="Snapshot fewer tables",
        )
    return compressor().compress(text)


class BackgroundCalls:
    """Runs calls one by one in another thread; a context at whose end all of them are done.

    An error of a call is raised by a later ``add`` or at the end; the calls after it are not made.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "perfdata-background")
        self._waiting: deque[tuple[Future[object], int]] = deque()

    def add(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Queue a call, after waiting if too many wait already."""
        size = sum(len(argument) for argument in args if isinstance(argument, bytes))
        self._waiting.append((self._thread.submit(call, *args, **kwargs), size))
        while (
            len(self._waiting) > _WAITING or sum(size for _, size in self._waiting) > _WAITING_BYTES
        ):
            self._waiting.popleft()[0].result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while self._waiting and kind is None:
                self._waiting.popleft()[0].result()
        finally:
            self._thread.shutdown(cancel_futures=True)
