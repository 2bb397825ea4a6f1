"""SQLite: one file on one machine, written by one process at a time."""
