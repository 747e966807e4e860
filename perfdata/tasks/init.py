"""The task init, which sets up perfdata in an application's repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.tasks.output import print_json, print_notes, print_table, show
from perfdata.tasks.task import is_dry, task

if TYPE_CHECKING:
    from invoke.context import Context


@task(options={"json": "print JSON"})
def init(context: Context, *, json: bool = False) -> None:
    """Write the settings, a first project, a perf test and a workflow; overwrite nothing."""
    from pathlib import Path

    from perfdata.scaffold.plan import plan_init

    plan, dry = plan_init(Path.cwd()), is_dry(context)
    if not dry:
        plan.write()
    verb = "would write" if dry else "wrote"
    if json:
        files = [
            {
                "path": file.path,
                "content": file.content,
                "new": bool(file.text),
                **({"text": file.text} if dry else {}),
            }
            for file in plan.files
        ]
        facts = {"root": plan.root, "dry": dry, "found": plan.found, "files": files}
        print_json({**facts, "notes": plan.notes, "next": plan.commands})
        return
    show(f"{plan.root}: found {'; '.join(plan.found) or 'nothing to go by'}")
    print_table(
        ("", "file", "content"),
        [(verb if file.text else "kept", file.path, file.content) for file in plan.files],
    )
    print_notes(plan.notes)
    if dry:
        for file in plan.files:
            if file.text:
                show(f"\n--- {file.path}\n{file.text}".rstrip())
    print("\nnext:")
    for command in plan.commands:
        show(f"  {command}")
