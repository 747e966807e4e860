"""Pairs of hashes on disk, read back a part at a time: memory stays flat however many there are."""

from __future__ import annotations

from array import array
from hashlib import blake2b
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

# 1.6 million rows are 6,300 pairs a bucket, 16 million 63,000: a dictionary of 7 MB.
BUCKETS = 256
# Numbers of a bucket that are gathered before they are written, 8 bytes each: 2 MB for all.
_GATHERED = 1024


def hashed(data: bytes) -> int:
    """Hash to a number of 64 bits: among 10 million rows two are alike once in 370,000 times."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little", signed=True)


class Buckets:
    """Pairs (key, row) of hashes, kept by key; a context whose file is gone at its end."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115  this is a context itself
        self._places: list[list[tuple[int, int]]] = [[] for _ in range(BUCKETS)]
        self._gathered = [array("q") for _ in range(BUCKETS)]

    def add(self, key: int, row: int) -> None:
        """Keep one pair."""
        numbers = self._gathered[key % BUCKETS]
        numbers.append(key)
        numbers.append(row)
        if len(numbers) >= _GATHERED:
            data = numbers.tobytes()
            self._places[key % BUCKETS].append((self._file.seek(0, 2), len(data)))
            self._file.write(data)
            del numbers[:]

    def pairs(self, bucket: int) -> Iterator[tuple[int, int]]:
        """Yield a bucket's pairs in the order in which they came."""
        for place, size in self._places[bucket]:
            self._file.seek(place)
            numbers = array("q", self._file.read(size))
            yield from zip(numbers[::2], numbers[1::2], strict=True)
        numbers = self._gathered[bucket]
        yield from zip(numbers[::2], numbers[1::2], strict=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
