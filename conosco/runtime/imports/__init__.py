"""Imports: files in, run by a process of their own, and out again without a trace."""
