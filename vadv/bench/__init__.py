"""Benchmarks: each measures one thing against its limit or its peer and returns rows of a table."""
