"""Carry rules: what is handed from one round to the next. One rule a file."""
