"""The Task class, what it prints, and how it ends: run by invoke itself."""

from __future__ import annotations

import copy
import json
import os
import pty
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from invoke.collection import Collection
from invoke.program import Program
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy.engine import make_url as sqlalchemy_url

from perfdata.errors import OPTIONS, BoundaryError, ConfigError
from perfdata.postgres.url import check_driver, make_url
from perfdata.progress import Event
from perfdata.tasks import dataset, db, perf, snapshot
from perfdata.tasks.output import (
    aligned,
    human_duration,
    human_rows,
    human_size,
    one_line,
    print_json,
    print_notes,
    print_table,
)
from perfdata.tasks.program import StrictProgram
from perfdata.tasks.progress import Lines
from perfdata.tasks.task import Task, is_dry, task
from tests.processes import run_script
from tests.projects import no_project

if TYPE_CHECKING:
    from collections.abc import Callable

    from invoke.context import Context

ROOT = Path(__file__).parents[3]
NAMESPACES = Collection(dataset, db, perf, snapshot)
ALL_TASKS = [
    f"{namespace}.{name}"
    for namespace, collection in NAMESPACES.collections.items()
    for name in collection.tasks
]


def run(arguments: list[str], *tasks: Task) -> int | str | None:
    """Run tasks as the command line does, and return the exit code (0 where there is none)."""
    namespace = Collection("shop")
    for one in tasks:
        namespace.add_task(one)
    try:
        Program(namespace=namespace, binary="invoke").run(["invoke", *arguments])
    except SystemExit as ended:
        return ended.code
    return 0


def failing(error: BaseException) -> Task:
    @task()
    def work(_context: Context) -> None:
        """Fail."""
        raise error

    return work


def greeting(seen: list[str]) -> Task:
    @task(options={"name": "whom to greet"}, required={"name": "you"})
    def greet(context: Context, *, name: str = "") -> None:
        """Greet somebody."""
        seen.append(f"would greet {name}" if is_dry(context) else f"greeted {name}")

    return greet


def test_an_error_is_one_line_on_stderr_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["work"], failing(BoundaryError("refused.\n  a → b\nMend it."))) == 2
    assert capsys.readouterr() == ("", "error: refused. a → b Mend it.\n")


