"""Snapshots from plain JSON: ``{name, created_at, description, stats, tables}``."""
