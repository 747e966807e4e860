"""Faker's lists: found by method, read once, part of the fingerprint."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from faker import Faker
from faker.providers.person.en_US import Provider as English
from faker.providers.person.ja_JP import Provider as Japanese

from perfdata import ConfigError, Dataset, faker_lists
from perfdata import generate as g
from tests.unit.generate.kinds import AS_OF, dataset_of

if TYPE_CHECKING:
    from pathlib import Path

DATASET = dataset_of()
PROJECT = """
from perfdata import generate as g


def rows(dataset):
    return [g.table(dataset, "t", 9, a=g.faker("city_suffix"), b=g.faker("ja_JP.town"))]
"""
LINE_2 = ["s.py, line 2"]


def values(column: g.GeneratedColumn, rows: int = 20_000) -> Counter[object]:
    return Counter(row["a"] for row in g.table(DATASET, "t", rows, a=column).records())


def test_values_and_weights_are_fakers() -> None:
    found = values(g.faker("last_name"))
    assert found.keys() <= set(English.last_names)
    assert (
        found.most_common(1)[0][0] == max(English.last_names.items(), key=lambda item: item[1])[0]
    )
    assert values(g.faker("ja_JP.prefecture")).keys() == set(
        faker_lists.faker_list("ja_JP.prefectures")
    )


def test_pairs_have_parts_that_go_together() -> None:
    name = g.faker("ja_JP.first_name_female_pair")
    table = g.table(DATASET, "t", 2000, kanji=name[0], kana=name[1])
    pairs = {(row["kanji"], row["kana"]) for row in table.records()}
    assert pairs == {pair[:2] for pair in Japanese.first_name_female_pairs}


def test_no_list_suggests_a_near_one() -> None:
    for column in (g.faker("ja_JP.lastname"), g.faker("ja_JP.lastname")[0]):
        with pytest.raises(ConfigError, match="table t: column a: Faker has no list 'la") as caught:
            g.table(DATASET, "t", 1, a=column)
        assert "last_names" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("locale", "near"), [("jp_JP", "ja_JP"), ("en_us", "en_US"), ("xx_XX", "en_US")]
)
def test_an_unknown_locale_suggests_a_near_one(locale: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"Faker has no locale '{locale}'") as caught:
        g.table(DATASET, "t", 1, a=g.faker(f"{locale}.last_name"))
    assert near in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("locale", "used"),
    [
        *(("ar_AE", "en_US"), ("am_ET", "en_US"), ("dk_DK", "en_US"), ("bs_BA", "en_US")),
        *(("el_CY", "en_US"), ("de", "de_DE"), ("en", "en_US")),
    ],
)
def test_a_locale_without_a_list_has_the_one_that_faker_uses(locale: str, used: str) -> None:
    found = faker_lists.faker_list(f"{locale}.last_name")
    assert found == faker_lists.faker_list(f"{used}.last_name")
    drawing = Faker(locale)
    drawing.seed_instance(1)
    assert {drawing.last_name() for _ in range(50)} <= found.keys()


def test_faker_is_not_imported_without_a_list() -> None:
    code = (
        "import sys; from tests.unit.generate.kinds import dataset_of, tables_of; "
        "tables_of(dataset_of(5))['people'].blocks.block(0); print('faker' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_fingerprint_covers_the_lists_that_the_source_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pool_project.py").write_text(PROJECT)
    monkeypatch.syspath_prepend(tmp_path)
    import pool_project  # type: ignore[import-not-found]

    dataset = Dataset(name="d", generate=pool_project.rows, as_of=AS_OF)
    parts = dataset.fingerprint_parts()
    assert parts["faker"] == faker_lists.faker_digest(["city_suffix", "ja_JP.town"])
    original = faker_lists.faker_list

    def changed(name: str) -> dict[object, int]:
        return original(name) | ({"new": 1} if name == "ja_JP.town" else {})

    monkeypatch.setattr(faker_lists, "faker_list", changed)
    assert dataset.fingerprint_parts()["faker"] != parts["faker"]


@pytest.mark.parametrize(
    ("source", "names", "computed"),
    [
        ("from perfdata import generate as g\ng.faker('word')", {"word"}, []),
        ("from perfdata.generate import faker as f\nf('a')\nfaker('b')", {"a"}, []),
        ("import perfdata.generate\nperfdata.generate.faker('a')", {"a"}, []),
        ("import perfdata.generate as g\ndef f(x):\n    g.faker(x)", set(), ["s.py, line 3"]),
        ("from perfdata.generate import *\nfaker('a'); faker(f'{b}')", {"a"}, ["s.py, line 2"]),
        ("import perfdata\nfrom faker import Faker\nfaker = Faker\nfaker('ja_JP')", set(), []),
        ("this is not Python: perfdata faker", set(), []),
        ("from perfdata import generate as g\ng.faker(name='a'); g.faker(*b)", {"a"}, LINE_2),
        ("from perfdata.generate.pools import faker as f\nf('a'); f(b)", {"a"}, LINE_2),
        ("from perfdata.generate import pools\npools.faker('a')", {"a"}, []),
        ("import perfdata.generate.pools as p\np.faker('a')", {"a"}, []),
        ("import perfdata.generate.pools\nperfdata.generate.faker('a')", {"a"}, []),
        ("from perfdata import generate as g\ng.pools.faker('a')", {"a"}, []),
        ("from perfdata import generate as g\nf = g.faker; f('a')", set(), LINE_2),
        ("from perfdata.generate import faker\nmap(faker, names)", set(), LINE_2),
        ("from perfdata import generate as g\ng.faker.__doc__, g.fake", set(), LINE_2),
    ],
)
def test_calls_are_found_by_what_is_imported(
    tmp_path: Path, source: str, names: set[str], computed: list[str]
) -> None:
    (tmp_path / "s.py").write_text(source)
    assert faker_lists.named_lists([tmp_path / "s.py"]) == (names, computed)


def test_a_computed_name_is_refused_unless_its_list_is_in_pools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "computed_pools.py").write_text(PROJECT.replace('"ja_JP.town"', 'f"{1}"'))
    monkeypatch.syspath_prepend(tmp_path)
    import computed_pools  # type: ignore[import-not-found]

    dataset = Dataset(name="d", generate=computed_pools.rows, as_of=AS_OF)
    with pytest.raises(ConfigError, match=r"dataset d calls faker\(\) with .*_pools.py, line 6"):
        dataset.fingerprint()
    assert replace(dataset, pools=lambda: "digest").fingerprint_parts()["pools"] == "digest"
