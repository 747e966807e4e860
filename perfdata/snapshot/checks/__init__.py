"""Checks before a restore: staleness, drift, required rows, rows that would be lost."""
