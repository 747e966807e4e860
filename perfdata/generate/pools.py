"""Pools: lists of values that Faker has, by locale and name of the method."""

from __future__ import annotations

from perfdata.errors import ConfigError
from perfdata.faker_lists import faker_list
from perfdata.generate.choices import Choice

# Weights are rounded to so many parts: few enough to be drawn without a search.
_SHARES = 60_000


def faker(name: str) -> Choice:
    """Return a column of the values that a method of Faker chooses from, such as ``last_name``.

    ``"ja_JP.last_name"`` is of another locale than ``en_US``. The list is read once, weights
    included, and no method is called. Pairs, such as ``"ja_JP.last_name_pair"`` (kanji, kana and
    Latin letters), have parts: ``[0]``, ``[1]``. Write the name as a literal: the dataset's
    fingerprint covers the lists whose names are found in its source.
    """
    try:
        values = faker_list(name)
    except ConfigError as error:
        return MissingChoice(error)
    weights, total = list(values.values()), sum(values.values())
    if len(set(weights)) == 1:
        return Choice(list(values))
    return Choice(list(values), [max(1, weight * _SHARES // total) for weight in weights])


class MissingChoice(Choice):
    """A list that Faker does not have: the error names the column, once it is known."""

    def __init__(self, error: ConfigError) -> None:
        super().__init__(())
        self._error = error

    def prepare(self) -> None:
        """Raise the error."""
        raise self.site.error(self._error.reason, self._error.remedy or "") from self._error
