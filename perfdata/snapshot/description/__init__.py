"""Descriptions of datasets, from the rows that they generate."""
