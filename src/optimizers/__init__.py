"""Optimizers and learning-rate schedules. One optimizer per file."""
