"""Carry rules: a carry rule selects the text or tokens of earlier rounds that the next prompt contains.

One rule per file. The default is ``answer.py``; ``src/rounds/multi_round.py`` calls the rule before each later round.
"""
