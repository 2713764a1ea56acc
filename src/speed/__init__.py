"""Speed and memory, measured: one file for each section of ``src.speed``."""
