from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from perfdata.migrations.inputs import Inputs, has_literal_identifiers, hash_file, list_files

if TYPE_CHECKING:
    from pathlib import Path

LITERAL = {
    "as Alembic writes it": """
from typing import Union
revision: str = "b"
down_revision: Union[str, None] = "a"
branch_labels: Union[str, None] = None
depends_on = ("c", "d")
def upgrade():
    print(revision, down_revision)
""",
    "the first": "revision = 'a'\ndown_revision = None\n",
    "a merge": "revision = 'a'\ndown_revision = ('b', 'c')\n",
}
COMPUTED = {
    "read from the environment": "import os\nrevision = 'a'\ndown_revision = os.environ['X']\n",
    "a choice": "revision = 'a'\nif True:\n    down_revision = 'b'\n",
    "one after the other": "revision = 'a'\nrevision = 'b'\n",
    "changed below": "revision = 'a'\ndepends_on = []\nfor depends_on in ['b']: pass\n",
    "imported": "from other import revision\n",
    "imported under the name": "import other as down_revision\n",
    "everything imported": "revision = 'a'\nfrom other import *\n",
    "an f-string": "revision = f'{1}'\n",
    "through globals": "revision = 'a'\nglobals()['down_revision'] = 'b'\n",
    "through the module": "import sys\nrevision = 'a'\nsys.modules[__name__].down_revision = 'b'\n",
    "of a module's __getattr__": "revision = 'a'\ndef __getattr__(name): return 'b'\n",
    "by a class": "revision = 'a'\nclass down_revision: pass\n",
    "in a walrus": "revision = 'a'\nprint(down_revision := 'b')\n",
    "no Python": "revision = ",
}


@pytest.mark.parametrize("text", LITERAL.values(), ids=LITERAL)
def test_identifiers_that_are_written_out_are_literal(tmp_path: Path, text: str) -> None:
    (tmp_path / "revision.py").write_text(text)
    assert has_literal_identifiers(str(tmp_path / "revision.py"))


@pytest.mark.parametrize("text", COMPUTED.values(), ids=COMPUTED)
def test_identifiers_that_code_decides_are_not_literal(tmp_path: Path, text: str) -> None:
    (tmp_path / "revision.py").write_text(text)
    assert not has_literal_identifiers(str(tmp_path / "revision.py"))


def test_every_file_below_a_folder_counts_but_no_bytecode_or_installed_package(
    tmp_path: Path,
) -> None:
    """A link to a folder is followed, once if it leads back."""
    elsewhere = tmp_path / "elsewhere"
    folder = tmp_path / "migrations"
    for name in (
        "env.py", "sql/deep/a.sql", "__pycache__/env.pyc", ".git/HEAD",
        "venv/pyvenv.cfg", "venv/lib/x.py", "node_modules/x.js",
    ):  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    elsewhere.mkdir()
    (elsewhere / "linked.sql").write_text("")
    (folder / "link").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    ini = tmp_path / "alembic.ini"
    ini.write_text("")
    found = list_files([str(folder), str(ini), str(tmp_path / "missing")])
    names = [os.path.relpath(path, tmp_path) for path in found]
    assert names == ["alembic.ini"] + [
        f"migrations/{name}" for name in ("env.py", "link/linked.sql", "sql/deep/a.sql")
    ]


def test_a_file_that_can_not_be_read_has_no_hash(tmp_path: Path) -> None:
    assert hash_file(str(tmp_path)) is None


def test_a_file_that_was_written_removed_or_added_while_it_was_read_is_seen(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.sql"
    path.write_text("SELECT 1")
    os.utime(path, ns=(1, 1))  # but not the time of its last change
    changed_ns = path.stat().st_ctime_ns
    inputs = Inputs(folders=[str(tmp_path)], listed=[str(path)])
    assert inputs.unchanged_since(changed_ns + 1)
    assert not inputs.unchanged_since(changed_ns)
    (tmp_path / "b.sql").touch()
    assert not inputs.unchanged_since(changed_ns + 10**12)
    path.unlink()
    assert not inputs.unchanged_since(changed_ns + 10**12)
