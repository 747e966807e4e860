"""A library of books, with Django."""
