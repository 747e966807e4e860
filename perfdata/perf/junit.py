"""What a test's JUnit XML says of its scenarios, as properties."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from perfdata.perf.model import ScenarioResult


def properties(results: Iterable[ScenarioResult]) -> Iterator[tuple[str, object]]:
    """Name dataset, verdict, counters and the median time: ``perfdata.SCENARIO.queries``.

    What was not measured has no property.
    """
    for result in results:
        found: dict[str, object] = {
            "dataset": result.dataset,
            "verdict": result.verdict.value,
            **result.counters,
        }
        if result.time is not None:
            found["median_s"] = result.time.median_s
        if result.memory_bytes is not None:
            found["memory_bytes"] = result.memory_bytes
        for name, value in found.items():
            yield f"perfdata.{result.scenario}.{name}", value
