"""The loader: rows into tables, in one transaction or into a private database."""
