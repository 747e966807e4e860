"""The variables that name an application's database."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from perfdata.scaffold.sources import SourceModule
from perfdata.scaffold.variables import find_variables

if TYPE_CHECKING:
    from pathlib import Path

PARTS = "{user}:{password}@{host}:{port}/{database}"


def find(root: Path, source: str, env: str = "") -> dict[str, str]:
    (root / ".env").write_text(env, encoding="utf-8")
    return find_variables(root, [], [SourceModule("app", root / "app.py", ast.parse(source))])


def test_each_way_to_read_a_variable_is_seen(tmp_path: Path) -> None:
    source = """
url = os.environ["DATABASE_URL"]
host = os.environ.get("POSTGRES_HOST", "localhost")
port = getenv("DB_PORT")
class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="app_")
    db_user: str
    debug: bool = False
other = os.getenv("REDIS_URL"), os.getenv("STRIPE_PASSWORD")
"""
    assert find(tmp_path, source) == {
        "APP_DB_USER": "{user}",
        "DATABASE_URL": "{url}",
        "DB_PORT": "{port}",
        "POSTGRES_HOST": "{host}",
    }


def test_a_url_keeps_its_driver(tmp_path: Path) -> None:
    """From the default in the code, or from .env."""
    default = 'os.getenv("DB_URL", "postgresql+psycopg://localhost/shop")'
    assert find(tmp_path, default) == {"DB_URL": f"postgresql+psycopg://{PARTS}"}
    env = "A=1\nDB_URL=postgresql+asyncpg://shop:secret@db/shop\n"
    assert find(tmp_path, 'os.environ["DB_URL"]', env) == {
        "DB_URL": f"postgresql+asyncpg://{PARTS}"
    }
