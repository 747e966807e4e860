"""Authors and books."""

from django.db import models


class Author(models.Model):
    """Somebody who writes."""

    name = models.TextField()


class Book(models.Model):
    """A book."""

    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    title = models.TextField()
    year = models.IntegerField(db_index=True)
