"""The tasks of this checkout: perfdata's own namespaces. ``invoke --list`` shows them."""

from __future__ import annotations

from invoke.collection import Collection

from perfdata.tasks import dataset, db, perf, snapshot

ns = Collection(dataset, db, perf, snapshot)
