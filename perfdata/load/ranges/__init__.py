"""Ranges of generated rows, which other processes or machines generate and load."""
