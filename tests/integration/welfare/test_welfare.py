"""The welfare project on a real server: schema, factories, and scenarios against naive answers."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from psycopg.rows import dict_row
from sqlalchemy import create_engine, event, make_url, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from perfdata.errors import LoadError
from perfdata.welfare import factories, project, scenarios
from perfdata.welfare.datasets import AS_OF
from perfdata.welfare.models import DEFAULT_PREFERENCES, Base, Staff, SupportPlanCycle

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

Row = dict[str, Any]

# All of a schema that a model or a migration can say, but the columns' order: name → definition.
SCHEMA = """
SELECT format('%s.%s', c.relname, a.attname),
       concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull,
                 pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum))
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> 'alembic_version'
UNION ALL
SELECT indexname, indexdef FROM pg_indexes
WHERE schemaname = 'public' AND tablename <> 'alembic_version'
UNION ALL
SELECT format('%s.%s', conrelid::regclass, conname), pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'
UNION ALL
SELECT t.typname, string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder)
FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid GROUP BY t.typname
"""


@contextmanager
def engine_of(url: str) -> Iterator[Engine]:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def session_of(url: str) -> Iterator[Session]:
    with engine_of(url) as engine, Session(engine) as session:
        yield session


@contextmanager
def statements_of(session: Session) -> Iterator[list[tuple[str, Any]]]:
    """Collect the statements that a session sends, with their parameters."""
    sent: list[tuple[str, Any]] = []
    engine = session.get_bind().engine

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


def everything(url: str) -> dict[str, list[Row]]:
    """Read every table, to find an answer another way."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return {
            table: connection.execute(f"SELECT * FROM {table}".encode()).fetchall()
            for table in Base.metadata.tables
        }


def schema_of(url: str) -> dict[str, str]:
    with psycopg.connect(url) as connection:
        return dict(connection.execute(SCHEMA).fetchall())


def alembic(url: str, run: Callable[[Config], None]) -> None:
    config = Config()
    config.set_main_option("script_location", str(project.migrations))
    config.set_main_option("path_separator", "os")
    with engine_of(url) as engine, engine.connect() as connection:
        config.attributes["connection"] = connection
        run(config)
        connection.commit()


class TestSchema:
    def test_alembic_finds_no_difference_between_models_and_migrations(
        self, database_url: str
    ) -> None:
        options = {"compare_type": True, "compare_server_default": True}
        with engine_of(database_url) as engine, engine.connect() as connection:
            context = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(context, Base.metadata) == []

    def test_models_make_the_very_schema_that_migrations_make(
        self, database_url: str, empty_url: str
    ) -> None:
        """Also what Alembic does not compare: predicates, operator classes, ON DELETE, enums."""
        with engine_of(empty_url) as engine, engine.begin() as connection:
            connection.exec_driver_sql("CREATE EXTENSION pg_trgm")
            Base.metadata.create_all(connection)
        migrated = schema_of(database_url)
        assert schema_of(empty_url) == migrated
        assert len(migrated) > 100
        assert "gin_trgm_ops" in migrated["ix_welfare_recipients_furigana_trgm"]
        latest = migrated["ix_support_plan_cycles_recipient_latest"]
        assert latest.endswith("(welfare_recipient_id, is_latest_cycle) WHERE is_latest_cycle")

    def test_down_to_nothing_and_up_again(self, database_url: str) -> None:
        before = schema_of(database_url)
        alembic(database_url, lambda config: command.downgrade(config, "base"))
        assert schema_of(database_url) == {}
        alembic(database_url, lambda config: command.upgrade(config, "heads"))
        assert schema_of(database_url) == before

    def test_migrations_run_by_url_and_one_at_a_time(self, empty_url: str) -> None:
        """As the alembic command would run them, with sqlalchemy.url."""
        config = Config()
        config.set_main_option("script_location", str(project.migrations))
        config.set_main_option("path_separator", "os")
        url = make_url(empty_url).set(drivername="postgresql+psycopg")
        text = url.render_as_string(hide_password=False)
        config.set_main_option("sqlalchemy.url", text.replace("%", "%%"))
        for _ in range(3):
            command.upgrade(config, "+1")
        assert "ix_welfare_recipients_furigana_trgm" in schema_of(empty_url)

    def test_the_server_gives_what_a_row_leaves_out(self, database_url: str) -> None:
        with session_of(database_url) as session:
            staff = Staff(email="a@b.example", hashed_password="-", full_name="A B", role="owner")
            session.add(staff)
            session.flush()
            assert staff.id.version == 4
            assert staff.notification_preferences["email_threshold_days"] == 30
            assert str(staff.notification_preferences).count(":") == DEFAULT_PREFERENCES.count(":")
            assert (staff.is_test_data, staff.is_deleted, staff.mfa_backup_codes_used) == (
                False,
                False,
                0,
            )
            assert staff.created_at.tzinfo is not None


