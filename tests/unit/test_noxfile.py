"""When a session installs, shown with Nox itself and a wheel made here: no network is used."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

NOXFILE = Path(__file__).parents[2] / "noxfile.py"
PROBE = """

@nox.session(python=PYTHONS)
def probe(session: nox.Session) -> None:
    install(session, "probe", package=False)
    session.run("python", "-c", "import tiny; print('tiny', tiny.VERSION)")
"""


@pytest.fixture(scope="module")
def noxfile() -> ModuleType:
    spec = importlib.util.spec_from_file_location("noxfile_under_test", NOXFILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a project whose session ``probe`` installs a package ``tiny`` from a local wheel."""
    shutil.copy(NOXFILE, tmp_path / "noxfile.py")
    with (tmp_path / "noxfile.py").open("a") as file:
        file.write(PROBE)
    put_wheel(tmp_path, "1.0")
    return tmp_path


def put_wheel(folder: Path, version: str) -> None:
    """Write a wheel of ``tiny`` by hand, and make it what pyproject.toml asks for."""
    path = folder / f"tiny-{version}-py3-none-any.whl"
    info = f"tiny-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", f"VERSION = {version!r}\n")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    (folder / "pyproject.toml").write_text(
        f'[dependency-groups]\nprobe = ["tiny @ {path.as_uri()}"]\n'
    )


def nox(project: Path, *arguments: str) -> str:
    """Run the probe and return all that Nox showed; nothing may be fetched."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("NOX")}
    done = subprocess.run(
        [sys.executable, "-m", "nox", "-v", "-s", "probe", *arguments],
        cwd=project, env={**environ, "PIP_NO_INDEX": "1", "UV_OFFLINE": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return done.stdout


def test_a_session_installs_only_what_has_changed(project: Path) -> None:
    first = nox(project)
    assert "pip install" in first
    assert "tiny 1.0" in first

    for wheel in project.glob("*.whl"):
        wheel.unlink()
    second = nox(project)
    assert "pip install" not in second
    assert "Creating virtual environment" not in second
    assert "tiny 1.0" in second

    put_wheel(project, "2.0")
    third = nox(project)
    assert "pip install" in third
    assert "tiny 2.0" in third


def test_an_install_that_failed_is_made_again(project: Path) -> None:
    [wheel] = project.glob("*.whl")
    aside = wheel.rename(project / "aside")
    assert "Session probe failed" in nox(project)
    aside.rename(wheel)
    assert "tiny 1.0" in nox(project)


def test_an_environment_of_another_python_is_made_again(project: Path) -> None:
    assert "tiny 1.0" in nox(project)
    stamp = project / ".nox" / "probe" / "perfdata-installed"
    made_for, digest = stamp.read_text().splitlines()
    left_over = stamp.parent / "left_over"
    left_over.touch()
    stamp.write_text(f"3.1.4 {made_for.partition(' ')[2]}\n{digest}\n")
    shown = nox(project)
    assert "made for Python 3.1.4" in shown
    assert "tiny 1.0" in shown
    assert not left_over.exists()


@pytest.mark.parametrize(
    ("arguments", "versions"),
    [
        ([], None),
        (["-s", "tests"], None),
        (["-s", "tests", "-p", "3.12"], ["3.12"]),
        (["-p3.12", "-s", "tests"], ["3.12"]),
        (["--python", "3.12", "3.13", "-s", "tests"], ["3.12", "3.13"]),
        (["--pythons=3.12"], ["3.12"]),
        (["-s", "tests", "--", "-p", "no:cacheprovider"], None),
    ],
)
def test_other_pythons_are_those_that_p_asks_for(
    noxfile: ModuleType,
    arguments: list[str],
    versions: list[str] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NOXPYTHON", raising=False)
    assert noxfile.asked_pythons(arguments) == versions


def test_what_is_installed_depends_on_pyproject_and_arguments(
    noxfile: ModuleType, tmp_path: Path
) -> None:
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text("a = 1")
    digests = [noxfile.install_digest(pyproject, wanted) for wanted in (["a", "b"], ["ab"])]
    pyproject.write_text("a = 2")
    digests.append(noxfile.install_digest(pyproject, ["a", "b"]))
    assert len(set(digests)) == 3


def test_the_noxfile_does_not_import_the_package() -> None:
    code = (
        f"import sys, runpy; runpy.run_path({str(NOXFILE)!r}); "
        "print([name for name in sys.modules if name.partition('.')[0] == 'perfdata'])"
    )
    listed = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert listed.stdout == b"[]\n"
