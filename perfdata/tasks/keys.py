"""What snapshot.key prints: the parts of a cache key, and what differs in a snapshot."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from perfdata.tasks.output import print_table

if TYPE_CHECKING:
    from perfdata.snapshot.key import CacheKey
    from perfdata.snapshot.store import Snapshot

_SHA256 = re.compile("[0-9a-f]{64}")


def _hashed(part: str) -> tuple[str, str]:
    """Return a part's hash and what it is of: the file's own, or that of the part itself."""
    from hashlib import sha256

    digest, _, of = part.partition(" ")
    if _SHA256.fullmatch(digest):
        return digest, of
    return sha256(part.encode()).hexdigest(), part


def key_facts(key: CacheKey, compared: Snapshot | None) -> dict[str, object]:
    """Write a key, its parts and what differs in a snapshot for JSON."""
    differing = key.differing(compared) if compared else {}
    return {
        "key": key.key,
        "path": key.path,
        "parts": dict(key.parts),
        "snapshot": compared.name if compared else None,
        "differs": {
            name: {"now": now, "snapshot": then} for name, (now, then) in differing.items()
        },
    }


def explain_key(key: CacheKey, compared: Snapshot | None) -> None:
    """Print a key, its parts and what differs in a snapshot."""
    print(key)
    print()
    print_table(
        ("part", "hash", "of"), [(name, *_hashed(part)) for name, part in key.parts.items()]
    )
    if compared is None:
        return
    print()
    differing = key.differing(compared)
    if not differing:
        print(f"snapshot {compared.name} was made with the same")
    for name, (now, then) in differing.items():
        print(f"snapshot {compared.name} differs in {name}: {then or 'not there'}")
        print(f"  now: {now or 'not there'}")
