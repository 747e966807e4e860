"""Create the tables."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """Authors and books."""

    initial = True
    operations = [
        migrations.CreateModel("Author", [
            ("id", models.BigAutoField(primary_key=True)),
            ("name", models.TextField()),
        ]),
        migrations.CreateModel("Book", [
            ("id", models.BigAutoField(primary_key=True)),
            ("title", models.TextField()),
            ("year", models.IntegerField(db_index=True)),
            ("author", models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="books", to="library.author",
            )),
        ]),
    ]  # fmt: skip
