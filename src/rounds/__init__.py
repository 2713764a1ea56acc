"""Multi-round rollouts as graphs of turns: prompts, branching, text carried between rounds, search and early ending."""
