"""A shop: customers, products, orders."""
