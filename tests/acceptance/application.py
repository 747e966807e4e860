"""Applications that are not ours: a copy in a folder, run with a wheel of perfdata."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from tests.processes import environment

ROOT = Path(__file__).parents[2]
# What the applications need besides perfdata, which brings Alembic, SQLAlchemy and psycopg.
_LIBRARIES = (
    "asyncpg",
    "django",
    "fastapi",
    "httpx",
    "pydantic-settings",
    "pytest-asyncio",
    "sqlmodel",
)


def make_environment(shared: Path) -> Path:
    """Make an environment with a wheel of perfdata, once for all workers; return its programs."""
    folder, source = shared / "environment", shared / "source"
    with FileLock(shared / "environment.lock"):
        if not (folder / "complete").exists():
            # A copy: a build in the checkout would pack what an earlier build left in build/.
            shutil.copytree(ROOT / "perfdata", source / "perfdata", dirs_exist_ok=True)
            for name in ("LICENSE", "README.md", "pyproject.toml"):
                shutil.copy(ROOT / name, source)
            venv.create(folder, with_pip=True)
            pip = (folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
            subprocess.run([*pip, "install", "--quiet", source, *_LIBRARIES], check=True)
            (folder / "complete").touch()
    return folder / "bin"


@dataclass
class Application:
    """An application's folder, and how its user runs commands there.

    ``variables`` are set for each command; nothing of this project is on the import path.
    """

    folder: Path
    programs: Path
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, program: str, *arguments: str, code: int = 0, **variables: str) -> str:
        """Run a program; fail unless it ends with ``code``; return all that it prints."""
        given = {
            **environment(**self.variables, **variables),
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "200",
        }
        given.pop("PYTHONPATH", None)
        done = subprocess.run(
            [self.programs / program, *arguments],
            cwd=self.folder,
            env=given,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        command = " ".join((program, *arguments))
        assert done.returncode == code, f"{command} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def perfdata(self, *arguments: str, code: int = 0, **variables: str) -> str:
        """Run a task."""
        return self.run("perfdata", *arguments, code=code, **variables)

    def perf(self, *arguments: str, code: int = 0, **variables: str) -> str:
        """Run the perf tests."""
        arguments = ("-p", "no:cacheprovider", *(arguments or ("tests/perf",)))
        return self.run("pytest", *arguments, code=code, **variables)

    def write(self, name: str, text: str) -> None:
        """Write a file of the application."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text that is in a file once."""
        text = (self.folder / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} is in {name} {text.count(old)} times"
        self.write(name, text.replace(old, new))

    def stop(self) -> None:
        """Stop the embedded server, and delete all that perfdata made."""
        self.perfdata("db.stop")
        shutil.rmtree(self.folder / ".perfdata", ignore_errors=True)
