"""Reward terms: what is scored. One term a file; a yaml of the reward group combines them with weights."""
