"""Searches: which candidates of a level go on. One rule a file; none looks at a gold answer."""
