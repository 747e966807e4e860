"""db.adopt: a database that somebody else made becomes perfdata's own, and back."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import make_conninfo

from perfdata import GuardError, RefusedError, build_dataset, create_snapshot, restore_snapshot
from perfdata.postgres.connection import open_link
from perfdata.target.adoption import adopt_database, release_database
from perfdata.target.guard import locate
from perfdata.templates.databases import list_databases
from perfdata.templates.provenance import find_owned
from tests.integration.databases import run
from tests.processes import run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from perfdata import Target

REAL = "INSERT INTO customer VALUES (1000, 'a real one')"


def entry_of(url: str) -> str:
    with open_link(url) as link:
        return locate(link).entry


def owned(url: str) -> bool:
    with open_link(url) as link:
        return find_owned(link) is not None


def adopt(url: str, name: str | None = None, **options: Any) -> bool:
    with open_link(url) as link:
        return adopt_database(link, name or entry_of(url), **options)


def comment(url: str) -> str | None:
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname ="
    found: str | None = run(url, f"{query} current_database()")[0][0]
    return found


def test_an_adopted_database_needs_no_flag_and_keeps_what_it_held(
    shop_elsewhere: Target, state: Callable[[str], Any]
) -> None:
    url = shop_elsewhere.conninfo
    run(url, REAL)
    assert adopt(url)
    assert not adopt(url)
    before = state(url)
    with pytest.raises(RefusedError, match=r"would be lost: customer: 1\. Restore with fresh=True"):
        build_dataset(shop_elsewhere, "10")
    assert state(url) == before
    run(url, "DELETE FROM customer")
    build_dataset(shop_elsewhere, "10")
    with open_link(url) as link:
        assert release_database(link, entry_of(url))
        assert not release_database(link, entry_of(url))
    assert comment(url) is None
    with pytest.raises(RefusedError, match="whole_tables does not name that here"):
        restore_snapshot(url, "10", settings=shop_elsewhere.settings)


def test_adopting_allows_no_database(shop_elsewhere: Target, state: Callable[[str], Any]) -> None:
    """Rows are still replaced only where ``allow`` lists the database."""
    url = shop_elsewhere.conninfo
    adopt(url)
    build_dataset(shop_elsewhere, "10")
    before = state(url)
    unlisted = replace(shop_elsewhere.settings, allow=())
    for fresh in (False, True):
        with pytest.raises(GuardError, match="is not"):
            restore_snapshot(url, "10", settings=unlisted, fresh=fresh)
    assert state(url) == before


def test_a_users_comment_stays(shop_elsewhere: Target) -> None:
    url = shop_elsewhere.conninfo
    name = entry_of(url).rpartition("/")[2]
    run(url, f"COMMENT ON DATABASE {name} IS 'the shop''s'")
    adopt(url)
    text = comment(url)
    assert text
    assert text.startswith("the shop's\nperfdata: ")
    with open_link(url) as link:
        release_database(link, entry_of(url))
    assert comment(url) == "the shop's"


def test_a_dry_run_marks_nothing(shop_elsewhere: Target) -> None:
    url = shop_elsewhere.conninfo
    assert adopt(url, dry=True)
    assert not owned(url)
    adopt(url)
    with open_link(url) as link:
        assert release_database(link, entry_of(url), dry=True)
    assert owned(url)


@pytest.mark.parametrize("name", ["", "*", "local/{}", "{}", "127.0.0.1:5432/{}"])
def test_the_full_name_must_be_that_of_what_is_connected(shop_elsewhere: Target, name: str) -> None:
    url = shop_elsewhere.conninfo
    entry = entry_of(url)
    wrong = name.format(entry.rpartition("/")[2])
    with open_link(url) as link, pytest.raises(RefusedError, match=f"settings name is {entry}"):
        adopt_database(link, wrong)
    assert not owned(url)


def test_a_protected_database_is_not_adopted(shop_elsewhere: Target) -> None:
    url = shop_elsewhere.conninfo
    name = entry_of(url).rpartition("/")[2]
    run(url, f"ALTER DATABASE {name} SET perfdata.restore = 'never'")
    with pytest.raises(GuardError, match=r"perfdata\.restore is set to never"):
        adopt(url)
    assert not owned(url)


@pytest.fixture
def reader(shop_elsewhere: Target) -> Iterator[str]:
    """The shop's conninfo of a role that does not own it."""
    url = shop_elsewhere.conninfo
    run(url, "CREATE ROLE shop_reader LOGIN", "GRANT pg_read_all_data TO shop_reader")
    yield make_conninfo(url, user="shop_reader")
    run(url, "DROP ROLE shop_reader")


def test_a_role_that_may_not_comment_adopts_nothing(reader: str) -> None:
    with pytest.raises(RefusedError, match=r"only the owner of \S+, perfdata, may comment on it"):
        adopt(reader)
    assert not owned(reader)


def test_a_template_is_not_adopted(shop_elsewhere: Target, databases: Any) -> None:
    run(shop_elsewhere.conninfo, "CREATE TABLE flagged (id int, is_test_data boolean)",
        "INSERT INTO flagged VALUES (1, true)")  # fmt: skip
    settings = shop_elsewhere.settings
    create_snapshot(shop_elsewhere.conninfo, "f", settings=settings)
    restore_snapshot(shop_elsewhere.conninfo, "f", settings=settings, fresh=True)
    with open_link(shop_elsewhere.conninfo) as link:
        made = [x.name for x in list_databases(link) if x.mark and x.name != x.mark.target]
        before = next(name for name in made if "_before_" in name)
    databases.made += made
    run(shop_elsewhere.conninfo, *(f"ALTER DATABASE {name} IS_TEMPLATE false" for name in made))
    url = make_conninfo(shop_elsewhere.conninfo, dbname=before)
    with pytest.raises(RefusedError, match=r"that perfdata made for \S+ \(before\)"):
        adopt(url)


def test_the_task_says_what_adopting_means(shop_elsewhere: Target, tmp_path: Path) -> None:
    url = shop_elsewhere.conninfo
    name = entry_of(url)
    (tmp_path / "pyproject.toml").write_text("[tool.perfdata]\n")

    def said(*options: str) -> str:
        options = ("db.adopt", "--name", name, *options)
        done = run_script(tmp_path, "perfdata", *options, PERFDATA_DATABASE_URL=url)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert said("--dry").startswith(f"would adopt {name}\n")
    adopted = said()
    assert adopted.startswith(f"adopted {name}\n")
    assert "  undo it with perfdata db.adopt --name " in adopted
    assert "  its rows may not be replaced yet: If its flagged rows may be replaced, " in adopted
    done = run_script(tmp_path, "perfdata", "db.status", PERFDATA_DATABASE_URL=url)
    assert re.search(r"^owned +yes$", done.stdout, re.MULTILINE)
    assert said() == f"nothing to do: perfdata owns {name}\n"
    assert said("--release") == f"released {name}\n"
    assert said("--release") == f"nothing to do: perfdata does not own {name}\n"
