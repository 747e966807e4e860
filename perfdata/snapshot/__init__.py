"""Snapshots: the file, the store of files, create, restore and verify."""