class TestFactories:
    def test_they_make_what_they_say_and_flag_it(self, database_url: str) -> None:
        offices = factories.bulk_create_offices(database_url, 7, batch_size=3)
        staffs = factories.bulk_create_staffs(database_url, offices, 4)
        recipients = factories.bulk_create_welfare_recipients(database_url, offices, 5)
        cycles = factories.bulk_create_support_plan_cycles(
            database_url, recipients, cycles_per_recipient=2
        )
        tables = everything(database_url)
        assert {table: len(rows) for table, rows in tables.items()} == {
            "staffs": 1 + 28,
            "offices": 7,
            "office_staffs": 28,
            "welfare_recipients": 35,
            "office_welfare_recipients": 35,
            "support_plan_cycles": 70,
        }
        assert all(row["is_test_data"] for rows in tables.values() for row in rows)
        ids = {office.id for office in offices}
        assert ids == staffs.keys() == recipients.keys() == cycles.keys()
        assert sorted(row["id"] for row in tables["support_plan_cycles"]) == [*range(1, 71)]

    def test_what_they_return_is_what_is_there(self, database_url: str) -> None:
        offices = factories.bulk_create_offices(database_url, 3)
        staffs = factories.bulk_create_staffs(database_url, offices, 2)
        recipients = factories.bulk_create_welfare_recipients(database_url, offices, 2)
        cycles = factories.bulk_create_support_plan_cycles(database_url, recipients)
        tables = everything(database_url)
        rows = {row["id"]: row for table in tables.values() for row in table}
        for office in offices:
            row = rows[office.id]
            assert (row["name"], row["created_by"]) == (office.name, office.created_by)
            assert rows[office.created_by]["email"].startswith("system_admin@")
        members = {(row["staff_id"], row["office_id"]) for row in tables["office_staffs"]}
        for office_id, made in staffs.items():
            for staff in made:
                assert (staff.id, office_id) in members
                row = rows[staff.id]
                assert (row["email"], row["full_name"], row["role"]) == (
                    staff.email,
                    staff.full_name,
                    staff.role,
                )
        for person in (one for some in recipients.values() for one in some):
            row = rows[person.id]
            assert row["birth_day"] == person.birth_day
            assert row["last_name_furigana"] == person.last_name_furigana
        found = {
            (row["welfare_recipient_id"], row["office_id"], row["next_renewal_deadline"])
            for row in tables["support_plan_cycles"]
        }
        assert found == {
            (cycle.welfare_recipient_id, office_id, cycle.next_renewal_deadline)
            for office_id, made_cycles in cycles.items()
            for cycle in made_cycles
        }

    def test_they_can_be_called_again_and_beside_a_dataset(
        self, loaded_url: Callable[[str], str]
    ) -> None:
        url = loaded_url("10_offices")
        before = everything(url)
        for _ in range(2):
            offices = factories.bulk_create_offices(url, 3)
            for _ in range(2):
                factories.bulk_create_staffs(url, offices, 2)
                recipients = factories.bulk_create_welfare_recipients(url, offices, 2)
                factories.bulk_create_support_plan_cycles(url, recipients)
        after = everything(url)
        assert len(after["offices"]) == len(before["offices"]) + 6
        assert len(after["staffs"]) == len(before["staffs"]) + 2 + 24
        ids = [row["id"] for row in after["support_plan_cycles"]]
        assert sorted(ids) == [*range(1, len(before["support_plan_cycles"]) + 24 + 1)]

    def test_a_seed_gives_the_same_rows_and_only_once(self, database_url: str) -> None:
        with session_of(database_url) as session:
            first = factories.bulk_create_offices(session, 3, seed=5)
            session.rollback()
        assert factories.bulk_create_offices(database_url, 3, seed=5) == first
        with pytest.raises(LoadError, match="staffs_pkey"):
            factories.bulk_create_offices(database_url, 3, seed=5)
        assert len(everything(database_url)["offices"]) == 3

    def test_a_callers_transaction_is_joined_and_stays_the_callers(self, database_url: str) -> None:
        with session_of(database_url) as session:
            offices = factories.bulk_create_offices(session, 2)
            factories.bulk_create_staffs(session, offices, 3)
            assert len(session.scalars(select(Staff)).all()) == 7
            session.rollback()
        assert everything(database_url)["staffs"] == []

    def test_nothing_asked_for_is_nothing_made(self, database_url: str) -> None:
        assert factories.bulk_create_offices(database_url, 0) == []
        assert factories.bulk_create_staffs(database_url, [], 3) == {}
        assert factories.bulk_create_welfare_recipients(database_url, [], 3) == {}
        assert factories.bulk_create_support_plan_cycles(database_url, {}) == {}
        assert len(everything(database_url)["staffs"]) == 1


