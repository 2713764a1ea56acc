"""The reinforcement-learning loop: what a step samples, learns, measures and saves."""
