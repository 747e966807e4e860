"""Exceptions of a project's code: described with the line that raised them, without passwords."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.errors import ProjectCodeError
from perfdata.passwords import without_passwords
from perfdata.variables import line_for_missing, message_of, missing_variables

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

VARIABLE = "PERFDATA_TRACEBACK"
_REMEDY = f"{VARIABLE}=1 shows the traceback"


def describe_exception(error: BaseException) -> str:
    """Return an exception's class and message, as the last line of its traceback has them."""
    message = error.msg if isinstance(error, SyntaxError) else message_of(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def describe_line(error: BaseException) -> str:
    """Return the innermost line of the project's code: `` (app/models.py, line 12)``, or ``""``."""
    from perfdata.callers import Callers

    callers, place = Callers(Path.cwd()), ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if (file := callers.shown(frame.f_code.co_filename)) is not None:
            place = f" ({file}, line {line})"
    if (
        isinstance(error, SyntaxError)
        and error.filename
        and (file := callers.shown(error.filename))
    ):
        place = f" ({file}, line {error.lineno})"
    return place


def raised_by_perfdata(error: BaseException) -> bool:
    """Tell whether perfdata's own code raised an exception, with no line of the project's above."""
    if describe_line(error):
        return False
    innermost = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        innermost = frame.f_code.co_filename
    return Path(innermost).resolve().is_relative_to(Path(__file__).resolve().parent)


def code_error(
    code: str,
    error: BaseException,
    said: str = "",
    *,
    remedy: str = "",
    passwords: Iterable[str] = (),
    present: Collection[str] = (),
    kind: type[ProjectCodeError] = ProjectCodeError,
) -> ProjectCodeError:
    """Make the error for an exception of a project's code, without the passwords.

    ``code`` names the code; ``said`` replaces the exception's class and message; ``present`` are
    the names in the setting ``environment``. ``remedy`` precedes how to see the traceback; without
    one, the variables that are missing do.
    """
    passwords = list(passwords)
    reason = f"{code} failed: {said or describe_exception(error)}{describe_line(error)}"
    text = "".join(traceback.format_exception(error))
    if not remedy and (names := missing_variables(error)):
        remedy = f"Set {' and '.join(names)} {line_for_missing(names, present)}"
    return kind(
        without_passwords(reason, passwords),
        remedy=f"{remedy}. {_REMEDY}" if remedy else _REMEDY,
        traceback=without_passwords(text, passwords),
    )
