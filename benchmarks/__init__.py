"""Benchmarks: one folder a question, each with its method and the result table that its run rewrites."""
