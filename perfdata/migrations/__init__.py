"""Migrations and tables from metadata: read, run in a child process, and their answers kept."""
