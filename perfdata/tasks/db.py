"""The embedded server, and the database of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.errors import ConfigError, MigrationError
from perfdata.tasks.output import human_size, print_json, print_notes, show
from perfdata.tasks.progress import reporting
from perfdata.tasks.task import (
    configured_project,
    is_dry,
    load_settings,
    task,
    untouched_target,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from invoke.context import Context

    from perfdata.config import Settings

_ADOPTED = (
    "tables without the flag are replaced while they hold only what perfdata loads from now on",
    "a restore that would lose other rows is refused; with --fresh it replaces the whole database",
    "and keeps the old one until db.gc --lost-rows",
)


@task(
    options={
        "port": "also listen on this port of 127.0.0.1, for tools that need TCP; the socket's name "
        "then has this port instead of 5432 (db.status shows both URLs)"
    }
)
def start(context: Context, *, port: str = "") -> None:
    """Start the embedded server; it runs until db.stop."""
    from perfdata.server.embedded import EmbeddedServer
    from perfdata.target.target import open_target

    settings = _embedded_settings("db.start")
    port_number = _parse_port(port) if port else None
    if is_dry(context):
        where = f" on port {port_number} of 127.0.0.1" if port_number else ""
        print(f"would start the embedded server in {settings.home}{where} unless it is running")
        return
    with reporting() as report:
        started = EmbeddedServer(settings, report).start(port_number)
        open_target(settings, report)
    print(f"PostgreSQL {started.version} is running: {started.url()}")


@task()
def stop(context: Context) -> None:
    """Stop the embedded server; its data is kept."""
    from perfdata.server.embedded import EmbeddedServer

    settings = _embedded_settings("db.stop")
    if is_dry(context):
        print(f"would stop the embedded server in {settings.home}")
        return
    with reporting() as report:
        stopped = EmbeddedServer(settings, report).stop()
    print("stopped" if stopped else "the embedded server was not running")


@task(options={"json": "print JSON"})
def status(_context: Context, *, json: bool = False) -> None:
    """Show the server in use and its settings."""
    from perfdata.tasks.db_status import print_status, read_status

    facts = read_status(load_settings())
    if json:
        print_json(facts)
    else:
        print_status(facts)


@task(options={"driver": "a SQLAlchemy URL for asyncpg, psycopg or psycopg2; default: libpq's URL"})
def url(_context: Context, *, driver: str = "") -> None:
    """Print the database's URL with its password; starts the embedded server if needed."""
    from perfdata.postgres.url import check_driver, make_url
    from perfdata.server.embedded import EmbeddedServer
    from perfdata.target.target import start_target

    check_driver(driver)
    with reporting() as report:
        target = start_target(load_settings(), report)
    conninfo = target.conninfo
    if target.embedded:  # the TCP port that db.start opened, if any: it is there for other tools
        conninfo = EmbeddedServer(target.settings).status().url(password=True)
    print(make_url(conninfo, driver))


@task()
def migrate(context: Context) -> None:
    """Migrate the database to the project's newest migrations."""
    settings = load_settings()
    if is_dry(context):
        _tell_migrate(settings)
        return
    from perfdata.migrations.answers import forget_answers
    from perfdata.migrations.history import read_history
    from perfdata.target.target import make_tables, open_target

    forget_answers(settings)
    with reporting() as report:
        target = open_target(settings, report)  # makes the tables of the embedded database
        project = configured_project(target, "db.migrate")
        if not project.makes_tables:
            raise MigrationError(f"project {project.name} names no migrations")
        if not target.embedded:
            make_tables(target.conninfo, project, report)
        heads = read_history(project).heads
    reached = f"is at {', '.join(heads)}" if heads else "has the tables of the project's metadata"
    print(f"{target.described()} {reached}")


@task()
def reset(context: Context) -> None:
    """Keep the embedded database under another name, and make a new, migrated one."""
    from perfdata.target.target import reset_target

    settings = _embedded_settings("db.reset")
    if is_dry(context):
        _tell_reset(settings)
        return
    with reporting() as report:
        target = reset_target(settings, report)
    print(f"{target.described()} is new")


@task(
    options={
        "revision": "the newest revision that the database has, heads for the project's newest, "
        "base for none; several with commas between them"
    },
    required={"revision": "heads"},
)
def stamp(context: Context, *, revision: str = "") -> None:
    """Record which migrations the database has, without running them."""
    from perfdata.target.stamp import preview_stamp, stamp_revision
    from perfdata.target.target import reachable_target, start_target

    settings = load_settings()
    if is_dry(context):
        target = reachable_target(settings) or untouched_target(settings)
        previewed = preview_stamp(target, revision)
        state = "the present metadata" if previewed.metadata else _revisions(previewed.now)
        before = f" (it is at {_revisions(previewed.before)})" if previewed.before else ""
        print(f"would stamp {target.described()}: {state}{before}")
        return
    with reporting() as report:
        target = start_target(settings, report)
        done = stamp_revision(target, revision, report)
    if done.metadata:
        print(f"{target.described()} has the tables of the project's metadata")
        return
    before = f" (it was at {_revisions(done.before)})" if done.before != done.now else ""
    print(f"{target.described()} is stamped: {_revisions(done.now)}{before}")


