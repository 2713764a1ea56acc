"""How a tree of turns grows: prompts, branching, what is carried between rounds, and what ends them."""
