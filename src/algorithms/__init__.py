"""Policy-gradient algorithms as pure tensor functions. One algorithm per file."""
