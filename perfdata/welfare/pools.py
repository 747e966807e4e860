"""The values that rows are drawn from: names with their readings, places.

Names, readings and places are the lists of Faker's ja_JP providers, read once and never generated
from. Readings are katakana, as Faker has them. Each pool has 256 slots, one for each value of a
random byte, so a draw is one index; every value is escaped for COPY already.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from perfdata.welfare.copytext import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SLOTS = 256
T = TypeVar("T", str, "Name")


class Name(NamedTuple):
    """One name: as it is written, as it is read (katakana), in Latin letters for e-mail."""

    written: str
    reading: str
    latin: str


@dataclass(frozen=True)
class Pools:
    """Tuples of 256 values; a family name fills as many slots as its share of the population."""

    family: tuple[Name, ...]
    male: tuple[Name, ...]
    female: tuple[Name, ...]
    either: tuple[Name, ...]
    prefectures: tuple[str, ...]
    cities: tuple[str, ...]
    towns: tuple[str, ...]


@cache
def load_pools() -> Pools:
    """Take the lists from Faker's ja_JP providers, in an order that does not depend on theirs."""
    from faker.providers.address.ja_JP import Provider as Places
    from faker.providers.person.ja_JP import Provider as People

    male, female = People.first_name_male_pairs, People.first_name_female_pairs
    family = People.last_name_pairs
    shares = {name: int(share) for name, share in family.items()}
    return Pools(
        family=_by_share({_name(pair): share for pair, share in shares.items()}),
        male=_evenly(map(_name, male)),
        female=_evenly(map(_name, female)),
        either=_evenly(map(_name, (*male, *female))),
        prefectures=_evenly(map(escape, Places.prefectures)),
        cities=_evenly(map(escape, Places.cities)),
        towns=_evenly(map(escape, Places.towns)),
    )


def pools_digest() -> str:
    """Hash every pool, so that other lists (another Faker) are another dataset."""
    text = json.dumps(astuple(load_pools()), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _name(pair: tuple[str, str, str]) -> Name:
    written, reading, latin = pair
    return Name(escape(written), escape(reading), escape(latin.lower()))


def _evenly(values: Iterable[T]) -> tuple[T, ...]:
    ordered = sorted(set(values))
    return tuple(ordered[slot * len(ordered) // _SLOTS] for slot in range(_SLOTS))


def _by_share(shares: Mapping[Name, int]) -> tuple[Name, ...]:
    """Give each name one slot, and the rest by largest quotient (D'Hondt): exact integers."""
    slots = dict.fromkeys(sorted(shares), 1)
    for _ in range(_SLOTS - len(slots)):
        slots[max(slots, key=lambda name: (shares[name] * 1_000_000 // slots[name], name))] += 1
    return tuple(name for name, count in slots.items() for _ in range(count))
