"""Runs scenarios: the ``perf`` fixture, its runners and its blocks."""
