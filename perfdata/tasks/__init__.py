"""Invoke tasks over the library, one module a namespace, and the program ``perfdata``.

A project adds the namespaces to its own tasks.py::

    from invoke import Collection
    from perfdata.tasks import dataset, db, perf, snapshot
    from perfdata.tasks.init import init

    ns = Collection(dataset, db, perf, snapshot, init)
"""

from __future__ import annotations


def main() -> None:
    """Run the console script ``perfdata``."""
    from importlib.metadata import version

    from invoke.collection import Collection

    from perfdata.tasks import dataset, db, perf, snapshot
    from perfdata.tasks.init import init
    from perfdata.tasks.program import StrictProgram

    namespace = Collection(init, dataset, db, perf, snapshot)
    StrictProgram(
        name="perfdata", binary="perfdata", version=version("perfdata"), namespace=namespace
    ).run()
