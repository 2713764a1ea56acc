"""Outcome: correctness of the final answer, MOTIF's accuracy reward (arXiv 2507.02851, section 3)."""

from __future__ import annotations

from typing import ClassVar, Literal

from src.rewards.base import Term


class Outcome(Term):
    """The verifier's verdict at the leaves. The value of a first response is the mean over its continuations; with one
    round it is its own correctness."""

    at: ClassVar[Literal["leaves", "turns"]] = "leaves"
