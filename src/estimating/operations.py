"""FLOPs of forward and backward passes; a multiply-add counts as two."""

from __future__ import annotations

from src.estimating.shape import Shape


def forward(shape: Shape, tokens: float, seen: float, predicted: float, adapter: int = 0) -> float:
    """FLOPs of a forward pass: 2 x active parameters x tokens, plus attention (arXiv 2001.08361, table 1).

    Args:
        shape: sizes of the model.
        tokens: number of input tokens.
        seen: number of tokens that each token attends to, including masked ones if they are computed. Attention costs
            4 x width of all heads per token, seen token and layer: half for scores, half for the weighted sum.
        predicted: number of tokens for which the head computes logits.
        adapter: parameters of a LoRA adapter that is not merged.
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
    """FLOPs of a forward and backward pass; arguments as in ``forward``.

    - Trained weights (all of them if ``adapter`` is 0) cost 3 x forward: the backward pass computes the gradients of
      inputs and of weights.
    - Frozen weights under LoRA cost 2 x forward, since they need no weight gradient. The adapter costs 3 x.
    - Attention costs 3.5 x forward: the backward pass recomputes the scores and computes gradients for both inputs of
      the two products, 5 products for the forward pass's 2.
    - With ``chunked``, the logits of a trained head are recomputed. With ``checkpointed``, the layers are recomputed.
    """
    frozen, recomputed = adapter > 0, int(checkpointed)
    body = 2 * tokens * (shape.body * ((2 if frozen else 3) + recomputed) + (3 + recomputed) * adapter)
    attention = (3.5 + recomputed) * 4 * shape.attended * seen * shape.layers * tokens
    head = 2 * shape.hidden * shape.vocabulary * predicted * (2 if frozen else 3 + chunked)
    return body + attention + head
