"""Verifiers score a stated answer against the gold answer; one verifier per file."""