def test_an_interrupt_exits_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["work"], failing(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(["work"], failing(ZeroDivisionError()))


@pytest.mark.parametrize("arguments", [["greet"], ["greet", "--name", ""]])
def test_a_missing_option_is_named_with_an_example(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    assert run(arguments, greeting(seen)) == 2
    assert capsys.readouterr().err == (
        "error: test_tasks.greet needs --name, for example: invoke test_tasks.greet --name you\n"
    )
    assert seen == []


def test_a_missing_name_without_a_project_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERFDATA_DATABASE_URL", "postgresql://localhost/shop")
    build = copy.deepcopy(dataset.build)  # reading its arguments uses up its help
    assert run(["build"], build) == 2
    assert capsys.readouterr().err == (
        f"error: dataset.build needs --name, and {no_project(tmp_path)}\n"
    )


def test_help_after_the_task_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []
    assert run(["greet", "--help"], greeting(seen)) == 0
    assert "whom to greet" in capsys.readouterr().out
    assert seen == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["greet", "--nmae", "A"], "No idea what '--nmae' is! Did you mean --name?"),
        (["geet"], "No idea what 'geet' is! Did you mean greet?"),
        (["greet", "Ann"], "No idea what 'Ann' is! Did you mean --name Ann?"),
        (["letters"], "No idea what 'letters' is! perfdata --list letters lists its tasks"),
        (["--quiet-please"], "No idea what '--quiet-please' is!"),
        (["greet", "--name"], "Flag <Argument: name> needed value and was not given one!"),
    ],
)
def test_what_is_misspelt_is_an_error_of_the_console_script_and_no_answer(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    namespace = Collection("shop")
    namespace.add_task(greeting(seen))
    namespace.add_collection(Collection("letters", greeting(seen)))
    with pytest.raises(SystemExit) as ended:
        StrictProgram(namespace=namespace, name="perfdata").run(["perfdata", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", f"error: {said}\n")
    assert seen == []


@pytest.mark.parametrize("arguments", [["--dry", "greet", "--name=A"], ["greet", "--name=A", "-R"]])
def test_dry_is_seen_before_and_after_the_task(arguments: list[str]) -> None:
    seen: list[str] = []
    assert run(arguments, greeting(seen)) == 0
    assert seen == ["would greet A"]


def test_a_task_can_be_called_from_python_and_an_error_is_invokes_exit() -> None:
    seen: list[str] = []
    from invoke.context import Context
    from invoke.exceptions import Exit

    greeting(seen)(Context(), name="B")
    assert seen == ["greeted B"]
    with pytest.raises(Exit) as raised:
        greeting(seen)(Context())
    assert raised.value.code == 2


def test_the_tasks_are_those_of_the_design() -> None:
    assert sorted(ALL_TASKS) == [
        "dataset.build", "dataset.describe", "dataset.draft", "dataset.list",
        "db.adopt", "db.gc", "db.migrate", "db.reset", "db.stamp", "db.start", "db.status",
        "db.stop", "db.url",
        "perf.accept", "perf.compare", "perf.report", "perf.run",
        "snapshot.create", "snapshot.delete", "snapshot.diff", "snapshot.exists", "snapshot.import",
        "snapshot.info", "snapshot.key", "snapshot.list", "snapshot.restore", "snapshot.upgrade",
        "snapshot.verify",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ALL_TASKS)
def test_each_task_explains_itself(name: str) -> None:
    found: Any = NAMESPACES[name]
    assert isinstance(found, Task)
    assert found.full_name == name
    assert found.__doc__
    for argument in found.get_arguments():
        assert argument.help, argument
        assert not argument.positional, argument
        assert not argument.nicknames, argument
        assert argument.kind in {str, bool}, argument


def test_listing_the_tasks_loads_nothing_heavy() -> None:
    heavy = {"sqlalchemy", "psycopg", "alembic", "faker", "rich", "sqlglot", "zstandard", "pytest"}
    code = "import sys, tasks; print(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert heavy & set(shown.stdout.split()) == set()


def test_stock_invoke_and_the_console_script_in_a_project_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.perfdata]\nproject = "shop"\n')
    (tmp_path / "shop.py").write_text(
        "from datetime import date\n"
        "from perfdata.dataset import Dataset\n"
        "from perfdata.project import Project\n"
        "few = Dataset(name='few', generate=iter, as_of=date(2025, 1, 1), parameters={'a': 3})\n"
        "project = Project(name='shop', datasets=(few,))\n"
    )
    (tmp_path / "tasks.py").write_text(
        "from invoke import Collection\n"
        "from perfdata.tasks import dataset, db, perf, snapshot\n"
        "ns = Collection(dataset, db, perf, snapshot)\n"
    )
    shown = partial(run_script, tmp_path)
    for program in ("invoke", "perfdata"):
        listed = shown(program, "dataset.list").stdout
        assert re.search(r"^few +2025-01-01 +no +a=3$", listed, re.MULTILINE)
        [facts] = json.loads(shown(program, "dataset.list", "--json").stdout)
        assert facts["parameters"] == {"a": 3}
        wrong = shown(program, "--dry", "dataset.build", "--name", "fewer")
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert "did you mean few?" in wrong.stderr
        assert "Traceback" not in wrong.stderr
        missing = shown(program, "snapshot.restore")
        assert missing.stderr == (
            "error: snapshot.restore needs --name, "
            f"for example: {program} snapshot.restore --name few\n"
        )
        none = shown(program, "snapshot.info")
        assert (none.returncode, none.stderr) == (
            2, "error: snapshot.info needs --name, and there is none yet\n",
        )  # fmt: skip
    assert re.fullmatch(r"perfdata \d+\.\d+.*\n", shown("perfdata", "--version").stdout)


def test_the_help_of_the_console_script_has_no_words_of_invoke(tmp_path: Path) -> None:
    told = run_script(tmp_path, "perfdata", "--help").stdout
    options = re.findall(r"--([a-z-]+)", told.partition("Tasks:")[0].partition("Options:")[2])
    assert options == ["print-completion-script", "project", "help", "list", "dry", "version"]
    assert "change nothing" in told
    assert "snapshot.restore " in told
    told = run_script(tmp_path, "perfdata", "db.gc", "--help").stdout
    assert told.startswith("Usage: perfdata [--dry] db.gc [--OPTION VALUE] ...\n\nRemove replaced")
    assert "--lost-rows" in told


@pytest.mark.parametrize("before", [True, False])
def test_an_option_names_the_bundled_project(tmp_path: Path, before: bool) -> None:
    option = ["--project", "perfdata.welfare"]
    order = [*option, "dataset.list"] if before else ["dataset.list", *option]
    assert "100_offices" in run_script(tmp_path, "perfdata", *order).stdout
    none = run_script(tmp_path, "perfdata", "dataset.list")
    assert (none.returncode, none.stdout) == (2, "")
    assert none.stderr == f"error: {no_project(tmp_path)}\n"


ENDLESS = """
from invoke.collection import Collection
from invoke.program import Program
from perfdata.tasks.task import task

@task()
def work(_context):
    print("x" * size)

Program(namespace=Collection("shop", work)).run(["shop", "work"])
"""


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_reader_that_has_enough_is_no_error(size: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code = ENDLESS.replace("size", str(size))
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("arguments", [["--help"], ["--list"], ["--help", "snapshot.restore"]])
def test_the_console_script_ends_quietly_when_its_reader_is_gone(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [Path(sys.executable).parent / "perfdata", *arguments],
        stdout=writer, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def on_a_terminal(code: str, columns: int = 80) -> str:
    """Run Python code with a terminal for stdout and stderr, and return what it shows."""
    primary, secondary = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=secondary, stderr=secondary,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)},
    ):  # fmt: skip
        os.close(secondary)
        shown = b""
        while chunk := _read(primary):
            shown += chunk
    os.close(primary)
    return shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # Linux says so when the last writer has closed its end
        return b""


TABLE = """
from perfdata.tasks.output import print_table
print_table(("name", "rows"), [("[red]a[/red]", "1"), ("b\\x1b[31m", "23")], right=("rows",))
"""


def test_a_table_is_richs_on_a_terminal_and_takes_text_as_it_is() -> None:
    shown = on_a_terminal(TABLE)
    assert "─" in shown
    assert "[red]a[/red]" in shown
    assert "\x1b[31m" not in shown


WIDE = """
from perfdata.tasks.output import print_table
print_table(list("abcdefgh"), [[str(number) * 12 for number in range(8)]])
"""


@pytest.mark.parametrize(("columns", "folded"), [(80, True), (64, True), (63, False), (20, False)])
def test_a_narrow_terminal_shows_every_cell_of_a_wide_table(columns: int, folded: bool) -> None:
    shown = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal(WIDE, columns))
    assert all(shown.count(heading) == 1 for heading in "abcdefgh")
    assert all(shown.count(str(number)) == 12 for number in range(8))
    assert ("─" in shown) == folded


