"""Engines write turns: token ids in, completions with their log-probs out."""
