"""One optimizer step from rows: micro-batches under a token budget, a gradient that does not depend on their split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from src.algorithms.base import Algorithm
from src.algorithms.logprobs import token_logprobs
from src.engines.base import padded_batches
from src.models import Policy
from src.records import Row


def micro_batches(rows: Sequence[Row], budget: int) -> list[list[int]]:
    """Indices of rows in groups of similar length whose padded size stays under ``budget`` tokens (one row at
    least)."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].prompt) + len(rows[i].completion))
    sizes = [(len(rows[i].prompt), len(rows[i].completion)) for i in order]
    return [[order[place] for place in batch] for batch in padded_batches(sizes, budget)]


@dataclass
class Learner:
    """Applies an algorithm to rows. ``micro_batch_tokens`` bounds memory; the loss is that of the whole batch."""

    policy: Policy
    algorithm: Algorithm
    optimizer: torch.optim.Optimizer
    schedule: Any
    micro_batch_tokens: int
    max_grad_norm: float
    _sums: dict[str, float] = field(default_factory=dict)

    def update(self, rows: Sequence[Row]) -> dict[str, float]:
        """``algorithm.iterations`` optimizer steps on ``rows``; their mean diagnostics."""
        old: dict[int, Tensor] = {}
        self._sums = {}
        norms = []
        for _ in range(self.algorithm.iterations):
            self.optimizer.zero_grad(set_to_none=False)
            self.backward(rows, old)
            norms.append(float(torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)))
            if not all(map(torch.isfinite, map(torch.tensor, norms))):
                raise FloatingPointError("the gradient is not finite: the run has diverged (lower optimizer.lr)")
            self.optimizer.step()
            rate = self.schedule.get_last_lr()[0]
            self.schedule.step()
        tokens = max(1.0, self._sums.pop("tokens", 0.0))
        loss = self._sums.pop("loss", 0.0) / self.algorithm.iterations
        means = {name: total / tokens for name, total in self._sums.items()}
        none = dict.fromkeys(
            ("kl", "entropy", "clip_ratio", "sampler_mismatch"), 0.0
        )  # of a step without rows to learn from
        return {"loss": loss, **none, **means, "grad_norm": sum(norms) / len(norms), "lr": rate}

    def backward(self, rows: Sequence[Row], old: dict[int, Tensor] | None = None) -> None:
        """Add the gradient of the batch's loss to the parameters.

        ``old`` holds the log-probs that ratios are taken against; the first pass fills it with its own (the policy that
        sampled). Rows with no advantage are skipped where no other term needs them; they still count in every
        denominator.
        """
        old = {} if old is None else old
        lengths = torch.tensor([len(row.completion) for row in rows], dtype=torch.float64)
        weights = torch.tensor([row.weight for row in rows], dtype=torch.float64)
        shares = self.algorithm.shares(lengths, weights)
        needed = [i for i, row in enumerate(rows) if row.completion and (row.advantage != 0 or self.algorithm.kl_beta)]
        for group in micro_batches([rows[i] for i in needed], self.micro_batch_tokens) if needed else []:
            self._micro_batch(rows, [needed[i] for i in group], shares, old)

    def _micro_batch(self, rows: Sequence[Row], group: Sequence[int], shares: Tensor, old: dict[int, Tensor]) -> None:
        batch = [rows[i] for i in group]
        device = self.policy.device
        temperature = torch.tensor([row.temperature for row in batch], device=device, dtype=torch.float64)
        logits, tokens, mask = self.policy.completion_logits(batch)
        logprobs, entropy = token_logprobs(logits, tokens, temperature)
        for place, index in enumerate(group):
            old.setdefault(index, logprobs[place, : len(batch[place].completion)].detach())
        before = torch.zeros_like(logprobs)
        sampled = torch.zeros_like(logprobs)
        for place, index in enumerate(group):
            count = len(batch[place].completion)
            before[place, :count] = old[index]
            sampled[place, :count] = torch.tensor(batch[place].logprobs, device=device)
        reference = None
        if self.algorithm.kl_beta:
            with torch.no_grad():
                reference = token_logprobs(self.policy.completion_logits(batch, base=True)[0], tokens, temperature)[0]
        advantages = torch.tensor([row.advantage for row in batch], device=device, dtype=logprobs.dtype)
        losses, sums = self.algorithm.token_loss(logprobs, before, reference, advantages, mask)
        share = shares[list(group)].to(device, logprobs.dtype)
        loss = (share[:, None] * losses * mask).sum()
        torch.autograd.backward(loss)
        sums = {
            **sums,
            "entropy": (entropy * mask).sum(),
            "sampler_mismatch": ((before.detach() - sampled).abs() * mask).sum(),
            "loss": loss.detach(),
            "tokens": mask.sum(),
        }
        for name, value in sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)
