"""The database: the embedded server, connections, catalogs, COPY and the loader."""
