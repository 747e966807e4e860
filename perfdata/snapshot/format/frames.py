"""The two zstd frames of a snapshot file, decompressed no further than a real one goes.

A few bytes of zstd stand for gigabytes. What is read is held a block at a time, but for a line that
is longer: a row is at most as long as a server makes one. The sizes that a manifest states are
limits.
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

# What files are written with: a decompressor holds one window.
WINDOW_LOG = 23
BLOCK_BYTES = 1 << 20
# The head of a table of 1,600 columns is shorter, whatever characters its names and types have.
HEAD_MAX_BYTES = 1 << 20
# At the default target a table has 10 to 50 kB; a restore without them analyses its tables.
STATISTICS_MAX_BYTES = 32 << 20
# A manifest of 3,500 tables of 20 columns fits. Parsed, a value takes up to 210 bytes, so that
# listing stays under 64 MB, of which Python and this package take 36.
MANIFEST_MAX_BYTES = 4 << 20
MANIFEST_MAX_VALUES = 100_000
_ROW_MAX_BYTES = 1 << 30  # no server makes a row of more
_OR_REPLACED = ", as its manifest says, or it was replaced while it was read"
_FEED_BYTES = 64  # four bytes of a frame become 128 kB at most, so these 2 MB


def is_too_large(manifest: bytes | bytearray) -> bool:
    """Tell whether a manifest would take more memory than it may.

    One of three characters stands before each value, or before its key.
    """
    values = sum(map(manifest.count, (b",", b"[", b"{")))
    return len(manifest) > MANIFEST_MAX_BYTES or values > MANIFEST_MAX_VALUES


def listed_bytes(block: bytes, lines: int) -> int:
    """Return what a block of lines takes in memory at most, as a list of them."""
    return len(block) + 64 * lines


def read_first_frame(file: IO[bytes]) -> tuple[bytearray, int]:
    """Return what is in a file's first frame, and where the next one begins.

    Raises ValueError where that is more than a manifest may be, EOFError where it does not end.
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
    """Yield what is in the frame that ``source`` stands at, in blocks of whole lines.

    A line that is longer than a block comes alone, so that it need not be copied. Raises
    SnapshotDamagedError where there is more than ``size_bytes`` or less, or no end to a line.
    """
    decompressor, read_bytes = _decompressor(), 0
    line = io.BytesIO()
    with (
        damage(path),
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
                yield whole.pop()  # nothing here holds it while it is used
            line.write(chunk[begin:])
            if line.tell() > (_ROW_MAX_BYTES if _is_row(line) else STATISTICS_MAX_BYTES):
                raise ValueError("a line of its body is longer than any that perfdata writes")
        if line.tell():
            yield line.getvalue()
        if read_bytes < size_bytes:
            raise EOFError(f"its body has {read_bytes:,} of {size_bytes:,} bytes{_OR_REPLACED}")


def _is_row(line: io.BytesIO) -> bool:
    return line.getbuffer()[:1].tobytes() == b"["


def _decompressor() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG)


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turn what reading a file that is no snapshot runs into, into one error."""
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
