"""Utilities: atomic file writes, checkpoints, signals, environment, console output, profiling, tables."""
