"""Whether a server samples from given weights: its log-probs of a few next tokens against those of the model here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from src.engines.agreement import HALF_PRECISION, QUESTIONS, TOLERANCES

TOP = 5
"""Number of tokens per prompt whose log-probs are compared: the most probable ones."""

CLEAR = 12.0
"""Two versions of the weights are told apart if their log-probs differ by this many standard errors of rounding."""

TEMPERATURE = 2.0
"""Temperature of the check of the base, so that log-probs before temperature are noticed."""


def prompts(weights: Any, context: int) -> list[tuple[int, ...]]:
    """The prompts of the check: of different lengths, and the same for every version of the weights.

    Since they return with every version, a prefix cache that does not tell versions apart is noticed too.
    """
    chats = [weights.codec.chat([{"role": "user", "content": text}]) for text in QUESTIONS]
    return [tuple(chat[-(context - 1) :]) for chat in chats]


@torch.no_grad()
def next_tokens(weights: Any, chats: Sequence[Sequence[int]]) -> Tensor:
    """Log-probs of the token after each prompt by the model's own forward pass: ``[prompts, vocabulary]``, float32."""
    rows = []
    with weights.in_its_precision():
        for chat in chats:
            ids = torch.tensor([chat], device=weights.device)
            rows.append(weights.model(input_ids=ids, use_cache=False).logits[0, -1].float().log_softmax(-1).cpu())
    return torch.stack(rows)


PLAIN = {
    **{"n": 1, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "ignore_eos": True},
    **{"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0},
}
"""Sampling from the full distribution, whatever the model's generation config makes the server's default."""


def request(chat: Sequence[int], model: str, temperature: float = 1.0) -> dict[str, Any]:
    """The request for one token and the log-probs of the most probable ones."""
    asked = {"model": model, "prompt": list(chat), "max_tokens": 1, "temperature": temperature, "seed": 0}
    return {**PLAIN, **asked, "logprobs": TOP, "return_tokens_as_token_ids": True}


def told(choice: Mapping[str, Any]) -> dict[int, float]:
    """The log-probs by token id in a server's answer to ``request``.

    Raises:
        ValueError: the answer has none.
    """
    try:
        table = choice["logprobs"]["top_logprobs"][0]
        return {int(token.removeprefix("token_id:")): float(logprob) for token, logprob in table.items()}
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"its log-probs are malformed ({error!r})") from error


@dataclass(frozen=True)
class Version:
    """Next-token log-probs of one version of the weights, and those of ``others`` that a server could hold instead.

    ``expected`` and each of ``others`` are ``[prompts, vocabulary]``. ``name`` and the keys of ``others`` are words for
    messages. ``dtype`` is that of the weights, which bounds the rounding.
    """

    name: str
    expected: Tensor
    others: Mapping[str, Tensor]
    dtype: torch.dtype

    def fault(self, tables: Sequence[Mapping[int, float]]) -> str | None:
        """What is wrong with a server's log-probs (one table per prompt), or ``None``.

        They must be within rounding of ``expected``, and not nearer to one of ``others``. The latter is decided by the
        projection onto the line between both, where its distance is beyond rounding: ``CLEAR`` standard errors.
        """
        server, here = _aligned(tables, self.expected)
        limit = TOLERANCES.get(self.dtype, HALF_PRECISION)
        difference = float((server - here).abs().mean())
        wrong = not difference <= limit
        for name, distribution in self.others.items():
            _, other = _aligned(tables, distribution)
            if _nearer(server, here, other) if not wrong else float((server - other).abs().mean()) <= limit:
                return f"it answers with {name} in place of {self.name}"
        if wrong:
            return f"its log-probs differ by {difference:.2g} nats from {self.name} (at most {limit:g} is rounding)"
        return None


def _aligned(tables: Sequence[Mapping[int, float]], distribution: Tensor) -> tuple[Tensor, Tensor]:
    """The server's log-probs, and those of ``distribution`` for the same tokens, as two vectors."""
    pairs = [
        (logprob, float(row[token]) if token < len(row) else -torch.inf)
        for table, row in zip(tables, distribution, strict=True)
        for token, logprob in table.items()
    ]
    server, here = torch.tensor(pairs, dtype=torch.float64).T
    return server, here


def _nearer(server: Tensor, here: Tensor, other: Tensor) -> bool:
    """Whether the server is nearer to ``other`` than to ``here``, and both are far enough apart to tell."""
    gap, found = other - here, server - here
    distance = float(gap.norm())
    if not distance > 0:
        return False
    share = float(found @ gap) / distance**2  # 0: the server is at `here`, 1: at `other`
    rounding = float((found - share * gap).norm()) / max(len(gap) - 1, 1) ** 0.5
    return share > 0.5 and distance > CLEAR * rounding