def naive_mails(tables: dict[str, list[Row]]) -> dict[tuple[str, uuid.UUID], list[date]]:
    """Find what deadline_alerts should: {(address, office): deadlines}, by loops over all rows."""
    staffs = {row["id"]: row for row in tables["staffs"]}
    deadlines: dict[uuid.UUID, list[date]] = {}
    for row in tables["support_plan_cycles"]:
        if row["is_latest_cycle"]:
            deadlines.setdefault(row["office_id"], []).append(row["next_renewal_deadline"])
    closed = {row["id"] for row in tables["offices"] if row["is_deleted"] or row["deactivated_at"]}
    mails = {}
    for row in tables["office_staffs"]:
        staff, office_id = staffs[row["staff_id"]], row["office_id"]
        wish = staff["notification_preferences"]
        last = AS_OF + timedelta(days=wish["email_threshold_days"])
        due = sorted(each for each in deadlines.get(office_id, []) if AS_OF <= each <= last)
        silent = staff["is_deleted"] or staff["is_locked"] or not wish["email_notification"]
        if due and not silent and office_id not in closed:
            mails[staff["email"], office_id] = due
    return mails


class TestDeadlineAlerts:
    @pytest.mark.parametrize("dataset", ["10_offices", "100_offices"])
    def test_the_right_mails_in_four_queries(
        self, loaded_url: Callable[[str], str], dataset: str
    ) -> None:
        url = loaded_url(dataset)
        with session_of(url) as session, statements_of(session) as sent:
            mails = scenarios.deadline_alerts(session, as_of=AS_OF)
        assert len(sent) == 4
        found = {(mail.to, mail.office_id): [r.deadline for r in mail.recipients] for mail in mails}
        assert len(found) == len(mails) > 5
        assert found == naive_mails(everything(url))

    def test_a_mail_names_the_recipients_soonest_first(
        self, loaded_url: Callable[[str], str]
    ) -> None:
        url = loaded_url("10_offices")
        rows = {
            row["id"]: f"{row['last_name']} {row['first_name']}"
            for row in everything(url)["welfare_recipients"]
        }
        with session_of(url) as session:
            mails = scenarios.deadline_alerts(session, as_of=AS_OF)
        for mail in mails:
            assert all(each.name == rows[each.recipient_id] for each in mail.recipients)
            left = [each.days_left for each in mail.recipients]
            assert left == sorted(left)
            assert 0 <= left[0] <= left[-1] <= mail.threshold_days

    def test_under_50_mb_at_500_offices(self, loaded_url: Callable[[str], str]) -> None:
        with session_of(loaded_url("500_offices")) as session:
            tracemalloc.start()
            mails = scenarios.deadline_alerts(session, as_of=AS_OF)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert len({mail.office_id for mail in mails}) > 300
        assert peak < 50_000_000


