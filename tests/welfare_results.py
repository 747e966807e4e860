"""Results as a run of the welfare scenarios would have them, made by hand: for what shows them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from perfdata.perf.model import (
    Budgets,
    Finding,
    FindingKind,
    Misestimate,
    PlanSource,
    QueryPlan,
    ScenarioResult,
    Source,
    StatementCount,
    TimeStats,
)
from perfdata.perf.report.history import Entry, Run

OFFICES = (
    "SELECT offices.id, offices.name FROM offices WHERE offices.is_deleted IS FALSE AND "
    "offices.deactivated_at IS NULL"
)
READERS = (
    "SELECT office_staffs.office_id, staffs.email, staffs.full_name, "
    "COALESCE(CAST(staffs.notification_preferences ->> 'email_threshold_days' AS INT), ?) AS "
    "coalesce_1 FROM office_staffs JOIN staffs ON staffs.id = office_staffs.staff_id JOIN offices "
    "ON offices.id = office_staffs.office_id WHERE offices.is_deleted IS FALSE AND "
    "staffs.is_deleted IS FALSE AND staffs.is_locked IS FALSE ORDER BY office_staffs.office_id, "
    "staffs.email"
)
DUE = (
    "SELECT support_plan_cycles.office_id, support_plan_cycles.welfare_recipient_id, "
    "support_plan_cycles.next_renewal_deadline FROM support_plan_cycles WHERE "
    "support_plan_cycles.is_latest_cycle AND support_plan_cycles.next_renewal_deadline BETWEEN ? "
    "AND ? ORDER BY support_plan_cycles.next_renewal_deadline, support_plan_cycles.id"
)
SEARCH = (
    "SELECT welfare_recipients.id, welfare_recipients.last_name FROM welfare_recipients WHERE "
    "welfare_recipients.last_name_furigana || welfare_recipients.first_name_furigana LIKE ? "
    "ORDER BY welfare_recipients.last_name_furigana LIMIT ?"
)
CLOSE = "UPDATE support_plan_cycles SET is_latest_cycle = false WHERE support_plan_cycles.id = ?"
BY_INDEX = (
    "Sort",
    "  Nested Loop (Inner)",
    "    Hash Join (Inner)",
    "      Seq Scan on office_staffs",
    "      Hash",
    "        Seq Scan on offices",
    "    Index Scan using staffs_pkey on staffs",
)
BY_HASH = (
    "Incremental Sort",
    "  Hash Join (Inner)",
    "    Hash Join (Inner)",
    "      Seq Scan on office_staffs",
    "      Hash",
    "        Seq Scan on offices",
    "    Hash",
    "      Seq Scan on staffs",
)
DUE_BY_INDEX = (
    "Sort",
    "  Index Scan using support_plan_cycles_office_id_is_latest_cycle_next_renewal_deadline_idx"
    " on support_plan_cycles",
)
DUE_BY_SCAN = ("Sort", "  Seq Scan on support_plan_cycles")
SETTINGS = {
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "plan_cache_mode": "force_custom_plan",
    "server_version": "18.6",
    "work_mem": "4096",
}
ENVIRONMENT = {"postgresql": "18", "provider": "builtin", "locale": "C.UTF-8", "block_size": "8192"}


def plan(
    *signature: str, calls: int = 1, buffers: int = 0, temp: int = 0, wal: int = 0
) -> QueryPlan:
    return QueryPlan(signature, calls, buffers, temp, wal)


def scenario(name: str, *statements: StatementCount, seconds: float = 0.01) -> ScenarioResult:
    """Make a green result with forty rounds, some of them slow."""
    rounds = tuple(seconds * (1 + (n * 7 % 13) / 60 + (n % 11 == 0) * 0.4) for n in range(40))
    return ScenarioResult(
        scenario=name,
        test=f"tests/perf/test_welfare.py::test_{name}",
        dataset="100_offices",
        statements=statements,
        time=TimeStats(sorted(rounds)[20], min(rounds), 40, rounds),
        settings=SETTINGS,
        environment=ENVIRONMENT,
        plan_source=PlanSource.AUTO_EXPLAIN,
        memory_bytes=3_200_000,
        baseline=f"tests/perf/baselines/pg18/{name}.100_offices.json",
        accepted=True,
        accepted_counters={"queries": sum(one.calls for one in statements)},
    )


ALERTS = scenario(
    "deadline_alerts",
    StatementCount(
        *("a1f0c3d2b4e59687", OFFICES, 1, 97),
        sources=(Source("perfdata/welfare/scenarios/alerts.py", 98, "_active_offices", 1, 1),),
        plans=(plan("Seq Scan on offices", buffers=4),),
    ),
    StatementCount(
        *("b2f0c3d2b4e59687", READERS, 1, 941),
        sources=(Source("perfdata/welfare/scenarios/alerts.py", 105, "_readers", 1, 1),),
        plans=(plan(*BY_HASH, buffers=64),),
        misestimates=(Misestimate("Hash Join (Inner)", 5, 941),),
    ),
    StatementCount(
        *("c3f0c3d2b4e59687", DUE, 97, 4_150),
        sources=(Source("perfdata/welfare/scenarios/alerts.py", 133, "_due_by_office", 97, 97),),
        plans=(plan(*DUE_BY_SCAN, calls=97, buffers=24_347, temp=12),),
    ),
    seconds=0.042,
)
ALERTS = replace(
    ALERTS,
    budgets=Budgets(max_queries=4, max_buffers=30_000, max_growth={"queries": 0.1}),
    growth={"queries": 0.98, "rows": 1.0, "buffers": 1.96},
    accepted_counters={"queries": 3, "rows": 5_188, "buffers": 319, "temp_blocks": 0},
    findings=(
        Finding(
            *(FindingKind.MISESTIMATE, False, "Hash Join (Inner): 5 rows estimated, 941 came"),
            statement=READERS,
            fingerprint="b2f0c3d2b4e59687",
        ),
        Finding(
            *(FindingKind.CHANGED_PLAN, True, "another plan than the accepted one"),
            statement=DUE,
            fingerprint="c3f0c3d2b4e59687",
            old_plan=DUE_BY_INDEX,
            new_plan=DUE_BY_SCAN,
        ),
        Finding(
            *(FindingKind.CHANGED_PLAN, True, "another plan than the accepted one"),
            statement=READERS,
            fingerprint="b2f0c3d2b4e59687",
            old_plan=BY_INDEX,
            new_plan=BY_HASH,
        ),
        Finding(
            FindingKind.REPEATED,
            fails=True,
            message="perfdata/welfare/scenarios/alerts.py:133 in _due_by_office sent it 97 times "
            "with 97 different parameters",
            statement=DUE,
            fingerprint="c3f0c3d2b4e59687",
            old=1,
            new=97,
        ),
    ),
)
SEARCHED = replace(
    scenario(
        "search_recipients",
        StatementCount(
            *("d4f0c3d2b4e59687", SEARCH, 1, 50),
            plans=(plan("Limit", "  Sort", "    Bitmap Heap Scan on 利用者", buffers=58),),
        ),
        seconds=0.0014,
    ),
    accepted=False,
    baseline="",
    accepted_counters={},
)
RENEWED = scenario(
    "renew_cycle",
    StatementCount(
        *("e5f0c3d2b4e59687", CLOSE, 1, 1),
        plans=(
            plan("Update on support_plan_cycles", "  Index Scan using pk", buffers=9, wal=4),
            QueryPlan(("Result",), 1, 0, 0, 0, query="SELECT 1 FROM ONLY offices WHERE id = ?"),
        ),
    ),
    seconds=0.0009,
)
COUNTED = replace(
    RENEWED,
    scenario="withdraw_office",
    time=None,
    plan_source=PlanSource.NONE,
    memory_bytes=None,
    not_captured=("plans: the role perf_user may not set session_preload_libraries",),
)
RESULTS = (ALERTS, SEARCHED, RENEWED, COUNTED)


def runs(*results: ScenarioResult, count: int = 20) -> tuple[Run, ...]:
    """Make nights of the results, the last as they are, those before a little faster."""
    first = datetime(2026, 3, 1, 17, 40, tzinfo=UTC)
    return tuple(
        Run(
            at=first + timedelta(days=night),
            commit=f"{night:02}c0ffee" * 5,
            server_version="18.6",
            scenarios=tuple(_entry(Entry.of(one), night, count) for one in results),
        )
        for night in range(count)
    )


def _entry(last: Entry, night: int, count: int) -> Entry:
    if night >= count - 2:
        return last
    slower = 0.8 + (night * 5 % 7) / 40
    return replace(
        last,
        verdict="ok",
        queries=min(last.queries, 4),
        buffers=last.buffers and min(last.buffers, 320 + night // 6),
        median_s=None if night == 5 else last.median_s and last.median_s * slower,
    )
