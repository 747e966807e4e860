"""How Hypothesis draws: as many examples as ever, with no time limit for one."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no failure: timing never decides a test.
settings.register_profile("perfdata", deadline=None)
settings.load_profile("perfdata")
