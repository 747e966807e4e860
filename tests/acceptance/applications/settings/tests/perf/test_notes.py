"""A request, measured on the session of the fixture."""

import pytest
from fastapi.testclient import TestClient
from office.application import app, get_session


@pytest.mark.perf(dataset="5000_notes", max_queries=2)
def test_notes_of_an_owner(perf):
    def request(session):
        app.dependency_overrides[get_session] = lambda: session
        return TestClient(app).get("/notes/owner7").json()

    assert len(perf(request)) == 20