def test_a_table_in_a_pipe_is_aligned_and_has_no_colour_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(("name", "rows"), [("a\x1b[31m\n", "1"), ("佐藤", "23")], right=("rows",))
    assert capsys.readouterr().out == "name     rows\na [31m      1\n佐藤       23\n"


def test_a_wide_table_in_a_pipe_keeps_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    cells = ["x" * 30 + str(number) for number in range(8)]
    print_table([f"h{number}" for number in range(8)], [cells])
    assert capsys.readouterr().out.splitlines()[1].split() == cells


def test_messages_of_the_library_name_the_options_of_tasks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["work"], failing(ConfigError("pass fresh=True, or clean_existing=False"))) == 2
    print_notes(["restored without fresh=True", "nofresh=True stays"])
    captured = capsys.readouterr()
    assert captured.err == "error: pass --fresh, or --keep-existing\n"
    assert captured.out == "  restored without --fresh\n  nofresh=True stays\n"


def test_each_option_that_messages_name_is_there() -> None:
    options = {
        name
        for task_name in ALL_TASKS
        for argument in NAMESPACES[task_name].get_arguments()
        for name in argument.names
    }
    assert {option.removeprefix("--") for option in OPTIONS.values()} <= options


def test_json_keeps_japanese_and_writes_paths_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "佐藤", "path": Path("a/b")})
    out = capsys.readouterr().out
    assert "佐藤" in out
    assert json.loads(out) == {"name": "佐藤", "path": "a/b"}


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), min_size=1))
def test_alignment_loses_nothing_that_can_be_printed(rows: list[list[str]]) -> None:
    cells = [[one_line(text) for text in row] for row in rows]
    lines = aligned(cells)
    assert len(lines) == len(rows)
    for line, (first, second) in zip(lines, cells, strict=True):
        assert line.startswith(first.rstrip())
        assert line.endswith(second.rstrip())


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (human_size, 532, "532 B"),
        (human_size, 1_500, "1.5 kB"),
        (human_size, 899_000, "899 kB"),
        (human_size, 930_000, "0.9 MB"),
        (human_size, 45_400_000, "45 MB"),
        (human_size, 2_000_000_000_000, "2,000 GB"),
        (human_duration, 0.0001, "0 s"),
        (human_duration, 0.0237, "0.024 s"),
        (human_duration, 0.19, "0.19 s"),
        (human_duration, 0.4, "0.4 s"),
        (human_duration, 3.96, "4.0 s"),
        (human_duration, 125, "2 min 5 s"),
        (human_rows, 1, "1 row"),
        (human_rows, 32_101, "32,101 rows"),
    ],
)
def test_sizes_durations_and_counts(write: Callable[[float], str], value: float, text: str) -> None:
    assert write(value) == text


