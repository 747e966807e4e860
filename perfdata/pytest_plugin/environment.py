"""The variables that the application reads in perf tests, set before its code is imported.

They are set in sessions of perf tests only: other tests of an application may empty the database
that its variables name. So may fixtures of its conftest.py, which run before any perf test: the
variables name a database given by URL only if perfdata owns it and may replace its rows.
"""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import ExitStack
from glob import glob
from typing import TYPE_CHECKING

import pytest

from perfdata.config import Settings
from perfdata.errors import PerfdataError
from perfdata.text import make_printable

if TYPE_CHECKING:
    from pathlib import Path

    from perfdata.pytest_plugin.redaction import Redaction
    from perfdata.server.environment import Variables

# Modules that make an engine can be imported with it; nothing answers there.
_NOWHERE = "postgresql://nobody:nothing@127.0.0.1:1/not_owned_by_perfdata"
_PERF_TESTS = "/tests/perf/"
_url_key = pytest.StashKey[str]()  # may have a password
_note_key = pytest.StashKey[str]()


def session_settings(config: pytest.Config) -> Settings:
    """Return the settings of the folder that pytest was started in, else of its rootdir."""
    settings = Settings.load(config.invocation_params.dir)
    return settings if settings.configured else Settings.load(config.rootpath)


def set_variables(config: pytest.Config) -> None:
    """Set the variables of ``environment`` until the end of a session of perf tests.

    The project's root comes last on the import path.

    Raises pytest.UsageError for settings that can't be read, and, where a variable has the address
    of a database given by URL, if it can't be reached or perfdata may not replace its rows.
    """
    if not _runs_perf_tests(config):
        return  # and no other session reads the settings
    try:
        settings = session_settings(config)
        if settings.configured:
            sys.path.append(str(settings.root))  # the application, unless it is installed
        if not settings.environment:
            return
        variables, note = _safe_variables(settings)
    except PerfdataError as error:
        raise pytest.UsageError(str(error)) from error
    stack = ExitStack()
    stack.enter_context(variables.applied())
    config.add_cleanup(stack.close)
    config.stash[_url_key] = settings.database_url or variables.loopback or ""
    config.stash[_note_key] = note


def _safe_variables(settings: Settings) -> tuple[Variables, str]:
    """Return the variables, and a note if they lead nowhere as perfdata does not own the target.

    Raises GuardError if rows of a database given by URL may not be replaced.
    """
    from perfdata.server.environment import application_variables

    if settings.database_url is None or not settings.gives_address:
        return application_variables(settings), ""
    from perfdata.postgres.connection import open_link
    from perfdata.postgres.url import normalise_url
    from perfdata.target.guard import check_guard, locate
    from perfdata.templates.provenance import find_owned

    with open_link(normalise_url(settings.database_url)) as link:
        check_guard(link, settings)
        if find_owned(link):
            return application_variables(settings), ""
        entry = make_printable(locate(link).entry)
    return application_variables(settings, _NOWHERE), (
        "the variables of [tool.perfdata] environment lead nowhere (port 1), as "
        f"perfdata does not own {entry}, which fixtures of the application may empty. If all its "
        f"rows may be replaced: {settings.command('db.adopt')} --name {shlex.quote(entry)}"
    )


def learn_passwords(config: pytest.Config, redaction: Redaction) -> None:
    """Let the redaction know the passwords in the variables."""
    if url := config.stash.get(_url_key, ""):
        redaction.learn(url)


def nowhere_note(config: pytest.Config) -> str:
    """Return the note for a session whose variables lead nowhere; empty for any other."""
    return config.stash.get(_note_key, "")


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
    start, root = config.invocation_params.dir, config.rootpath
    places = [place.partition("::")[0] for place in given.file_or_dir]
    if not places and start == root:  # pytest ignores testpaths in other folders
        for pattern in config.getini("testpaths"):
            places += glob(pattern, recursive=True)  # noqa: PTH207  as pytest does, absolute too
    return all(_is_perf_tests(start / place, root) for place in places or ["."])


def _is_perf_tests(path: Path, root: Path) -> bool:
    path, root = path.resolve(), root.resolve()
    return path.is_relative_to(root) and _PERF_TESTS in f"/{path.relative_to(root).as_posix()}/"
