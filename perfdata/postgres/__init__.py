"""PostgreSQL, as any client needs it: connections, the catalog, locks, statistics."""
