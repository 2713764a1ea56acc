"""Multi-round rollouts as trees of turns: prompts, branching, text carried between rounds, search and early ending."""
