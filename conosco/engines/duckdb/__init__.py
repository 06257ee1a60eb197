"""The embedded Warehouse on a DuckDB file that can be deleted at any time: it is rebuilt from the log."""
