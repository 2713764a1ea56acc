"""Evaluation on held-out problems: sampling, verification, statistics, result files."""
