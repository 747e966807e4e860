"""Pools: lists of values that Faker has, by locale and name of the method."""

from __future__ import annotations

from perfdata.faker_lists import faker_list
from perfdata.generate.choices import Choice


def faker(name: str) -> Choice:
    """Return a column of the values that a method of Faker chooses from, such as ``last_name``.

    ``"ja_JP.last_name"`` is of another locale than ``en_US``. The list is read once, weights
    included, and no method is called. Pairs, such as ``"ja_JP.last_name_pair"`` (kanji, kana and
    Latin letters), have parts: ``[0]``, ``[1]``. Write the name as a literal: the dataset's
    fingerprint covers the lists whose names are found in its source.
    """
    values = faker_list(name)
    weighted = len(set(values.values())) > 1
    return Choice(list(values), list(values.values()) if weighted else None)
