"""Orphans: baselines that no scenario has any more, which only a whole run can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    import pytest

    from perfdata.perf.model import ScenarioResult

# What leaves tests out, or has them measure on other data, by pytest's names for the options.
_NARROWING = (
    *("keyword", "markexpr", "lf", "stepwise", "deselect", "ignore", "ignore_glob"),
    *("collectonly", "perf_dataset"),
)


def whole_folders(config: pytest.Config) -> list[Path]:
    """Return the folders whose tests a session runs all of; none where any are left out."""
    if any(config.getoption(name, None) for name in _NARROWING):
        return []
    named = (config.invocation_params.dir / one for one in config.args)
    return [one.resolve() for one in named if one.is_dir()]


def orphans(
    results: Iterable[ScenarioResult],
    root: Path,
    folders: Collection[Path],
    unsure: Collection[Path] = (),
) -> Iterator[str]:
    """Yield the baselines beside the tests of ``folders`` that no result has, by their paths.

    Only those of the environment that was measured are looked at, and none beside the tests of an
    ``unsure`` folder: some of them did not run to their end, and may have measured more.
    """
    kept = {(root / one.baseline).resolve() for one in results if one.baseline}
    for place in sorted({path.parent for path in kept}):
        tests = place.parent.parent
        if tests not in unsure and any(tests.is_relative_to(one) for one in folders):
            for path in sorted(set(place.glob("*.json")) - kept):
                inside = path.is_relative_to(root.resolve())
                yield (path.relative_to(root.resolve()) if inside else path).as_posix()
