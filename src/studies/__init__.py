"""Studies: planned runs, their comparisons, and the command that runs what is missing."""
