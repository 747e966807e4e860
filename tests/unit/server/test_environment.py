"""The variables of an application, whether the embedded server runs or not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from perfdata import ConfigError, Settings
from perfdata.server.environment import Variables, application_variables
from perfdata.server.ports import login
from perfdata.server.state import Home

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("url", "host", "port", "user", "password", "database")
EVERY = {name.upper(): f"{{{name}}}" for name in NAMES}


def settings_of(folder: Path, url: str | None = None, **variables: str) -> Settings:
    variables = variables or EVERY
    return Settings(root=folder, home=folder / "home", database_url=url, environment=variables)


def test_the_embedded_servers_address_is_known_before_it_runs_and_stays(tmp_path: Path) -> None:
    found = application_variables(settings_of(tmp_path))
    parts = urlsplit(found.values["URL"])
    assert found.loopback == found.values["URL"]
    assert (parts.scheme, parts.hostname, parts.path) == ("postgresql", "127.0.0.1", "/perfdata")
    assert [found.values[name] for name in ("HOST", "USER", "DATABASE")] == [
        *("127.0.0.1", "perfdata", "perfdata")
    ]
    assert (found.values["PORT"], found.values["PASSWORD"]) == (str(parts.port), parts.password)
    assert len(found.values["PASSWORD"]) == 32
    assert application_variables(settings_of(tmp_path)) == found
    for file in ("port", "password"):
        assert (tmp_path / "home" / "server" / file).stat().st_mode & 0o777 == 0o600
    assert found.values["PASSWORD"] not in repr(found)


def test_another_port_is_chosen_where_another_process_has_it(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    port = int(application_variables(settings).values["PORT"])
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        chosen = application_variables(settings).values["PORT"]
        assert chosen != str(port)
    assert application_variables(settings).values["PORT"] == chosen


def test_the_port_of_the_last_start_is_taken_first(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    home = Home(settings)
    with home.locked():
        home.write_state(replace(home.read_state(), port=23456))
    assert login(home)[0] == 23456


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql+asyncpg://shop:p%40ss@db.example:6432/shop?ssl=require",
            (
                "postgresql://shop:p%40ss@db.example:6432/shop?sslmode=require",
                *("db.example", "6432", "shop", "p@ss", "shop"),
            ),
        ),
        (
            "postgresql://shop@/shop?host=/run/pg",
            ("postgresql://shop@/shop?host=%2Frun%2Fpg", "/run/pg", "5432", "shop", "", "shop"),
        ),
        (
            "postgresql://db.example/shop",
            (
                "postgresql://app:from%20it@db.example:7777/shop",
                *("db.example", "7777", "app", "from it", "shop"),
            ),
        ),
    ],
)
def test_the_address_of_a_database_given_by_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, expected: tuple[str, ...]
) -> None:
    """What the URL leaves out is taken from libpq's variables, its driver is left out."""
    if "app" in expected:
        for name, value in {"PGUSER": "app", "PGPASSWORD": "from it", "PGPORT": "7777"}.items():
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("PGOPTIONS", "-c jit=off")
    found = application_variables(settings_of(tmp_path, url))
    assert tuple(found.values.values()) == expected
    assert found.loopback is None
    assert not (tmp_path / "home").exists()


def test_another_database_than_the_settings_is_named_by_its_conninfo(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    embedded = f"host={tmp_path / 'home' / 'server' / 'socket'} port=5432 dbname=a_clone"
    clone = application_variables(settings, embedded)
    assert clone.values["URL"] == clone.loopback
    assert clone.values["URL"].endswith(f"@127.0.0.1:{clone.values['PORT']}/a_clone")
    other = application_variables(settings, "host=db.example dbname=shop user=app")
    assert (other.values["URL"], other.loopback) == ("postgresql://app@db.example/shop", None)


def test_text_around_a_placeholder_and_doubled_braces(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, A="postgresql+asyncpg://{host}/{{x}}", B="{{}}", C="plain")
    found = application_variables(settings).values
    assert found == {"A": "postgresql+asyncpg://127.0.0.1/{x}", "B": "{}", "C": "plain"}


def test_what_is_shown_has_no_password(tmp_path: Path) -> None:
    url = "postgresql://shop:p%40ss@db.example/shop"
    shown = application_variables(settings_of(tmp_path, url)).shown()
    assert (shown["URL"], shown["PASSWORD"]) == ("postgresql://shop:***@db.example/shop", "***")
    assert application_variables(settings_of(tmp_path, A="{host}")).shown() == {"A": "127.0.0.1"}


def test_without_a_placeholder_no_port_is_chosen(tmp_path: Path) -> None:
    assert application_variables(settings_of(tmp_path, B="{{}}")) == Variables({"B": "{}"})
    assert not (tmp_path / "home").exists()


def test_a_service_is_no_address(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="service own does not show it: write host, port"):
        application_variables(settings_of(tmp_path, "postgresql://?service=own"))


def test_variables_are_set_for_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_PROCESS", "before")
    monkeypatch.delenv("OF_NOBODY", raising=False)
    variables = Variables({"OF_THE_PROCESS": "in it", "OF_NOBODY": "in it"})
    with variables.applied():
        assert os.environ["OF_THE_PROCESS"] == os.environ["OF_NOBODY"] == "in it"
    assert os.environ["OF_THE_PROCESS"] == "before"
    assert "OF_NOBODY" not in os.environ


def test_the_embedded_servers_variables_import_no_driver(tmp_path: Path) -> None:
    """Commands that do not connect need them too, for the project's import."""
    code = """
import sys
from pathlib import Path
from perfdata.config import Settings
from perfdata.server.environment import application_variables
settings = Settings(root=Path(), home=Path("home"), environment={"A": "{url}"})
assert application_variables(settings).values["A"]
print(sorted({"psycopg", "sqlalchemy"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout == "[]\n"


def test_a_short_password_is_hidden_and_leaves_other_values_legible(tmp_path: Path) -> None:
    url = "postgresql://app:app@db.example/app"
    variables = {"URL": "{url}", "LOGIN": "{user}/{password}", "APP": "app", "DSN": "password=own"}
    shown = application_variables(settings_of(tmp_path, url, **variables)).shown()
    assert shown == {
        "URL": "postgresql://app:***@db.example/app", "LOGIN": "app/***", "APP": "app",
        "DSN": "password=***",
    }  # fmt: skip
    plain = {"OTHER": "postgresql://app:own@db/x"}
    assert application_variables(settings_of(tmp_path, **plain)).shown() == {
        "OTHER": "postgresql://app:***@db/x"
    }
