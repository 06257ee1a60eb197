"""Engines in memory with the promises of the embedded ones minus durability: for tests and throw-away rebuilds."""
