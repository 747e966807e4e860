"""Stands in for ``gh``: issues and labels in a JSON file, by what the token may do."""

import argparse
import json
import os
import sys
from pathlib import Path

state_file = Path(os.environ["REHEARSAL_ISSUES"])
state = json.loads(state_file.read_text()) if state_file.exists() else {"labels": [], "issues": []}
if "issues=write" not in os.environ["GH_TOKEN"] or "/" not in os.environ["GH_REPO"]:
    sys.exit("gh: Resource not accessible by integration (HTTP 403)")

parser = argparse.ArgumentParser(prog="gh", allow_abbrev=False)
things = parser.add_subparsers(dest="thing", required=True)
issue = things.add_parser("issue").add_subparsers(dest="verb", required=True)
listed = issue.add_parser("list")
listed.add_argument("--label", required=True)
listed.add_argument("--state", required=True, choices=["open"])
listed.add_argument("--limit", type=int, required=True)
listed.add_argument("--json", required=True, choices=["number"])
listed.add_argument("--jq", required=True, choices=[".[].number"])
for verb, text in (("close", "--comment"), ("comment", "--body")):
    one = issue.add_parser(verb)
    one.add_argument("number", type=int)
    one.add_argument(text, dest="text", required=True)
created = issue.add_parser("create")
for option in ("--label", "--title", "--body"):
    created.add_argument(option, required=True)
label = things.add_parser("label").add_subparsers(dest="verb", required=True).add_parser("create")
label.add_argument("name")
label.add_argument("--force", action="store_true")
label.add_argument("--description")
asked = parser.parse_args()

issues = state["issues"]
if asked.thing == "label":
    if asked.name in state["labels"] and not asked.force:
        sys.exit(f"label with name {asked.name} already exists; use `--force` to update it")
    state["labels"] = sorted({*state["labels"], asked.name})
elif asked.verb == "list":
    found = [one for one in issues if one["open"] and one["label"] == asked.label]
    for one in found[: asked.limit]:
        print(one["number"])
elif asked.verb == "create":
    if asked.label not in state["labels"]:
        sys.exit(f"could not add label: '{asked.label}' not found")
    issues.append(
        {
            "number": len(issues) + 1,
            "label": asked.label,
            "title": asked.title,
            "open": True,
            "texts": [asked.body],
        }
    )
else:
    one = issues[asked.number - 1]
    one["texts"].append(asked.text)
    one["open"] = asked.verb != "close"
state_file.write_text(json.dumps(state))
