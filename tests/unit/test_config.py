from __future__ import annotations

import re
from pathlib import Path

import pytest

import perfdata
from perfdata import ConfigError, Settings
from perfdata.config import unknown_variables
from perfdata.project import find_project, load_project
from tests.projects import no_project


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    return folder


def test_the_nearest_pyproject_with_the_table_is_the_root(tmp_path: Path) -> None:
    """A monorepo: the inner project has its own table, a third has only other tools' tables."""
    write(tmp_path, '[tool.perfdata]\nproject = "outer:project"\n')
    write(tmp_path / "inner", '[tool.perfdata]\nproject = "inner:project"\n')
    write(tmp_path / "third", "[tool.other]\n")
    assert Settings.load(tmp_path / "inner", {}).project == "inner:project"
    third = Settings.load(tmp_path / "third", {})
    assert (third.project, third.root) == ("outer:project", tmp_path)
    assert third.home == tmp_path / ".perfdata"


def test_without_a_table_there_is_no_project(tmp_path: Path) -> None:
    """The bundled one is used only where it is named."""
    settings = Settings.load(tmp_path, {})
    assert settings.configured is False
    assert settings.project is None
    assert settings.root == tmp_path
    assert find_project(settings) is None
    with pytest.raises(ConfigError) as caught:
        load_project(settings)
    assert str(caught.value) == no_project(tmp_path)
    unnamed = Settings.load(write(tmp_path, "[tool.perfdata]\n"), {})
    with pytest.raises(ConfigError, match=r"\.toml has no key project\. Run: perfdata init"):
        load_project(unnamed)


def test_the_environment_can_name_the_bundled_project(tmp_path: Path) -> None:
    settings = Settings.load(tmp_path, {"PERFDATA_PROJECT": "perfdata.welfare"})
    assert load_project(settings).name == "welfare"


def test_the_flag_and_the_tables_to_take_whole_are_named(tmp_path: Path) -> None:
    text = 'flag_column = "fake"\nwhole_tables = ["a", "ref.*"]\nflag_through = ["b.a_id"]\n'
    write(tmp_path, f"[tool.perfdata]\n{text}")
    found = Settings.load(tmp_path, {})
    assert (found.flag_column, found.whole_tables) == ("fake", ("a", "ref.*"))
    assert found.flag_through == ("b.a_id",)
    plain = Settings.load(write(tmp_path / "plain", "[tool.perfdata]\n"), {})
    assert (plain.flag_column, plain.whole_tables, plain.flag_through) == (None, (), ())


def test_the_environment_wins(tmp_path: Path) -> None:
    text = '[tool.perfdata]\nhome = "a"\ndatabase_url = "postgresql:///a"\nallow = ["h/a"]\n'
    write(tmp_path, text)
    environ = {
        "PERFDATA_HOME": "b",
        "PERFDATA_DATABASE_URL": "postgresql:///b",
        "PERFDATA_ALLOW": "local/x, db/*_perf",
        "PERFDATA_PG_BIN": "/pg/bin",
    }
    settings = Settings.load(tmp_path, environ)
    assert settings.home == tmp_path / "b"
    assert settings.database_url == "postgresql:///b"
    assert settings.allow == ("local/x", "db/*_perf", "h/a")
    assert settings.allow_environ == ("local/x", "db/*_perf")
    assert str(settings.pg_bin) == "/pg/bin"
    assert Settings.load(tmp_path, {}).home == tmp_path / "a"


def test_a_relative_folder_is_below_where_it_was_said(tmp_path: Path) -> None:
    """In the environment that is the current folder, in pyproject.toml the folder of that."""
    write(tmp_path, '[tool.perfdata]\nhome = "a"\npg_bin = "pg"\n')
    below = tmp_path / "below"
    below.mkdir()
    said = Settings.load(below, {"PERFDATA_HOME": "b", "PERFDATA_PG_BIN": "bin"})
    assert (said.root, said.home, said.pg_bin) == (tmp_path, below / "b", below / "bin")
    written = Settings.load(below, {})
    assert (written.home, written.pg_bin) == (tmp_path / "a", tmp_path / "pg")


