"""Manifests of snapshots that nobody created."""

from __future__ import annotations

from typing import Any

from perfdata import Manifest
from perfdata.snapshot.format.manifest import Body, fingerprint_schema

SCHEMA = {"t": {"a": "text"}}


def make_manifest(body: Body, **entries: Any) -> Manifest:
    """Make a manifest of a table with one row, named ``bomb``, but for ``entries``."""
    usual: dict[str, Any] = {
        "name": "bomb",
        "description": "",
        "created_at": "2026-01-01T00:00:00+00:00",
        "stats": {"t": 1},
        "as_of": None,
        "all_rows": False,
        "flag_column": "a",
        "server_version": "18.6",
        "server_encoding": "UTF8",
        "schema_fingerprint": fingerprint_schema(SCHEMA),
        "migrations": (),
        "dataset_fingerprint": None,
        "requires": (),
        "left_out": [],
        "schema": SCHEMA,
        "body": body,
    }
    return Manifest(**{**usual, **entries})
