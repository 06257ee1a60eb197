"""Embedded engines on SQLite files: Log, State, Leases and Control; Keys in a plain file beside them."""
