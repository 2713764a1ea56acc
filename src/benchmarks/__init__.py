"""Benchmarks: problems, and the scoring of answers to them. One source per file."""
