"""Captures what a scenario sends: statements, rows and plans."""
