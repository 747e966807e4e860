"""What billing asks its database."""

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from billing.models import Account


def statement(session: Session, first: int, last: int) -> list[int]:
    """Return the sum of the invoices of each account in a range."""
    accounts = session.scalars(
        select(Account)
        .where(Account.id.between(first, last))
        .order_by(Account.id)
        .options(selectinload(Account.invoices))
    )
    return [sum(invoice.amount for invoice in account.invoices) for account in accounts]
