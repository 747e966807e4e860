"""The workloads that perf tests measure: functions of the application that take a session.

Each takes its reference date as ``as_of`` (or ``at``); none reads the clock and none commits.
"""

from __future__ import annotations

from perfdata.welfare.scenarios.alerts import DueRecipient, Mail, deadline_alerts
from perfdata.welfare.scenarios.reading import (
    DashboardPage,
    DashboardRow,
    DashboardSort,
    FoundRecipient,
    OverdueCount,
    StaffEntry,
    office_dashboard,
    overdue_report,
    search_recipients,
    staff_directory,
)
from perfdata.welfare.scenarios.writing import Renewal, Withdrawal, renew_cycle, withdraw_office

__all__ = [
    "DashboardPage",
    "DashboardRow",
    "DashboardSort",
    "DueRecipient",
    "FoundRecipient",
    "Mail",
    "OverdueCount",
    "Renewal",
    "StaffEntry",
    "Withdrawal",
    "deadline_alerts",
    "office_dashboard",
    "overdue_report",
    "renew_cycle",
    "search_recipients",
    "staff_directory",
    "withdraw_office",
]
