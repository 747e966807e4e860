"""A workflow engine: asyncpg, many revisions, folders of revisions found at run time."""
