"""Several processes that train one policy: who does what, and the sums that make it one run."""

from src.parallel.launched import call, run, world

__all__ = ["call", "run", "world"]
