"""Learning-rate schedules: linear warm-up, then cosine, linear or constant."""

from __future__ import annotations

import math
from typing import Literal

Shape = Literal["cosine", "linear", "constant"]


def factor(step: int, steps: int, warmup: float, shape: Shape, final: float) -> float:
    """Learning rate of a step (0-based) of ``steps``, as a share of the peak.

    The rate rises linearly over the first ``warmup`` (a share of ``steps``), then decays to ``final``.
    """
    warm = round(warmup * steps)
    if step < warm:
        return (step + 1) / warm
    progress = min(1.0, (step - warm) / max(1, steps - warm))
    decay = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
    return final + (1 - final) * decay[shape]
