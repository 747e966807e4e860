"""First drafts of datasets: code written from a database's catalog, and from statistics."""
