"""The variables that the application reads in perf tests, set before its code is imported.

They are set in sessions of perf tests only: other tests of an application may empty the database
that its variables name.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from perfdata.config import Settings
from perfdata.errors import PerfdataError

if TYPE_CHECKING:
    from perfdata.pytest_plugin.redaction import Redaction

_PERF_TESTS = "/tests/perf/"
_url_key = pytest.StashKey[str]()  # may have a password


def set_variables(config: pytest.Config) -> None:
    """Set the variables of ``environment`` until the end of a session of perf tests.

    Raises pytest.UsageError for settings that can't be read.
    """
    if not _runs_perf_tests(config):
        return  # and no other session reads the settings
    try:
        settings = Settings.load(config.invocation_params.dir)
        if not settings.environment:
            return
        from perfdata.server.environment import application_variables

        variables = application_variables(settings)
    except PerfdataError as error:
        raise pytest.UsageError(str(error)) from error
    stack = ExitStack()
    stack.enter_context(variables.applied())
    config.add_cleanup(stack.close)
    config.stash[_url_key] = settings.database_url or variables.loopback or ""


def learn_passwords(config: pytest.Config, redaction: Redaction) -> None:
    """Let the redaction know the passwords in the variables."""
    if url := config.stash.get(_url_key, ""):
        redaction.learn(url)


def unset_note(config: pytest.Config, settings: Settings) -> str:
    """Return the note for a session that does not set the variables; empty if it does."""
    if not settings.environment or _url_key in config.stash:
        return ""
    return (
        "the variables of [tool.perfdata] environment are not set, as this session may run other "
        "tests too: pytest --perf-only sets them"
    )


def _runs_perf_tests(config: pytest.Config) -> bool:
    """Tell whether only perf tests can run: --perf-only, or every path is in tests/perf."""
    given = config.known_args_namespace
    if given.perf_only or "PERFDATA_COMPARE" in os.environ:
        return True
    places = [place.partition("::")[0] for place in given.file_or_dir]
    start = config.invocation_params.dir
    paths = [start / place for place in places or config.getini("testpaths") or ["."]]
    return all(_PERF_TESTS in f"{path.resolve().as_posix()}/" for path in paths)
