"""Errors about numbers of an update that are not finite: where the first one is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from src.models.sharding import own_part
from src.rounds.growing import World
from src.types import NumberError, Row

SHOWN = 3
"""Number of weights that a message names."""


def bad_token(named: Mapping[str, Tensor | None], mask: Tensor, rows: Sequence[Row]) -> NumberError:
    """The error about the first of several tensors ``[rows, tokens]`` that is not finite."""
    for name, values in named.items():
        if values is not None:
            bad = (~values.detach().isfinite() & mask).any(dim=1).nonzero().flatten().tolist()
            if bad:
                return NumberError(f"the {name} of a token is not finite", rows[bad[0]].tree, rows[bad[0]].path)
    return NumberError("the loss is not finite: it overflows where it is summed")


def bad_gradient(model: Any, world: World) -> NumberError:
    """The error about a gradient whose norm is not finite; it names the weights. All processes call it."""
    own = [
        name
        for name, weight in model.named_parameters()
        if weight.grad is not None and not bool(own_part(weight.grad).isfinite().all())
    ]
    bad = list(dict.fromkeys(name for names in world.agree(lambda: own) for name in names))
    where = f"that of {', '.join(bad[:SHOWN])}" if bad else "its norm overflows"
    return NumberError(f"the gradient is not finite ({where}); lower optimizer.lr")
