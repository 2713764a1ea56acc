"""Optimizers and learning-rate schedules. One optimizer a file."""
