"""Tools: the environment answers a call in the middle of a turn. One tool per file."""
