"""Immediate: correctness of each turn's own answer. The ablation of MOTIF's outcome reward, without later rounds."""

from __future__ import annotations

from typing import ClassVar, Literal

from src.rewards.base import Term


class Immediate(Term):
    """The verifier's verdict on each turn's own stated answer; the rounds after it do not count."""

    at: ClassVar[Literal["leaves", "turns"]] = "turns"
