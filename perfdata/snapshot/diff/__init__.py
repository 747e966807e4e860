"""Differences between snapshots, and between a snapshot and a database."""
