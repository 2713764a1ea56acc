"""Reinforcement-learning loop: sampling, optimizer steps, step metrics, checkpoints."""
