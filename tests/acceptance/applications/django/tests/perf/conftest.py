"""Django on the clone of each perf test."""

import django
import pytest
from django.db import connection


@pytest.fixture
def django_clone(perf_clone_url):
    """Connect Django to the test's clone; return the driver's connection."""
    from sqlalchemy import make_url

    django.setup()
    url = make_url(perf_clone_url)
    connection.settings_dict["NAME"] = url.database
    connection.ensure_connection()
    yield connection.connection
    connection.close()
