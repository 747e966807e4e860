"""What the library asks its database."""

from library.models import Book


def shelf(year: int) -> list[str]:
    """Return the books of a year with their authors."""
    books = Book.objects.filter(year=year).select_related("author").order_by("id")
    return [f"{book.author.name}: {book.title}" for book in books]