@task(
    options={
        "name": "the database's full name, as db.status prints it: host:port/database",
        "release": "undo it: the database is not perfdata's any longer",
    },
    required={"name": "127.0.0.1:5432/shop_perf"},
)
def adopt(context: Context, *, name: str = "", release: bool = False) -> None:
    """Mark a database as perfdata's own, so that tables need no flag and --fresh may replace it."""
    from perfdata.postgres.connection import open_link
    from perfdata.target.adoption import adopt_database, release_database
    from perfdata.target.guard import refusal

    settings, dry = load_settings(), is_dry(context)
    if settings.database_url is None:
        raise ConfigError(
            "the embedded server's database is perfdata's own already: set PERFDATA_DATABASE_URL "
            "to the database that you mean"
        )
    with open_link(settings.database_url) as link:
        change = release_database if release else adopt_database
        changed, refused = change(link, name, dry=dry), refusal(link, settings)
    if not changed:
        show(f"nothing to do: perfdata {'does not own' if release else 'owns'} {name}")
        return
    verb = "release" if release else "adopt"
    show(f"would {verb} {name}" if dry else f"{verb}{'d' if release else 'ed'} {name}")
    if not release:
        print_notes(_ADOPTED)
        print_notes([f"undo it with {settings.command('db.adopt')} --name {name} --release"])
        print_notes([f"its rows may not be replaced yet: {refused.remedy}"] if refused else [])


@task(
    options={
        "lost-rows": "also remove databases that may hold the only copy of some rows",
        "json": "print JSON",
    }
)
def gc(context: Context, *, lost_rows: bool = False, json: bool = False) -> None:
    """Remove replaced databases, unused templates and leftover temporary files."""
    from dataclasses import asdict

    from perfdata.target.garbage import collect_garbage

    settings, dry = load_settings(), is_dry(context)
    with reporting() as report:
        done = collect_garbage(settings, report, dry=dry, lost_rows=lost_rows)
    if json:
        print_json({**asdict(done), "size_bytes": done.size_bytes, "dry": dry})
        return
    removed, freed = ("would remove", "would free") if dry else ("removed", "freed")
    for removal in done.removed:
        size = human_size(removal.size_bytes)
        show(f"{removed} {removal.name} ({size}): {removal.reason}")
    for line in done.left:
        show(f"kept: {line}")
    print(f"{freed} {human_size(done.size_bytes)}")


def _revisions(revisions: Sequence[str]) -> str:
    return ", ".join(revisions) or "no revision"


def _tell_migrate(settings: Settings) -> None:
    from perfdata.migrations.history import check_metadata, read_history
    from perfdata.target.target import expected_switch, pending_migrations, reachable_target

    target = untouched_target(settings)
    project, name = configured_project(target, "db.migrate"), target.described()
    if project.tables_from_metadata and settings.database_url is not None:
        check_metadata(target.conninfo, project)
    if project.has_only_metadata:
        print(f"would create the missing tables of the project's metadata in {name}")
        return
    if project.migrations is None:
        raise MigrationError(f"project {project.name} names no migrations")
    reachable = reachable_target(settings)
    if reachable is None:
        revisions = [migration.revision for migration in read_history(project).migrations]
        print(f"would start the server, create {name} if it does not exist, and run those of its")
        print(f"migrations that have not run yet: {', '.join(revisions)}")
    elif switch := expected_switch(settings):
        print(f"would switch databases, as {switch.reason}: {switch.outcome}")
    elif waiting := pending_migrations(reachable, project):
        if project.tables_from_metadata and len(waiting) == len(read_history(project).migrations):
            print(f"would create the tables of the project's metadata in {name}, and stamp it")
        else:
            print(f"would migrate {name}: {', '.join(waiting)}")
    else:
        print(f"would run nothing: {name} has all migrations of project {project.name}")


def _tell_reset(settings: Settings) -> None:
    from perfdata.server.aside import has_other_major
    from perfdata.target.target import expected_reset, reachable_target

    if has_other_major(settings):
        print("would set aside the embedded server's data, which another PostgreSQL created,")
        print("and make a new database")
        return
    reachable = reachable_target(settings)
    if reachable is None:
        print("would start the embedded server, keep its database, if there is one, under another")
        print("name, and make a new one")
        return
    print(f"would make a new database: {expected_reset(reachable).outcome}")


def _embedded_settings(task_name: str) -> Settings:
    settings = load_settings()
    if settings.database_url is not None:
        raise ConfigError(
            f"{task_name} is for the embedded server, but the settings name "
            f"{untouched_target(settings).described()}: unset PERFDATA_DATABASE_URL"
        )
    return settings


def _parse_port(text: str) -> int:
    from perfdata.server.sockets import PORTS

    if not text.isdecimal() or int(text) not in PORTS:
        raise ConfigError(f"--port must be a number from 1024 to 65535, not {text!r}")
    return int(text)
