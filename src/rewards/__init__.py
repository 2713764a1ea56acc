"""Reward terms. One term per file; a yaml of the reward group combines them with weights."""
