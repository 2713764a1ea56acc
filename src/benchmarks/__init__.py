"""Benchmarks: problems in, and the verdict on their answers. One source a file."""