class TestReading:
    def test_dashboard(self, loaded_url: Callable[[str], str]) -> None:
        url = loaded_url("10_offices")
        tables = everything(url)
        office_id = tables["offices"][3]["id"]
        people = {row["id"]: row for row in tables["welfare_recipients"]}
        cycles = [row for row in tables["support_plan_cycles"] if row["office_id"] == office_id]
        expected = sorted(
            (
                row["next_renewal_deadline"],
                people[row["welfare_recipient_id"]]["last_name_furigana"],
                people[row["welfare_recipient_id"]]["first_name_furigana"],
            )
            for row in cycles
        )
        with session_of(url) as session, statements_of(session) as sent:
            page = scenarios.office_dashboard(
                session, office_id=office_id, as_of=AS_OF, page=2, page_size=4
            )
        assert len(sent) == 2
        assert page.total == 10
        assert [(row.deadline, *row.furigana.split()) for row in page.rows] == expected[4:8]
        assert [row.days_left for row in page.rows] == [
            (deadline - AS_OF).days for deadline, *_ in expected[4:8]
        ]

    def test_dashboard_filters_and_sorts(self, loaded_url: Callable[[str], str]) -> None:
        url = loaded_url("100_offices")
        tables = everything(url)
        office_id = tables["offices"][3]["id"]
        with session_of(url) as session:
            everyone = scenarios.office_dashboard(
                session, office_id=office_id, as_of=AS_OF, page_size=500
            ).rows
            soon = scenarios.office_dashboard(
                session, office_id=office_id, as_of=AS_OF, due_within_days=30, page_size=500
            )
            named = scenarios.office_dashboard(
                session, office_id=office_id, as_of=AS_OF, search="さと", sort="name"
            )
            with pytest.raises(ValueError, match="colour"):
                scenarios.office_dashboard(session, office_id=office_id, as_of=AS_OF, sort="colour")
        assert len(everyone) == 100
        within = [row for row in everyone if row.days_left is not None and 0 <= row.days_left <= 30]
        assert soon.rows == within
        assert 0 < soon.total == len(within) < 100
        matching = [row for row in everyone if "サト" in row.furigana.replace(" ", "")]
        assert named.total == len(matching) > 0
        assert [row.furigana for row in named.rows] == sorted(row.furigana for row in named.rows)

    def test_dashboard_shows_who_has_no_cycle(self, database_url: str) -> None:
        offices = factories.bulk_create_offices(database_url, 1)
        factories.bulk_create_welfare_recipients(database_url, offices, 2)
        with session_of(database_url) as session:
            page = scenarios.office_dashboard(session, office_id=offices[0].id, as_of=AS_OF)
        assert [(row.deadline, row.days_left) for row in page.rows] == [(None, None)] * 2

    def test_search_finds_kana_anywhere_in_the_name(self, loaded_url: Callable[[str], str]) -> None:
        url = loaded_url("100_offices")
        expected = {
            row["id"]
            for row in everything(url)["welfare_recipients"]
            if "トウハナ" in row["last_name_furigana"] + row["first_name_furigana"]
        }
        with session_of(url) as session:
            found = scenarios.search_recipients(session, kana="トウハナ", limit=1000)
            hiragana = scenarios.search_recipients(session, kana="とう はな", limit=1000)
            few = scenarios.search_recipients(session, kana="トウハナ", limit=3)
        assert {each.recipient_id for each in found} == expected
        assert len(expected) > 3
        assert hiragana == found
        assert few == found[:3]
        assert [each.furigana for each in found] == sorted(each.furigana for each in found)

    @pytest.mark.parametrize("wildcard", ["%", "_", "サ%ウ", "\\", "/"])
    def test_search_takes_wildcards_as_they_are(
        self, loaded_url: Callable[[str], str], wildcard: str
    ) -> None:
        with session_of(loaded_url("10_offices")) as session:
            assert scenarios.search_recipients(session, kana=wildcard) == []

    def test_search_uses_the_trigram_index(self, loaded_url: Callable[[str], str]) -> None:
        url = loaded_url("100_offices")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE welfare_recipients")
        with session_of(url) as session, statements_of(session) as sent:
            scenarios.search_recipients(session, kana="トウハナ")
            query, parameters = sent[0]
            plan = session.connection().exec_driver_sql(f"EXPLAIN {query}", parameters).scalars()
            assert any("ix_welfare_recipients_furigana_trgm" in line for line in plan)

    def test_overdue_report(self, loaded_url: Callable[[str], str]) -> None:
        url = loaded_url("100_offices")
        tables = everything(url)
        offices = {row["id"] for row in tables["offices"] if not row["is_deleted"]}
        expected = Counter(
            (row["office_id"], row["next_renewal_deadline"].replace(day=1))
            for row in tables["support_plan_cycles"]
            if row["office_id"] in offices and row["next_renewal_deadline"] < AS_OF
        )
        with session_of(url) as session, statements_of(session) as sent:
            report = scenarios.overdue_report(session, as_of=AS_OF)
        assert len(sent) == 1
        assert {(row.office_id, row.month): row.overdue for row in report} == expected
        assert all(row.due == row.overdue for row in report)

    def test_overdue_report_counts_renewed_cycles_as_due_only(self, database_url: str) -> None:
        offices = factories.bulk_create_offices(database_url, 1, seed=1)
        people = factories.bulk_create_welfare_recipients(database_url, offices, 50)
        cycles = factories.bulk_create_support_plan_cycles(
            database_url, people, cycles_per_recipient=3
        )[offices[0].id]
        past = [cycle for cycle in cycles if cycle.next_renewal_deadline < AS_OF]
        with session_of(database_url) as session:
            report = scenarios.overdue_report(session, as_of=AS_OF)
        assert sum(row.due for row in report) == len(past) >= 100
        assert sum(row.overdue for row in report) == sum(each.is_latest_cycle for each in past)

    def test_staff_directory(self, loaded_url: Callable[[str], str]) -> None:
        url = loaded_url("100_offices")
        tables = everything(url)
        names = {row["id"]: row["name"] for row in tables["offices"] if not row["is_deleted"]}
        works: dict[uuid.UUID, list[str]] = {}
        for row in tables["office_staffs"]:
            if row["office_id"] in names:
                works.setdefault(row["staff_id"], []).append(names[row["office_id"]])
        present = sorted(
            (row["last_name_furigana"], row["first_name_furigana"], row["id"])
            for row in tables["staffs"]
            if not row["is_deleted"]
        )
        with session_of(url) as session, statements_of(session) as sent:
            entries = scenarios.staff_directory(session, page=2, page_size=30)
            assert len(sent) == 2
            found = scenarios.staff_directory(session, search="佐藤", page_size=1000)
        assert [entry.staff_id for entry in entries] == [key for *_, key in present[30:60]]
        assert all(entry.offices == tuple(works.get(entry.staff_id, [])) for entry in entries)
        assert {entry.name.split()[0] for entry in found} == {"佐藤"}

    def test_staff_directory_loads_every_office_of_a_member(self, database_url: str) -> None:
        offices = factories.bulk_create_offices(database_url, 2, seed=1)
        staff = factories.bulk_create_staffs(database_url, offices[:1], 1, seed=4)
        join_office(database_url, staff[offices[0].id][0].id, offices[1].id)
        with session_of(database_url) as session:
            entries = scenarios.staff_directory(session)
        both = tuple(sorted(office.name for office in offices))
        assert [entry.offices for entry in entries if entry.offices] == [both]


