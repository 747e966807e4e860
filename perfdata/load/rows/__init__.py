"""Rows as datasets give them, as blocks for COPY."""
