"""The examples of README and docs/datasets.md."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from perfdata import generate as g
from tests.unit.generate.digests import ROOT, SHOP
from tests.unit.generate.kinds import dataset_of


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)


def test_the_shop_of_the_readme_is_the_example_in_30_lines() -> None:
    (shop,) = [block for block in blocks("README.md") if "def shop" in block]
    assert len(shop.splitlines()) <= 30
    assert shop.partition("\n\n")[2] in (SHOP / "perf_project.py").read_text("utf-8")
    names: dict[str, Any] = {}
    exec(shop, names)  # noqa: S102, what the page says
    dataset = dataset_of()
    dataset.parameters["customers"] = 1000  # type: ignore[index]
    customers, products, orders, lines = names["shop"](dataset)
    assert sum(table.count for table in (customers, products, orders, lines)) > 30_000
    sold = Counter(row["product_id"] for row in lines.records())
    assert sold.most_common(1)[0][1] > 5 * lines.count / products.count
    assert len({row["ordered_at"].year for row in orders.records()}) == 2


def test_the_examples_of_the_datasets_page_run() -> None:
    names: dict[str, Any] = {}
    project, parts = blocks("docs/datasets.md")[:2]
    exec(project, names)  # noqa: S102, what the page says
    (dataset,) = names["project"].datasets
    names["products"], orders = dataset.generate(dataset)
    assert names["products"].count == 1000
    assert next(orders.records()) == {
        "id": 1, "customer_id": 1, "status": "new", "is_test_data": True,
    }  # fmt: skip
    names["products"].blocks.columns["price"] = names["products"].blocks.columns["id"]
    exec(parts, names | {"dataset": dataset})  # noqa: S102


def test_every_column_is_in_the_table_of_the_datasets_page() -> None:
    page = (ROOT / "docs" / "datasets.md").read_text("utf-8")
    columns = page.partition("\n## Columns\n")[2].partition("\n## ")[0]
    functions = [name for name in g.__all__ if name[0].islower() and name != "table"]
    assert [name for name in functions if f"`{name}(" not in columns] == []
