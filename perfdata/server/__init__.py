"""The embedded server: a PostgreSQL cluster of perfdata's own in PERFDATA_HOME."""