def test_only_the_total_of_slow_work_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    quick, slow = Lines(), Lines(shown_after_s=0)
    for report in (quick, slow):
        report(Event("loading"))
        for done, total in ((0, None), (474, None), (32_101, 32_101)):
            report(Event("staffs", done, total))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "loading\nloading\nstaffs: 32,101 rows\n"


def test_long_work_says_now_and_then_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    report = Lines(shown_after_s=0, line_every_s=0)
    for event in (Event("staffs", 474), Event("offices", 10, 100), Event("offices", 100, 100)):
        report(event)
    assert capsys.readouterr().err == (
        "staffs: 474 rows so far\noffices: 10 of 100 rows\noffices: 100 rows\n"
    )


PROGRESS = """
import sys, time
from perfdata.progress import Event
from perfdata.tasks.progress import reporting
with reporting() as report:
    report(Event("loading"))
    report(Event("staffs", 1, 32101))
    assert "rich" not in sys.modules
    time.sleep(1.1)
    report(Event("staffs", 20000, 32101))
    report(Event("[b]more[/b]"))
    time.sleep(0.3)
"""


def test_a_terminal_gets_a_bar_once_work_takes_over_a_second() -> None:
    shown = on_a_terminal(PROGRESS)
    assert "loading" in shown
    assert "20,000 rows" in shown
    assert "[b]more[/b]" in shown
    assert "Traceback" not in shown


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)


@given(user=TEXTS, password=TEXTS, database=TEXTS)
@pytest.mark.parametrize(
    "place",
    [
        {"host": "db.example", "port": "5433", "sslmode": "require"},
        {"host": "::1", "port": "5432"},
        {"host": "/tmp/a b/ソケット", "port": "5432"},
        {"host": "a,b", "port": "1,2"},
        {},
    ],
)
def test_a_url_means_what_the_conninfo_meant(
    place: dict[str, Any], user: str, password: str, database: str
) -> None:
    wanted = {**place, "user": user, "password": password, "dbname": database}
    assert conninfo_to_dict(make_url(make_conninfo("", **wanted))) == wanted


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg", "psycopg2"])
def test_sqlalchemy_reads_the_url_of_a_driver(driver: str) -> None:
    conninfo = "host=db.example port=5433 user=a password='p@ss:/w%rd' dbname=d sslmode=require"
    url = sqlalchemy_url(make_url(conninfo, driver))
    assert url.drivername == f"postgresql+{driver}"
    assert (url.host, url.port, url.username, url.database) == ("db.example", 5433, "a", "d")
    assert url.password == "p@ss:/w%rd"
    assert dict(url.query) == {"ssl" if driver == "asyncpg" else "sslmode": "require"}


def test_several_hosts_in_sqlalchemys_way() -> None:
    url = sqlalchemy_url(make_url("host=a,b port=1,2 dbname=d", "psycopg"))
    assert url.query["host"] == ("a:1", "b:2")


def test_what_a_driver_cannot_take_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="sets options, which an asyncpg URL"):
        make_url("host=a options='-c jit=off'", "asyncpg")
    with pytest.raises(ConfigError, match="did you mean asyncpg"):
        check_driver("asyncgp")


@pytest.mark.parametrize("port", ["0", "65536", "-1", "abc", "5 433", "²"])
def test_a_wrong_port_is_one_line(
    port: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PERFDATA_HOME", str(tmp_path))
    assert run(["start", f"--port={port}"], db.start) == 2
    assert f"not {port!r}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
