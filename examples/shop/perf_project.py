"""The shop's datasets for perf tests."""

from datetime import date
from pathlib import Path

from perfdata import Dataset, Project
from perfdata import generate as g


# fmt: off
def shop(dataset):
    """Return two years of a shop: up to 18 orders a customer, some products in most of them."""
    count = dataset.parameters["customers"]
    customers = g.table(
        dataset, "customers", count,
        id=g.serial(), name=g.faker("last_name"), email=g.text("customer{id}@example.org"),
    )
    products = g.table(
        dataset, "products", count // 10,
        id=g.serial(), name=g.text("Product {id}"), price=g.decimal("1.00", "99.99"),
    )
    orders = g.table(
        dataset, "orders", g.per(customers, 0, 18),
        id=g.serial(), customer_id=g.parent(),
        status=g.choice({"new": 1, "paid": 1, "sent": 3, "returned": 1}),
        ordered_at=g.timestamp(-730, -1, months={11: 2, 12: 3}),
    )
    lines = g.table(
        dataset, "order_lines", g.per(orders, 1, 4),
        order_id=g.parent(), position=g.position(),
        product_id=g.ref(products, zipf=0.8), quantity=g.integer(1, 3),
    )
    return [customers, products, orders, lines]
# fmt: on


project = Project(
    name="shop",
    migrations=Path("alembic.ini"),
    datasets=tuple(
        Dataset(
            name=f"{customers}_customers",
            generate=shop,
            parameters={"customers": customers},
            as_of=date(2026, 1, 1),
        )
        for customers in (100, 1000)
    ),
)
