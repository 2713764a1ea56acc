"""Benchmarks of speed and memory, one file per section of ``python -m src.speed``."""
