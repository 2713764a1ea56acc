"""A reference laboratory for multi-round reasoning by reinforcement learning (MOTIF, arXiv 2507.02851)."""
