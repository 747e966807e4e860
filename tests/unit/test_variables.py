"""What an application lacks, and the line that sets it."""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING

import pytest

from perfdata.variables import (
    line_for_connection,
    line_for_missing,
    line_for_overwritten,
    message_of,
    missing_variables,
    read_dotenv,
)

if TYPE_CHECKING:
    from pathlib import Path


def caught(raising: str) -> BaseException:
    names = {"os": os, "__name__": "shop.settings"}
    try:
        exec(raising, names)  # noqa: S102
    except Exception as error:  # noqa: BLE001
        return error
    raise AssertionError(raising)


SETTINGS = """
from pydantic import Field
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    postgres_server: str
    postgres_port: int
    secret_key: str = Field(alias="APP_SECRET")
    admin_password: str


os.environ.update(POSTGRES_PORT="a word", ADMIN_PASSWORD="hunter2222")
try:
    Settings()
finally:
    del os.environ["POSTGRES_PORT"], os.environ["ADMIN_PASSWORD"]
"""


def test_variables_that_are_not_set_are_found_in_the_exception() -> None:
    assert missing_variables(caught("os.environ['A_URL']")) == ["A_URL"]
    wrapped = "try:\n    os.environ['A_URL']\nexcept KeyError as error:\n    {}"
    assert missing_variables(caught(wrapped.format("raise RuntimeError from error"))) == ["A_URL"]
    assert missing_variables(caught(wrapped.format("raise RuntimeError"))) == ["A_URL"]
    assert missing_variables(caught("{}['A_URL']")) == []
    assert missing_variables(caught("int('x')")) == []


def test_settings_of_pydantic_are_told_without_their_values() -> None:
    pytest.importorskip("pydantic_settings")
    error = caught(SETTINGS)
    assert missing_variables(error) == ["POSTGRES_SERVER", "APP_SECRET"]
    said = message_of(error)
    assert said.startswith("postgres_server: Field required; postgres_port: Input")
    assert "hunter2222" in str(error)
    assert "hunter2222" not in said


def test_the_prefix_of_settings_is_part_of_the_name_unless_it_is_an_alias() -> None:
    pytest.importorskip("pydantic_settings")
    prefixed = SETTINGS.replace(
        "    postgres_server", "    model_config = {'env_prefix': 'SHOP_'}\n    postgres_server"
    )
    names = ["SHOP_POSTGRES_SERVER", "SHOP_POSTGRES_PORT", "APP_SECRET", "SHOP_ADMIN_PASSWORD"]
    assert missing_variables(caught(prefixed)) == names


def test_a_model_of_pydantic_reads_no_variable() -> None:
    model = "import pydantic\nclass Item(pydantic.BaseModel):\n    name: str\nItem()"
    assert missing_variables(caught(model)) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "{url}"),
        ("SQLALCHEMY_DATABASE_URI", "{url}"),
        ("POSTGRES_SERVER", "{host}"),
        ("PGHOST", "{host}"),
        ("DB_PORT", "{port}"),
        ("POSTGRES_USER", "{user}"),
        ("PGPASSWORD", "{password}"),
        ("POSTGRES_DB", "{database}"),
        ("DB_NAME", "{database}"),
        ("PGDATABASE", "{database}"),
        ("APP_DBHOST", "{host}"),
        ("DB_ADDRESS", "{host}"),
        ("DATABASE_POOL_SIZE", "a value"),
        ("DB_APPLICATION_NAME", "a value"),
        ("USE_DATABASE", "a value"),
        ("DATABASE", "a value"),
        ("PGADMIN_PASSWORD", "a value"),
        ("MONGO_DB_URL", "a value"),
        ("REDIS_DB", "a value"),
        ("MYSQL_DATABASE", "a value"),
        ("TEST_DATABASE_URL", "a value"),
        ("POSTGRES_TEST_HOST", "a value"),
        ("MAILGUN_URL", "a value"),
        ("ADMIN_USER", "a value"),
        ("REDIS_URL", "a value"),
        ("SMTP_HOST", "a value"),
        ("PROJECT_NAME", "a value"),
        ("SECRET_KEY", "a value"),
        ("PAGE_SIZE", "a value"),
    ],
)
def test_the_line_says_what_the_variable_is(name: str, value: str) -> None:
    where, _, line = line_for_missing([name], ()).partition(": ")
    assert where == "in [tool.perfdata] of pyproject.toml"
    assert tomllib.loads(line)["environment"] == {name: value}


