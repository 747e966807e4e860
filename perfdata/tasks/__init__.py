"""Invoke tasks over the library, one module a namespace."""
