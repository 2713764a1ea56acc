"""Experiment trackers, one per file."""