def test_where_there_are_variables_another_is_added() -> None:
    """TOML has a key once; what the others are set to may be a secret."""
    line = line_for_missing(["DB_HOST", "DB_NAME"], {"SECRET_KEY": "of mine"})
    assert line == (
        "in environment of [tool.perfdata] of pyproject.toml, add: "
        'DB_HOST = "{host}", DB_NAME = "{database}"'
    )


PARTS = "{user}:{password}@{host}:{port}/{database}"


@pytest.mark.parametrize(
    ("driver", "database", "added"),
    [
        ("asyncpg", "live", f'APP_DSN = "postgresql+asyncpg://{PARTS}"'),
        ("psycopg", "other", 'OTHER = "{url}"'),
        ("psycopg2", "no", 'DATABASE_URL = "{url}"'),
        ("psycopg", "no", f'DATABASE_URL = "postgresql+psycopg://{PARTS}"'),
        ("psycopg2", "set", 'DATABASE_URL = "{url}"'),
    ],
)
def test_the_line_for_a_refused_connection_names_the_variable_that_it_came_from(
    driver: str, database: str, added: str
) -> None:
    environ = {
        "HOME": "/",
        "REDIS_URL": "redis://h/live",
        "TEST_URL": "postgresql://u@h/test?x=/live",
        "APP_DSN": "postgresql+asyncpg://u:p@h:1/live?ssl=on",
        "OTHER": "postgres://h/other",
        "PRESENT": "postgres://h/set",
    }
    line = line_for_connection(driver, database, {"PRESENT": "{url}"}, environ)
    assert line.rpartition(", add: ")[2] == added


def test_what_a_dotenv_replaced_is_named() -> None:
    """As load_dotenv(override=True) does: another line of settings would change nothing."""
    present = {"DATABASE_URL": "{url}", "PGHOST": "{host}", "SECRET": "x"}
    dotenv = {"DATABASE_URL": "postgresql://live/db", "PGHOST": "live", "OTHER": "o"}
    environ = {**dotenv, "PGHOST": "127.0.0.1", "SECRET": "x"}
    line = line_for_overwritten(present, dotenv, environ)
    assert line.startswith("The application replaced DATABASE_URL, which perfdata had set,")
    assert line_for_overwritten(present, dotenv, {"DATABASE_URL": "postgresql://target"}) == ""


def test_a_dotenv_names_the_parts_of_an_address(tmp_path: Path) -> None:
    """And of their values nothing is told."""
    file = tmp_path / ".env"
    assert read_dotenv(file) == {}
    file.write_text(
        "# of a template\nSMTP_PASSWORD=\nPROJECT_NAME=shop\nexport POSTGRES_SERVER='localhost'\n"
        'POSTGRES_PORT=5432\nPOSTGRES_DB = "app"\nPOSTGRES_USER=postgres\n'
        "POSTGRES_PASSWORD=changethis\nSMTP_HOST=\n"
    )
    environ = read_dotenv(file)
    assert (environ["SMTP_PASSWORD"], environ["PROJECT_NAME"]) == ("", "shop")
    assert (environ["POSTGRES_SERVER"], environ["POSTGRES_DB"]) == ("localhost", "app")
    line = line_for_connection("psycopg", "app", (), environ).partition(": ")[2]
    assert tomllib.loads(line)["environment"] == {
        "POSTGRES_SERVER": "{host}",
        "POSTGRES_PORT": "{port}",
        "POSTGRES_DB": "{database}",
        "POSTGRES_USER": "{user}",
        "POSTGRES_PASSWORD": "{password}",
    }
