"""What snapshot.key prints: the parts of a cache key, and what differs in a snapshot."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from perfdata.tasks.output import print_table, show

if TYPE_CHECKING:
    from perfdata.config import Settings
    from perfdata.snapshot.cache_key import CacheKey

    # What differs by part, now and then; why that is not known; None where there is no snapshot.
    Compared = dict[str, tuple[str | None, str | None]] | str | None

_SHA256 = re.compile("[0-9a-f]{64}")


def _hashed(part: str) -> tuple[str, str]:
    """Return a part's hash and what it is of: the file's own, or that of the part itself."""
    from hashlib import sha256

    digest, _, of = part.partition(" ")
    if _SHA256.fullmatch(digest):
        return digest, of
    return sha256(part.encode()).hexdigest(), part


def compared_with_own(key: CacheKey, name: str, settings: Settings) -> Compared:
    """Compare with the snapshot of the dataset's own name; say why where that can't be done.

    What lies there, an old file or one that somebody made, is no reason to have no key.
    """
    from perfdata.errors import SnapshotError
    from perfdata.snapshot.store import find_snapshot, snapshot_exists

    if not snapshot_exists(name, settings):
        return None
    try:
        return key.differing(find_snapshot(name, settings))
    except SnapshotError as error:
        return str(error)


def key_facts(key: CacheKey, name: str, compared: Compared) -> dict[str, object]:
    """Write a key, its parts and what differs in a snapshot for JSON."""
    differing = compared if isinstance(compared, dict) else {}
    return {
        "key": key.key,
        "path": key.path,
        "parts": dict(key.parts),
        "snapshot": name if isinstance(compared, dict) else None,
        "not_compared": compared if isinstance(compared, str) else None,
        "differs": {
            part: {"now": now, "snapshot": then} for part, (now, then) in differing.items()
        },
    }


def explain_key(key: CacheKey, name: str, compared: Compared) -> None:
    """Print a key, its parts and what differs in a snapshot."""
    print(key)
    print()
    print_table(
        ("part", "hash", "of"), [(part, *_hashed(value)) for part, value in key.parts.items()]
    )
    if compared is None:
        return
    print()
    if isinstance(compared, str):
        print(f"not compared: {compared}")
    elif not compared:
        print(f"snapshot {name} was made with the same")
    else:
        for part, (now, then) in compared.items():
            show(f"snapshot {name} differs in {part}: {then or 'not there'}")
            show(f"  now: {now or 'not there'}")
