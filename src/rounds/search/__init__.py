"""Search rules: rank the candidates of a round without the gold answer. One rule per file."""
