"""How snapshots differ from each other, and from a database."""
