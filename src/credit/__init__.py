"""Credit: a tree and its scores become rows with advantages. One rule a file."""
