"""The target: which database a command works on, what may be replaced in it, its migrations."""
