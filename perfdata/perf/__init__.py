"""Perf: what a scenario did in the database, and what it may do."""
