"""What the shop asks its database."""

from sqlalchemy import func
from sqlalchemy.orm import selectinload
from sqlmodel import Session, desc, select

from shop.models import Order, OrderLine, Product


def latest_orders(session: Session, customer_id: int) -> list[tuple[int, int]]:
    """Return a customer's latest ten orders, each with the number of its lines."""
    orders = session.exec(
        select(Order)
        .where(Order.customer_id == customer_id)
        .order_by(desc(Order.ordered_at))
        .limit(10)
        .options(selectinload(Order.lines))
    )
    return [(order.id or 0, len(order.lines)) for order in orders]


def best_sellers(session: Session, count: int = 10) -> list[tuple[str, int]]:
    """Return the products that were sold most, each with its quantity."""
    sold = func.sum(OrderLine.quantity)
    found = session.exec(
        select(Product.name, sold)
        .join(OrderLine)
        .group_by(Product.id)
        .order_by(desc(sold), Product.id)
        .limit(count)
    )
    return [(name, quantity) for name, quantity in found]
