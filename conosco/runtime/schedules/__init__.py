"""Scheduled imports and exports: what is due, and the process that does it."""
