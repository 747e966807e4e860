"""Generate: datasets from tables whose columns are described, not computed row by row.

    from perfdata import generate as g

    def shop(dataset):
        customers = g.table(dataset, "customers", 1000, id=g.serial(), name=g.faker("last_name"))
        return [customers]

Each value comes from the dataset's seed and ``as_of``, its table, its column and its block of 4,096
rows: any block can be generated alone, and gives the same bytes on every machine.
"""

from perfdata.generate.children import Per, is_last, parent, per, position, size
from perfdata.generate.choices import Choice, boolean, choice, nullable, where
from perfdata.generate.computed import listed
from perfdata.generate.definition import table
from perfdata.generate.numbers import decimal, integer, serial, uuid
from perfdata.generate.pools import faker
from perfdata.generate.references import earlier, ref
from perfdata.generate.tables import GeneratedColumn, GeneratedTable
from perfdata.generate.texts import json, text
from perfdata.generate.times import date, timestamp

__all__ = [
    "Choice",
    "GeneratedColumn",
    "GeneratedTable",
    "Per",
    "boolean",
    "choice",
    "date",
    "decimal",
    "earlier",
    "faker",
    "integer",
    "is_last",
    "json",
    "listed",
    "nullable",
    "parent",
    "per",
    "position",
    "ref",
    "serial",
    "size",
    "table",
    "text",
    "timestamp",
    "uuid",
    "where",
]
