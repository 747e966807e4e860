"""Read the two zstd frames of a snapshot file within limits, as a few bytes can hold gigabytes.

One block is held in memory at a time, or one line if that is longer. A row is limited to what a
server can send, and the body to the size in the manifest.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, cast

import zstandard

from perfdata.errors import SnapshotDamagedError, SnapshotError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WINDOW_LOG = 23  # of the files that are written; a decompressor holds one window in memory
BLOCK_BYTES = 1 << 20
# More than the head of a table with 1,600 columns can have, whatever their names and types.
HEAD_MAX_BYTES = 1 << 20
# A table's statistics have 10 to 50 kB at the default statistics target. Without statistics in the
# file, a restore runs ANALYZE.
STATISTICS_MAX_BYTES = 32 << 20
# Enough for 3,500 tables of 20 columns. A parsed value takes up to 210 bytes, so that listing
# stays under 64 MB, of which Python and this package take 36.
MANIFEST_MAX_BYTES = 4 << 20
MANIFEST_MAX_VALUES = 100_000
_ROW_MAX_BYTES = 1 << 30  # PostgreSQL's limit for one value
_OR_REPLACED = ", as its manifest says, or it was replaced while it was read"
_FEED_BYTES = 64  # which decompress to 2 MB at most: four bytes give up to 128 kB


def is_too_large(manifest: bytes | bytearray) -> bool:
    """Tell whether a manifest would take too much memory.

    Values are counted by the characters before them, or before their keys.
    """
    values = sum(map(manifest.count, (b",", b"[", b"{")))
    return len(manifest) > MANIFEST_MAX_BYTES or values > MANIFEST_MAX_VALUES


def listed_bytes(block: bytes, lines: int) -> int:
    """Return how much memory a list of a block's lines takes at most."""
    return len(block) + 64 * lines


def read_first_frame(file: IO[bytes]) -> tuple[bytearray, int]:
    """Return the content of a file's first frame, and the offset of the next frame.

    Raises ValueError if it is longer than a manifest may be, and EOFError if it has no end.
    """
    frame = _decompressor().decompressobj()
    text, consumed = bytearray(), 0
    while not frame.eof:
        chunk = file.read(_FEED_BYTES)
        if not chunk:
            raise EOFError("the manifest does not end")
        consumed += len(chunk)
        text += frame.decompress(chunk)
        if len(text) > MANIFEST_MAX_BYTES:
            raise ValueError("its manifest is larger than any that perfdata writes")
    return text, consumed - len(frame.unused_data)


def read_second_frame(path: Path, source: object, size_bytes: int) -> Iterator[bytes]:
    """Yield the content of the frame at the position of ``source``, in blocks of whole lines.

    A line that is longer than a block comes alone, which avoids a copy. Raises
    SnapshotDamagedError if the content does not have ``size_bytes``, or a line is too long.
    """
    decompressor, read_bytes = _decompressor(), 0
    line = io.BytesIO()
    with (
        translating_damage(path),
        decompressor.stream_reader(
            cast("IO[bytes]", source), read_size=BLOCK_BYTES, closefd=False
        ) as stream,
    ):
        while chunk := stream.read(BLOCK_BYTES):
            read_bytes += len(chunk)
            if read_bytes > size_bytes:
                raise ValueError(f"its body has more than {size_bytes:,} bytes{_OR_REPLACED}")
            ends, begin = {chunk.rfind(b"\n") + 1}, 0
            if line.tell() > BLOCK_BYTES:
                ends.add(chunk.find(b"\n") + 1)
            for end in sorted(ends - {0}):
                line.write(chunk[begin:end])
                whole, line, begin = [line.getvalue()], io.BytesIO(), end
                yield whole.pop()  # so that no variable here keeps it in memory
            line.write(chunk[begin:])
            is_row = line.getbuffer()[:1].tobytes() == b"["
            if line.tell() > (_ROW_MAX_BYTES if is_row else STATISTICS_MAX_BYTES):
                raise ValueError("a line of its body is longer than any that perfdata writes")
        if line.tell():
            yield line.getvalue()
        if read_bytes < size_bytes:
            raise EOFError(f"its body has {read_bytes:,} of {size_bytes:,} bytes{_OR_REPLACED}")


def _decompressor() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG)


@contextmanager
def translating_damage(path: Path) -> Iterator[None]:
    """Turn errors in the block, which reads the file at ``path``, into SnapshotDamagedError."""
    try:
        yield
    except OSError as error:
        raise SnapshotError(f"{path} can't be read: {error.strerror}") from error
    except (
        zstandard.ZstdError, EOFError, ValueError, KeyError, TypeError, AttributeError,
        RecursionError,
    ) as error:  # fmt: skip
        raise SnapshotDamagedError(
            f"{path.name} is damaged or no snapshot: {error}", remedy="Build or create it again"
        ) from error
