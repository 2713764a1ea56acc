"""Experiment trackers. One tracker a file."""
