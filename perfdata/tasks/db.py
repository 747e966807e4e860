"""The embedded server, and the database that the settings mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perfdata.errors import ConfigError, MigrationError
from perfdata.tasks.base import is_dry, task
from perfdata.tasks.output import human_size, print_facts, print_json, show
from perfdata.tasks.progress import reporting
from perfdata.tasks.target import load_settings, untouched_target

if TYPE_CHECKING:
    from invoke.context import Context

    from perfdata.config import Settings
    from perfdata.project import Project
    from perfdata.target.target import Target

# Of a server that is not ours: what the times measured on it hang on.
_SHOWN = (
    "fsync", "synchronous_commit", "full_page_writes", "wal_level", "autovacuum", "jit",
    "shared_buffers", "max_wal_size",
)  # fmt: skip


@task(
    options={
        "port": "listen on this port of 127.0.0.1 too, for tools that need TCP; it is then in the "
        "socket's name too, in the place of 5432: db.status has both URLs"
    }
)
def start(context: Context, *, port: str = "") -> None:
    """Start the embedded server; it keeps running until db.stop."""
    from perfdata.database.server import EmbeddedServer
    from perfdata.target.target import open_target

    settings = _embedded_settings("db.start")
    wanted = _parse_port(port) if port else None
    if is_dry(context):
        where = f" on port {wanted} of 127.0.0.1" if wanted else ""
        print(f"would have the embedded server in {settings.home} run{where}")
        return
    with reporting() as report:
        status = EmbeddedServer(settings, report).start(wanted)
        open_target(settings, report)
    print(f"PostgreSQL {status.version} is running: {status.url()}")


@task()
def stop(context: Context) -> None:
    """Stop the embedded server; its data stays."""
    from perfdata.database.server import EmbeddedServer

    settings = _embedded_settings("db.stop")
    if is_dry(context):
        print(f"would stop the embedded server in {settings.home}")
        return
    with reporting() as report:
        stopped = EmbeddedServer(settings, report).stop()
    print("stopped" if stopped else "the embedded server was not running")


@task(options={"json": "print JSON"})
def status(_context: Context, *, json: bool = False) -> None:
    """Show the server that is in use, and the settings in force on it."""
    settings = load_settings()
    facts = _embedded(settings) if settings.database_url is None else _reached(settings)
    if json:
        print_json(facts)
        return
    in_force: Any = facts.pop("settings")
    print_facts({name: _plain(value) for name, value in facts.items()})
    if in_force:
        print("\nsettings in force")
        print_facts({f"  {name}": value for name, value in in_force.items()})


@task(options={"driver": "asyncpg, psycopg or psycopg2: SQLAlchemy's URL; libpq's where not given"})
def url(_context: Context, *, driver: str = "") -> None:
    """Print the database's URL, with its password; the embedded server is started if need be."""
    from perfdata.database.server import EmbeddedServer
    from perfdata.database.url import check_driver, make_url
    from perfdata.target.target import start_target

    check_driver(driver)
    with reporting() as report:
        target = start_target(load_settings(), report)
    conninfo = target.conninfo
    if target.embedded:  # over its port where db.start gave it one: that is for other tools
        conninfo = EmbeddedServer(target.settings).status().url(password=True)
    print(make_url(conninfo, driver))


@task()
def migrate(context: Context) -> None:
    """Bring the database to the newest migrations of the project."""
    settings = load_settings()
    if is_dry(context):
        _tell_migrate(settings)
        return
    from perfdata.target import migrations
    from perfdata.target.target import open_target

    with reporting() as report:
        target = open_target(settings, report)
        project = _project(target)
        if project.tables_from_metadata:
            migrations.create_tables(target.conninfo, project, report)
            reached = "has the tables of the project's metadata"
        else:
            heads = migrations.migrate(target.conninfo, project, report)
            reached = f"is at {', '.join(heads)}"
    print(f"{target.described()} {reached}")


@task(
    options={
        "lost-rows": (
            "also remove replaced databases that hold, or may hold, rows found nowhere else"
        ),
        "json": "print JSON",
    }
)
def gc(context: Context, *, lost_rows: bool = False, json: bool = False) -> None:
    """Remove databases that restores replaced or left, unused templates, and temporary files."""
    from dataclasses import asdict

    from perfdata.database.garbage import collect_garbage

    settings, dry = load_settings(), is_dry(context)
    with reporting() as report:
        done = collect_garbage(settings, report, dry=dry, lost_rows=lost_rows)
    if json:
        print_json({**asdict(done), "size_bytes": done.size_bytes, "dry": dry})
        return
    would = "would have " if dry else ""
    for one in done.removed:
        show(f"{would}removed {one.name} ({human_size(one.size_bytes)}): {one.reason}")
    for line in done.left:
        show(f"left: {line}")
    print(f"{would}given back {human_size(done.size_bytes)}")


def _tell_migrate(settings: Settings) -> None:
    from perfdata.target.migrations import read_history
    from perfdata.target.target import pending_migrations, reachable_target

    target = untouched_target(settings)
    project, name = _project(target), target.described()
    if project.tables_from_metadata:
        print(f"would make, on {name}, the tables of the metadata that are missing")
        return
    if project.migrations is None:
        raise MigrationError(f"project {project.name} names no migrations")
    there = reachable_target(settings)
    if there is None:
        waiting = [one.revision for one in read_history(project).migrations]
        print(f"would have {name} run, make it where it is not there, and run on it what has not")
        print(f"run yet of: {', '.join(waiting)}")
    elif waiting := pending_migrations(there, project):
        print(f"would run, on {name}: {', '.join(waiting)}")
    else:
        print(f"would run nothing: {name} has all migrations of project {project.name}")


def _project(target: Target) -> Project:
    if target.project is None:
        raise ConfigError(
            f"no project is configured for {target.described()}: "
            "name one in pyproject.toml, [tool.perfdata] project"
        )
    return target.project


def _embedded_settings(task_name: str) -> Settings:
    settings = load_settings()
    if settings.database_url is not None:
        raise ConfigError(
            f"{task_name} is about the embedded server, but the settings name "
            f"{untouched_target(settings).described()}: unset PERFDATA_DATABASE_URL"
        )
    return settings


def _embedded(settings: Settings) -> dict[str, object]:
    from dataclasses import asdict

    from perfdata.database.server import EmbeddedServer

    found = EmbeddedServer(settings).status()
    facts = {
        "running": found.running,
        "url": found.url() if found.running else None,
        "socket_url": found.socket_url() if found.running else None,
    }
    return {**facts, **asdict(found)}


def _reached(settings: Settings) -> dict[str, object]:
    """Connect to the database of the URL and say what answered, in the form of _embedded.

    And how ``allow`` names it, and why its rows may not be replaced, if so.
    """
    from perfdata.database.connection import open_link
    from perfdata.target.guard import locate, refusal

    with open_link(settings.database_url) as link:
        shown = link.rows(
            "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS s (name)",
            (list(_SHOWN),),
        )
        return {
            "running": True,
            "url": untouched_target(settings).described(),
            "version": link.value("SELECT current_setting('server_version')"),
            "identifier": link.server_identifier,
            "allow_entry": locate(link).entry,
            "refusal": str(refused) if (refused := refusal(link, settings)) else None,
            "settings": dict(shown),
        }


def _parse_port(text: str) -> int:
    from perfdata.database.launch import PORTS

    if not text.isdecimal() or int(text) not in PORTS:
        raise ConfigError(f"--port must be a number from 1024 to 65535, not {text!r}")
    return int(text)


def _plain(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else value