def test_a_variable_that_is_no_setting_is_named_with_the_near_one() -> None:
    environ = {"PERFDATA_HOME": "b", "PERFDATA_COMPARE": "{}", "PERFDATABASE": "", "HOME": "/"}
    assert unknown_variables(environ) == []
    assert unknown_variables({**environ, "PERFDATA_DATABSE_URL": "x", "PERFDATA_QUIET": "1"}) == [
        "PERFDATA_DATABSE_URL is not a setting of perfdata; did you mean PERFDATA_DATABASE_URL?",
        "PERFDATA_QUIET is not a setting of perfdata; there are: PERFDATA_PROJECT, "
        "PERFDATA_DATABASE_URL, PERFDATA_HOME, PERFDATA_PG_BIN, PERFDATA_ALLOW",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.perfdata]\nprojct = 'x'\n", "no key 'projct'; did you mean project?"),
        ("[tool.perfdata]\nallow = 'x'\n", "allow must be a list of strings, not str"),
        ("[tool.perfdata]\nallow = [1]\n", "allow must be a list of strings"),
        ("[tool.perfdata]\nhome = 1\n", "home must be a string, not int"),
        ("[tool]\nperfdata = 1\n", "tool.perfdata is not a table"),
        ("[tool.perfdata]\nenvironment = 'x'\n", "must be a table of strings, not str"),
        (
            "[tool.perfdata]\nenvironment = {A = '{uri}'}\n",
            "environment.A has an unknown placeholder {uri}; there are {url}, {host}, {port}, "
            "{user}, {password}, {database}",
        ),
        ("[tool.perfdata]\nenvironment = {A = '{url!r}'}\n", "unknown placeholder {url!r}"),
        ("[tool.perfdata]\nenvironment = {A = '{url.x}'}\n", "unknown placeholder {url.x}"),
        ("[tool.perfdata]\nenvironment = {A = '{}'}\n", "unknown placeholder {}"),
        ("[tool.perfdata]\nenvironment = {A = '{url'}\n", "a brace that is no placeholder is"),
        (
            "[tool.perfdata]\nenvironment = {PORT = 5432}\n",
            "environment.PORT must be a string, not int; there are the placeholders {url}, ",
        ),
        ("[tool.perfdata]\nenvironment = {PERFDATA_HOME = 'x'}\n", "is not a variable that an"),
        ("[tool.perfdata]\nenvironment = {'A=B' = 'x'}\n", "is not a variable that an"),
        ("[tool.perfdata\n", "can't be read"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        Settings.load(tmp_path, {})
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_the_variables_of_an_application_are_read(tmp_path: Path) -> None:
    plain = Settings.load(write(tmp_path / "plain", "[tool.perfdata]\n"), {})
    assert (plain.environment, plain.gives_address) == ({}, False)
    text = "[tool.perfdata.environment]\nJSON = '{{}}'\nMODE = 'perf'\n"
    fixed = Settings.load(write(tmp_path / "fixed", text), {})
    assert (fixed.environment, fixed.gives_address) == ({"JSON": "{{}}", "MODE": "perf"}, False)
    given = Settings.load(write(tmp_path / "given", f"{text}A = 'x{{host}}y'\n"), {})
    assert given.gives_address is True
    assert "MODE" not in repr(given)


def test_no_message_shows_a_variables_value(tmp_path: Path) -> None:
    write(tmp_path, "[tool.perfdata]\nenvironment = {A = 'secret{x}'}\n")
    with pytest.raises(ConfigError) as caught:
        Settings.load(tmp_path, {})
    assert "secret" not in str(caught.value)


def test_the_home_ignores_itself_in_git(tmp_path: Path) -> None:
    settings = Settings.load(tmp_path, {})
    assert (settings.make_home() / ".gitignore").read_text() == "*\n"


def test_a_home_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = Settings.load(tmp_path, {"PERFDATA_HOME": "file/home"})
    with pytest.raises(ConfigError, match="set PERFDATA_HOME"):
        settings.make_home()


def test_a_command_is_one_that_the_project_has(tmp_path: Path) -> None:
    settings = Settings.load(tmp_path, {})
    assert settings.command("db.stop") == "perfdata db.stop"
    (tmp_path / "tasks.py").write_text("")
    assert settings.command("db.stop") == "invoke db.stop"


def test_no_message_names_a_command_of_its_own() -> None:
    """Whether invoke has the tasks is the project's choice: Settings.command knows.

    What perfdata init writes is for a project that has no choice made yet.
    """
    package = Path(perfdata.__file__).parent
    named = re.compile(r"\b(?:invoke|perfdata) (?:--\w+ )?(?:db|dataset|perf|snapshot)\.[a-z]")
    found = {
        path.name: lines
        for path in package.rglob("*.py")
        if path.parent.name != "scaffold"
        and (lines := named.findall(re.sub(r"``.*?``", "", path.read_text(encoding="utf-8"))))
    }
    assert found == {}
