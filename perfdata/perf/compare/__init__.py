"""Compares two revisions, round by round."""
