"""The rows of one office's staff, as lines of COPY text; see perfdata.welfare.rows."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from perfdata.welfare.copytext import NULL, escape
from perfdata.welfare.draw import columns, days, stream, times, uuids
from perfdata.welfare.pools import load_pools

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.welfare.pools import Name
    from perfdata.welfare.rows import Origin

STAFFS = (
    *("id", "email", "hashed_password", "name", "last_name", "first_name"),
    *("last_name_furigana", "first_name_furigana", "full_name", "role", "is_email_verified"),
    *("is_mfa_enabled", "is_mfa_verified_by_user", "mfa_secret", "mfa_backup_codes_used"),
    *("password_changed_at", "failed_password_attempts", "is_locked", "locked_at"),
    *("hashed_passphrase", "passphrase_changed_at", "is_deleted", "deleted_at", "deleted_by"),
    *("created_at", "updated_at", "is_test_data", "notification_preferences"),
)
OFFICE_STAFFS = (
    *("id", "staff_id", "office_id", "is_primary", "created_at", "updated_at", "is_test_data"),
)

# Hashing a password for each of 1,000 members of staff took 470 of 537 seconds once: all of them
# share this real bcrypt hash (cost 12).
SHARED_LOGIN = "perfdata-test-password"
SHARED_LOGIN_HASH = "$2b$12$wub2/StW5.nYlD6aO5gMHOAKPqeQJabjrgshz4.wovP0umPUBTeOq"

_THRESHOLDS = (30,) * 10 + (7, 14, 14, 60, 60, 90)
_DEFAULT_MAIL = 160  # by mail, 30 days before: what the server gives by default
_LOCKED_BELOW, _DELETED_BELOW, _WITHOUT_MAIL_BELOW, _MANAGER_BELOW = 6, 18, 20, 20


def administrator_line(origin: Origin) -> str:
    """Return the line of the system administrator: role owner, creator of every office."""
    name = load_pools().family[0], load_pools().either[0]
    return _line(
        origin,
        {
            **_plain(origin, name),
            "id": origin.administrator_id,
            "email": f"system_admin@{origin.domain}",
            "role": "owner",
            "created_at": f"{days(origin.as_of)[-3000]} {times()[0]}",
        },
    )


def staff_ids(origin: Origin, office: int, count: int) -> list[str]:
    """Return the ids of an office's staff."""
    return uuids(origin.seed, "staffs", office, count)


def staff_lines(
    origin: Origin, office: int, count: int, *, withdrawn: bool, administrator: str
) -> list[str]:
    """Return the lines of an office's staff: the first its manager, the others mostly employees.

    Some are soft-deleted by the administrator of that id (all of them, where the office is
    ``withdrawn``), locked or have MFA; some want their mails earlier, later or not at all.
    """
    pools = load_pools()
    lines = []
    rows = zip(*columns(origin.seed, "staffs", office, count, 8), strict=True)
    for index, (key, row) in enumerate(zip(staff_ids(origin, office, count), rows, strict=True)):
        family, given, role, *security, mail, age, hour = row
        name = pools.family[family], pools.either[given]
        at = f"{days(origin.as_of)[-1000 - age * 3]} {times()[hour]}"
        values = {
            **_plain(origin, name),
            "id": key,
            "email": f"{name[1].latin}.{name[0].latin}.{index}@office{office}.{origin.domain}",
            "role": "manager" if index == 0 or role < _MANAGER_BELOW else "employee",
            "notification_preferences": _preferences(mail),
            "created_at": at,
        }
        state, mfa = security
        if state < _LOCKED_BELOW:
            values |= _locked(origin, state)
        if withdrawn or _LOCKED_BELOW <= state < _DELETED_BELOW:
            values |= _deleted(origin, state, administrator)
        if mfa % 4 == 0:
            values |= _with_mfa(origin, key, mfa)
        lines.append(_line(origin, values))
    return lines


def office_staff_lines(
    origin: Origin, office: int, office_id: str, staffs: Sequence[str]
) -> list[str]:
    """Return the lines that put staff into an office."""
    ages, hours = columns(origin.seed, "office_staffs", office, len(staffs), 2)
    lines = []
    keys = uuids(origin.seed, "office_staffs", office, len(staffs))
    for key, staff, age, hour in zip(keys, staffs, ages, hours, strict=True):
        at = f"{days(origin.as_of)[-500 - age]} {times()[hour]}"
        lines.append(f"{key}\t{staff}\t{office_id}\tt\t{at}\t{at}\tt")
    return lines


def _line(origin: Origin, values: dict[str, str]) -> str:
    values.setdefault("updated_at", f"{days(origin.as_of)[-10]} {times()[0]}")
    return "\t".join([values.get(column, NULL) for column in STAFFS])


def _plain(origin: Origin, name: tuple[Name, Name]) -> dict[str, str]:
    """Return what a member of staff has who never forgot a password and never left."""
    last, first = name
    return {
        "hashed_password": SHARED_LOGIN_HASH,
        "last_name": last.written,
        "first_name": first.written,
        "last_name_furigana": last.reading,
        "first_name_furigana": first.reading,
        "full_name": f"{last.written} {first.written}",
        "is_email_verified": "t",
        "is_mfa_enabled": "f",
        "is_mfa_verified_by_user": "f",
        "mfa_backup_codes_used": "0",
        "password_changed_at": f"{days(origin.as_of)[-90]} {times()[0]}",
        "failed_password_attempts": "0",
        "is_locked": "f",
        "is_deleted": "f",
        "is_test_data": "t",
        "notification_preferences": _preferences(_DEFAULT_MAIL),
    }


def _locked(origin: Origin, state: int) -> dict[str, str]:
    at = f"{days(origin.as_of)[-1 - state]} {times()[state]}"
    return {"is_locked": "t", "failed_password_attempts": "5", "locked_at": at, "updated_at": at}


def _deleted(origin: Origin, state: int, administrator: str) -> dict[str, str]:
    at = f"{days(origin.as_of)[-1 - state]} {times()[state]}"
    return {"is_deleted": "t", "deleted_at": at, "deleted_by": administrator, "updated_at": at}


def _with_mfa(origin: Origin, key: str, mfa: int) -> dict[str, str]:
    secret = base64.b32encode(stream(origin.seed, f"mfa.{key}", 0, 20)).decode()
    return {
        "is_mfa_enabled": "t",
        "is_mfa_verified_by_user": "f" if mfa % 16 == 0 else "t",
        "mfa_secret": secret,
        "mfa_backup_codes_used": str(mfa // 4 % 3),
    }


def _preferences(mail: int) -> str:
    """Return notification_preferences as JSON, drawn with a byte."""
    wanted = "false" if mail < _WITHOUT_MAIL_BELOW else "true"
    days_before = _THRESHOLDS[mail % len(_THRESHOLDS)]
    return escape(
        f'{{"in_app_notification": true, "email_notification": {wanted}, '
        f'"system_notification": false, "email_threshold_days": {days_before}, '
        '"push_threshold_days": 10}'
    )
