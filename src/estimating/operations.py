"""Floating-point operations of a model's passes; a multiplication and an addition count as two."""

from __future__ import annotations

from src.estimating.shape import Shape


def forward(shape: Shape, tokens: float, seen: float, predicted: float, adapter: int = 0) -> float:
    """Operations of a forward pass: 2 x active parameters x tokens, and attention.

    Each of ``tokens`` attends to ``seen`` tokens, masked ones included where they are computed: 4 x all heads' width a
    layer, half of it scores, half the weighted sum. The head works for the ``predicted`` tokens only. ``adapter``
    counts a LoRA adapter's parameters, where it is not merged. (arXiv 2001.08361, table 1.)
    """
    attention = 4 * shape.attended * seen * shape.layers
    return tokens * (2 * (shape.body + adapter) + attention) + predicted * 2 * shape.hidden * shape.vocabulary


def training(
    shape: Shape,
    tokens: float,
    seen: float,
    predicted: float,
    adapter: int = 0,
    chunked: bool = True,
    checkpointed: bool = False,
) -> float:
    """Operations of a forward and backward pass.

    With all weights trained (``adapter`` 0) a backward pass makes two products for each of the forward's: the
    gradients of the inputs and of the weights, 3 x forward in all. Under LoRA the frozen weights need no gradient, so
    that theirs is 2 x forward, and only the adapter's 3 x. Attention has no weights, but two inputs, and computes its
    scores anew: 5 products for 2, 3.5 x forward. A trained head's logits are made anew where they are ``chunked``, the
    layers where they are ``checkpointed``.
    """
    frozen, again = adapter > 0, int(checkpointed)
    body = 2 * tokens * (shape.body * ((2 if frozen else 3) + again) + (3 + again) * adapter)
    attention = (3.5 + again) * 4 * shape.attended * seen * shape.layers * tokens
    head = 2 * shape.hidden * shape.vocabulary * predicted * (2 if frozen else 3 + chunked)
    return body + attention + head
