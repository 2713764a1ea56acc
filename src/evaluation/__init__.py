"""Sampling a policy on held-out problems, and the statistics of what it answered."""
