"""The rows of staff: the system administrator, each office's staff, and who works where."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING
from uuid import NAMESPACE_DNS, uuid5

from perfdata import generate as g

if TYPE_CHECKING:
    from perfdata.dataset import Dataset
    from perfdata.generate import GeneratedTable, Per

# Hashing a password for each of 1,000 members of staff took 470 of 537 seconds once: all of them
# share this real bcrypt hash (cost 12).
SHARED_LOGIN = "perfdata-test-password"
SHARED_LOGIN_HASH = "$2b$12$wub2/StW5.nYlD6aO5gMHOAKPqeQJabjrgshz4.wovP0umPUBTeOq"

# Of 128 members of staff, 3 are locked and 6 deleted, 11 are managers, 10 want no mail.
_STATES = {"": 119, "locked": 3, "deleted": 6}
_ROLES = {"employee": 117, "manager": 11}
_WITH_MAIL = 118 / 128
_THRESHOLDS = {30: 10, 7: 1, 14: 2, 60: 2, 90: 1}
_SECRET_BYTES = 20


def domain(dataset: Dataset) -> str:
    """Return the e-mail domain of a dataset's rows: reserved (RFC 2606), and the seed's own."""
    return f"seed-{dataset.seed:x}.welfare.example"


def administrator_id(dataset: Dataset) -> str:
    """Return the id of the system administrator, who creates every office."""
    return str(uuid5(NAMESPACE_DNS, f"system_admin.{domain(dataset)}"))


def administrator(dataset: Dataset) -> GeneratedTable:
    """Return the row of the system administrator: role owner, creator of every office."""
    columns = {
        **_columns(dataset),
        "id": administrator_id(dataset),
        "email": f"system_admin@{domain(dataset)}",
        "role": "owner",
        "is_mfa_enabled": False,
        "created_at": moment(dataset, -3000),
        "_state": "",
        "_withdrawn": False,
        "_deleter": None,
    }
    return g.table(dataset, "staffs", 1, "administrator", **columns)


def staffs(dataset: Dataset, rows: Per) -> GeneratedTable:
    """Return the staff of offices: the first of each a manager, the others mostly employees.

    Some are soft-deleted (all of them, where the office is), locked or have MFA; some want their
    mails earlier, later or not at all. ``rows`` is per offices (see ``offices``).
    """
    columns = {
        **_columns(dataset),
        "role": lambda _position, _role: "manager" if _position == 1 else _role,
        "_role": g.choice(_ROLES),
        "_position": g.position(),
        "_number": g.parent("_number"),
        "_office": g.parent(),
        "_withdrawn": g.parent("is_deleted"),
        "_deleter": g.parent("created_by"),
    }
    return g.table(dataset, "staffs", rows, **columns)


def _columns(dataset: Dataset) -> dict[str, object]:
    """Return the columns of a member of staff of an office."""
    family, given = g.faker("ja_JP.last_name_pair"), g.faker("ja_JP.first_name_pair")
    event = g.timestamp(-18, -1)
    return {
        "id": g.uuid(),
        "email": g.text(f"{{_latin}}.{{_position}}@office{{_number}}.{domain(dataset)}"),
        "hashed_password": SHARED_LOGIN_HASH,
        "last_name": family[0],
        "first_name": given[0],
        "last_name_furigana": family[1],
        "first_name_furigana": given[1],
        "full_name": g.text("{last_name} {first_name}"),
        "role": "employee",
        "is_email_verified": True,
        "is_mfa_enabled": g.boolean(0.25),
        "is_mfa_verified_by_user": g.where("is_mfa_enabled", g.boolean(0.75), otherwise=False),
        "mfa_secret": g.where("is_mfa_enabled", _secret),
        "mfa_backup_codes_used": g.where("is_mfa_enabled", g.integer(0, 2), otherwise=0),
        "password_changed_at": moment(dataset, -90),
        "failed_password_attempts": g.where("is_locked", 5, otherwise=0),
        "is_locked": lambda _state: _state == "locked",
        "locked_at": g.where("is_locked", event),
        "is_deleted": lambda _state, _withdrawn: _withdrawn or _state == "deleted",
        "deleted_at": g.where("is_deleted", event),
        "deleted_by": g.where("is_deleted", lambda _deleter: _deleter),
        "created_at": g.timestamp(-1765, -1000),
        "updated_at": g.where(
            lambda is_locked, is_deleted: is_locked or is_deleted, event, moment(dataset, -10)
        ),
        "is_test_data": True,
        "notification_preferences": g.json(
            {
                "in_app_notification": True,
                "email_notification": g.boolean(_WITH_MAIL),
                "system_notification": False,
                "email_threshold_days": g.choice(_THRESHOLDS),
                "push_threshold_days": 10,
            }
        ),
        "_latin": lambda _given, _family: f"{_given}.{_family}".lower(),
        "_family": family[2],
        "_given": given[2],
        "_number": 0,
        "_position": 0,
        "_state": g.choice(_STATES),
    }


def office_staffs(dataset: Dataset, staff: GeneratedTable) -> GeneratedTable:
    """Return the rows that put staff into their offices."""
    joined = g.timestamp(-755, -500)
    return g.table(
        dataset,
        "office_staffs",
        g.per(staff, 1),
        id=g.uuid(),
        staff_id=g.parent(),
        office_id=g.parent("_office"),
        is_primary=True,
        created_at=joined,
        updated_at=joined,
        is_test_data=True,
    )


def moment(dataset: Dataset, days: int) -> datetime:
    """Return the beginning of a day, counted from ``as_of``."""
    return datetime.combine(dataset.as_of + timedelta(days=days), time(tzinfo=UTC))


def _secret(email: str) -> str:
    """Return the MFA secret of a member of staff."""
    return base64.b32encode(hashlib.shake_128(email.encode()).digest(_SECRET_BYTES)).decode()
