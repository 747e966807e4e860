"""Tell how much of a second ``nox -s perf`` is Nox's and how much is work.

Nox's part is what passes before its command starts and after it has ended; the command itself is
work. The first run, which may install, is not counted.

    python benchmarks/nox_overhead.py [SESSION] [RUNS] [-- ARGUMENTS]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Run:
    """One run of a session: what Nox took and what the work took, in seconds."""

    nox_s: float
    work_s: float


def run_session(session: str, posargs: list[str]) -> Run:
    """Run a session, and split its time at the lines that Nox logs around its commands."""
    command = [sys.executable, "-m", "nox", "-s", session, "--", *posargs]
    began_s = time.perf_counter()
    work_began_s = work_ended_s = began_s
    last_lines: list[str] = []
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            last_lines = [*last_lines[-20:], line]
            if line.startswith("nox > Session"):
                work_ended_s = time.perf_counter()
            elif line.startswith("nox > "):  # the last such line names the command
                work_began_s = time.perf_counter()
    total_s = time.perf_counter() - began_s
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{''.join(last_lines)}")
    work_s = work_ended_s - work_began_s
    return Run(nox_s=total_s - work_s, work_s=work_s)


def main() -> None:
    """Run the session once to prepare, then measure and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("session", nargs="?", default="perf")
    parser.add_argument("runs", nargs="?", type=int, default=3)
    own, posargs = split(sys.argv[1:])
    options = parser.parse_args(own)
    run_session(options.session, posargs)
    runs = [run_session(options.session, posargs) for _ in range(options.runs)]
    nox_s = statistics.median(run.nox_s for run in runs)
    work_s = statistics.median(run.work_s for run in runs)
    print(f"nox -s {options.session}, {options.runs} runs after the first, medians:")
    print(f"  Nox   {nox_s:6.2f} s")
    print(f"  work  {work_s:6.2f} s")


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split the command line at ``--``."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


if __name__ == "__main__":
    main()
