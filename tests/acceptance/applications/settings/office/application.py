"""The HTTP interface."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session, selectinload

from office.models import Note
from office.settings import settings

engine = create_engine(str(settings.url))
app = FastAPI()


def get_session() -> Iterator[Session]:
    """Open the session of a request."""
    with Session(engine) as session:
        yield session


@app.get("/notes/{owner}")
def notes(owner: str, session: Annotated[Session, Depends(get_session)]) -> list[dict[str, object]]:
    """Return an owner's notes with their tags."""
    found = session.scalars(
        select(Note).where(Note.owner == owner).options(selectinload(Note.tags))
    )
    return [{"text": note.text, "tags": [tag.name for tag in note.tags]} for note in found]