class TestWriting:
    def test_renew_a_cycle(self, loaded_url: Callable[[str], str]) -> None:
        url = loaded_url("10_offices")
        with session_of(url) as session:
            renewal = scenarios.renew_cycle(session, cycle_id=5, as_of=AS_OF)
            session.commit()
        rows = {row["id"]: row for row in everything(url)["support_plan_cycles"]}
        closed, opened = rows[5], rows[renewal.opened_id]
        assert renewal.opened_id == 101
        assert (closed["is_latest_cycle"], opened["is_latest_cycle"]) == (False, True)
        assert opened["cycle_number"] == renewal.cycle_number == 2
        assert opened["welfare_recipient_id"] == closed["welfare_recipient_id"]
        assert opened["office_id"] == closed["office_id"]
        assert opened["plan_cycle_start_date"] == AS_OF
        assert opened["next_renewal_deadline"] == renewal.deadline == date(2026, 9, 28)
        assert opened["is_test_data"]
        assert opened["created_at"] == datetime(2026, 4, 1, tzinfo=UTC)

    def test_a_closed_cycle_is_not_renewed_again(self, loaded_url: Callable[[str], str]) -> None:
        with session_of(loaded_url("10_offices")) as session:
            scenarios.renew_cycle(session, cycle_id=5, as_of=AS_OF)
            with pytest.raises(LookupError, match="5 is not a latest cycle"):
                scenarios.renew_cycle(session, cycle_id=5, as_of=AS_OF)
            assert session.get_one(SupportPlanCycle, 5).is_latest_cycle is False

    def test_withdraw_an_office(self, loaded_url: Callable[[str], str]) -> None:
        url = loaded_url("10_offices")
        before = everything(url)
        office_id = next(row["id"] for row in before["offices"] if not row["is_deleted"])
        members = {
            row["staff_id"] for row in before["office_staffs"] if row["office_id"] == office_id
        }
        present = {row["id"] for row in before["staffs"] if not row["is_deleted"]}
        at = datetime(2026, 4, 1, 9, tzinfo=UTC)
        with session_of(url) as session, statements_of(session) as sent:
            withdrawal = scenarios.withdraw_office(session, office_id=office_id, at=at)
            session.commit()
        assert len(sent) == 2
        after = everything(url)
        office = next(row for row in after["offices"] if row["id"] == office_id)
        assert (office["is_deleted"], office["deleted_at"]) == (True, at)
        gone = {row["id"] for row in after["staffs"] if row["deleted_at"] == at}
        assert gone == members & present
        assert withdrawal.staff_count == len(gone) > 0
        assert {row["id"] for row in after["staffs"] if not row["is_deleted"]} == present - members

    def test_who_works_elsewhere_too_stays(self, database_url: str) -> None:
        offices = factories.bulk_create_offices(database_url, 2, seed=1)
        assert not any(office.is_deleted for office in offices)
        staff = factories.bulk_create_staffs(database_url, offices[:1], 3, seed=4)[offices[0].id]
        present = [each for each in staff if not each.is_deleted]
        join_office(database_url, present[0].id, offices[1].id)
        with session_of(database_url) as session:
            at = datetime(2026, 4, 1, tzinfo=UTC)
            first = scenarios.withdraw_office(session, office_id=offices[0].id, at=at)
            second = scenarios.withdraw_office(session, office_id=offices[1].id, at=at)
            with pytest.raises(LookupError, match="withdrawn already"):
                scenarios.withdraw_office(session, office_id=offices[1].id, at=at)
        assert (first.staff_count, second.staff_count) == (len(present) - 1, 1)


def join_office(url: str, staff_id: uuid.UUID, office_id: uuid.UUID) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO office_staffs (staff_id, office_id) VALUES (%s, %s)",
            (staff_id, office_id),
        )
