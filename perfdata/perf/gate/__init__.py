"""Judges results: baselines, checks, growth, the verdict, and what to do about it."""
