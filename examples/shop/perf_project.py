"""The shop's dataset for perf tests."""

import random
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path

from perfdata import Dataset, Project, TableRows

STATUSES = ("new", "paid", "sent", "sent", "sent", "returned")


def generate(dataset: Dataset) -> Iterator[TableRows]:
    """Yield customers with up to 18 orders each; a few products are in most orders."""
    customers, products = dataset.parameters["customers"], dataset.parameters["products"]
    yield TableRows(
        "customers",
        ("id", "name", "email"),
        (f"{n}\tCustomer {n}\tcustomer{n}@example.org\n".encode() for n in range(1, customers + 1)),
    )
    price = random.Random(f"{dataset.seed} prices")
    yield TableRows(
        "products",
        ("id", "name", "price"),
        (f"{n}\tProduct {n}\t{price.randrange(100, 9999) / 100}\n".encode()
         for n in range(1, products + 1)),
    )  # fmt: skip
    choice = random.Random(f"{dataset.seed} orders")
    today = datetime.combine(dataset.as_of, time(12))
    orders, lines = [], []
    for customer in range(1, customers + 1):
        for _ in range(choice.randrange(19)):
            order = len(orders) + 1
            ordered_at = today - timedelta(minutes=choice.randrange(2 * 365 * 24 * 60))
            orders.append(f"{order}\t{customer}\t{choice.choice(STATUSES)}\t{ordered_at}+00\n")
            for position in range(1, choice.randrange(2, 6)):
                product = min(choice.randrange(products), choice.randrange(products)) + 1
                lines.append(f"{order}\t{position}\t{product}\t{choice.randrange(1, 4)}\n")
    yield TableRows(
        "orders",
        ("id", "customer_id", "status", "ordered_at"),
        (line.encode() for line in orders),
    )
    yield TableRows(
        "order_lines",
        ("order_id", "position", "product_id", "quantity"),
        (line.encode() for line in lines),
    )


project = Project(
    name="shop",
    migrations=Path("alembic.ini"),
    datasets=tuple(
        Dataset(
            name=f"{customers}_customers",
            generate=generate,
            parameters={"customers": customers, "products": customers // 10},
            as_of=date(2026, 1, 1),
        )
        for customers in (100, 1000)
    ),
)
