"""Carry rules: the text or tokens of earlier rounds in the next prompt. One rule per file."""
