"""Policy update from training rows, in micro-batches whose split does not change the gradient."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from src.algorithms.base import Algorithm, Tokens
from src.models.packing import Pack, micro_batches, padded_size, placed, trained
from src.models.policy import Policy
from src.models.sharding import own_part, whole_norm
from src.rounds.growing import ALONE, World, totals
from src.training.nonfinite import bad_gradient, bad_token
from src.types import NumberError, Row

logger = logging.getLogger(__name__)


@dataclass
class Batch:
    """Training rows and quantities that stay fixed across iterations (old and reference log-probs, computed lazily).

    ``old`` and ``reference`` map a row's index to log-probs of shape ``[completion tokens]``.
    """

    rows: Sequence[Row]
    shares: Tensor  # factor on each row's sum of token losses, ``[rows]``
    imitated: Tensor  # factor on each row's negative log-likelihood, ``[rows]``
    advantages: list[Tensor]  # per token of each row; empty if the row has no loss
    old: dict[int, Tensor] = field(default_factory=dict)  # log-probs of the policy before the first iteration
    reference: dict[int, Tensor] = field(default_factory=dict)  # log-probs of the base (adapter disabled)
    sampler_agrees: bool | None = None  # whether the sampler's log-probs may replace the policy's; None: unknown


@dataclass
class Learner:
    """Applies an algorithm's loss to training rows and steps the optimizer.

    ``micro_batch_tokens`` bounds memory; the loss is that of the whole batch. ``sampler_tolerance`` decides which
    log-probs a KL penalty in the reward uses: the sampler's, if their mean absolute difference from the policy's (over
    the tokens of the first micro-batch, in nats) is at most this, else the policy's own. 0 always uses the policy's.
    ``on_nonfinite`` decides about an update with a NaN or an infinity in it: an error, or an update that is skipped.

    With several processes, every process computes the same shares, advantages and micro-batches from all rows, works on
    some of the micro-batches, and gets the sum of all gradients. With sharded weights, a pass of the model is an
    exchange between processes: all make the same number of passes, and check for errors together before each backward.
    """

    policy: Policy
    algorithm: Algorithm
    optimizer: torch.optim.Optimizer
    schedule: Any
    micro_batch_tokens: int
    max_grad_norm: float
    sampler_tolerance: float = 0.0
    on_nonfinite: Literal["stop", "skip"] = "stop"
    world: World = ALONE
    _sums: dict[str, float] = field(default_factory=dict)

    def update(self, rows: Sequence[Row], right: Sequence[bool] = ()) -> dict[str, float]:
        """Take ``algorithm.iterations`` optimizer steps on ``rows``. Returns mean diagnostics.

        ``right`` says for each row whether it is a right answer; only ``algorithm.imitation`` needs it.

        Raises:
            NumberError: a number is not finite, and ``on_nonfinite`` is "stop" or the weights are not finite either.
        """
        self._sums = {}
        norms: list[float] = []
        skipped = 0
        for row in rows:
            if not math.isfinite(row.advantage):
                self._refuse(NumberError(f"the advantage is {row.advantage}", row.tree, row.path))
                rows, right, skipped = [], [], 1
                break
        batch = self.prepare(rows, right)
        for _ in range(self.algorithm.iterations):
            self.optimizer.zero_grad(set_to_none=False)
            try:
                self.backward(batch)
                norms.append(self._clipped())
                self.optimizer.step()
                self._check_weights()
            except NumberError as error:
                self._refuse(error)
                self.policy.reset()
                skipped += 1
            rate = self.schedule.get_last_lr()[0]
            self.schedule.step()
        self._sums = totals(self.world.agree(lambda: self._sums))
        tokens = max(1.0, self._sums.pop("tokens", 0.0))
        loss = self._sums.pop("loss", 0.0) / self.algorithm.iterations
        means = {name: total / tokens for name, total in self._sums.items()}
        defaults = dict.fromkeys(("kl", "entropy", "clip_ratio", "sampler_mismatch"), 0.0)  # for a step without rows
        norm = sum(norms) / max(1, len(norms))
        return {"loss": loss, **defaults, **means, "grad_norm": norm, "lr": rate, "nonfinite": skipped}

    def _refuse(self, error: NumberError) -> None:
        """Raise an error that must stop the run; log one whose update is skipped."""
        if error.fatal or self.on_nonfinite == "stop":
            raise error
        logger.warning("an update was skipped: %s (turn %s of tree %s)", error, error.path, error.tree)

    def _clipped(self) -> float:
        """Clip the gradient. Returns its norm before."""
        found = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        norm = whole_norm(found) if self.policy.sharded else float(found)
        if not math.isfinite(norm):
            raise bad_gradient(self.policy.model, self.world)
        return norm

    def _check_weights(self) -> None:
        weights = [weight.detach() for weight in self.policy.parameters()]
        parts = [own_part(weight) for weight in weights] if self.policy.sharded else weights
        finite = bool(
            torch.stack([part.isfinite().all() for part in parts]).all()
        )  # one wait for the device, not one per weight
        if not (all(self.world.agree(lambda: finite)) if self.policy.sharded else finite):
            raise NumberError("the update made weights that are not finite; lower optimizer.lr", fatal=True)

    def prepare(self, rows: Sequence[Row], right: Sequence[bool] = ()) -> Batch:
        """Compute loss shares and token advantages of the whole batch, including a KL penalty in the reward.

        With ``algorithm.mask_truncated``, a truncated row has no loss and counts as if it had no tokens.
        """
        lengths = [0 if row.truncated and self.algorithm.mask_truncated else row.trained for row in rows]
        weights = [row.weight for row in rows]
        numbers: dict[Any, int] = {}
        trajectories = torch.tensor([numbers.setdefault(row.trajectory, len(numbers)) for row in rows])
        sizes = torch.tensor(lengths, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64), trajectories
        batch = Batch(rows, self.algorithm.shares(*sizes), self.algorithm.imitation_shares(*sizes, right), [])
        kl = None
        if self.algorithm.kl_beta and self.algorithm.kl_in == "reward":
            plan = self._micro_batches(rows, [i for i, length in enumerate(lengths) if length])
            found = totals(self._collected(lambda: self._divergences(batch, plan)))
            kl = [found.get(index, torch.zeros(0, dtype=torch.float64)) for index in range(len(rows))]
        advantages = [row.advantage for row in rows]
        values = self.algorithm.token_advantages(advantages, lengths, weights, kl)
        batch.advantages = [placed(tokens, row) for tokens, row in zip(values, rows, strict=True)]
        return batch

    def backward(self, batch: Batch) -> None:
        """Accumulate the gradient of the batch's loss in the parameters.

        Importance ratios are relative to ``batch.old``, which the first call fills with the current log-probs. Rows
        with zero advantage are skipped if no other loss term needs them; they still count in every denominator.
        """
        others = self.algorithm.entropy_bonus or (self.algorithm.kl_beta and self.algorithm.kl_in == "loss")
        used = [bool(tokens.any() or share) for tokens, share in zip(batch.advantages, batch.imitated, strict=True)]
        needed = [i for i, tokens in enumerate(batch.advantages) if len(tokens) and (others or used[i])]
        plan = self._micro_batches(batch.rows, needed)

        def own() -> None:
            for packs, counts in self._dealt(batch.rows, plan):
                self._micro_batch(batch, packs, counts)

        if self.policy.sharded:
            own()  # the backward passes sum the gradients
        else:
            self.world.accumulate(self.policy.parameters(), own)

    def _dealt(self, rows: Sequence[Row], plan: Sequence[list[Pack]]) -> list[tuple[list[Pack], bool]]:
        """This process's micro-batches, and whether each counts.

        With sharded weights, a process with fewer micro-batches than others also passes one row through the model,
        without effect.
        """
        own = self.world.own(plan, [padded_size(rows, packs) for packs in plan])
        missing = max(self.world.agree(lambda: len(own))) - len(own) if self.policy.sharded else 0
        return [*((packs, True) for packs in own), *(([plan[0][0][:1]], False) for _ in range(missing))]

    def _collected(self, function: Callable[[], Any]) -> list[Any]:
        """The results of ``function``, which may pass the model, in all processes."""
        if not self.policy.sharded:
            return self.world.agree(function)
        result = function()  # processes cannot agree on an error inside of an exchange; it ends this process
        return self.world.agree(lambda: result)

    def _together(self, check: Callable[[], None]) -> None:
        """Call ``check``; with sharded weights in all processes, so that none waits for a process that failed."""
        if self.policy.sharded:
            self.world.together(check)
        else:
            check()

    def _micro_batches(self, rows: Sequence[Row], chosen: Sequence[int]) -> list[list[Pack]]:
        if not chosen:
            return []
        some, attention, processes = [rows[i] for i in chosen], self.policy.attention, self.world.size
        batches = micro_batches(some, attention, self.micro_batch_tokens)
        if len(batches) % processes:  # smaller ones, so that no process waits
            total = sum(padded_size(some, packs) for packs in batches)
            batches = micro_batches(some, attention, total // (processes * (1 + len(batches) // processes)))
        return [[[chosen[place] for place in pack] for pack in packs] for packs in batches]

    def _divergences(self, batch: Batch, plan: Sequence[list[Pack]]) -> dict[int, Tensor]:
        """KL estimates of this process's rows, by row. Every process first compares the sampler on the same rows."""
        if plan and self.world.size > 1:
            with torch.no_grad():
                self._before(batch, plan[0])
        found: dict[int, Tensor] = {}
        for packs, counts in self._dealt(batch.rows, plan):
            values = zip((i for pack in packs for i in pack), self._divergence(batch, packs), strict=True)
            found |= dict(values) if counts else {}
        return found

    def _divergence(self, batch: Batch, packs: Sequence[Pack]) -> list[Tensor]:
        """KL estimate of each completion token of a micro-batch, before the first iteration."""
        rows = [batch.rows[index] for pack in packs for index in pack]
        with torch.no_grad():
            kl = self.algorithm.divergence(self._before(batch, packs), self._reference(batch, packs))
        return [
            tokens[: len(row.completion)].double().cpu()[trained(row)] for tokens, row in zip(kl, rows, strict=True)
        ]

    def _before(self, batch: Batch, packs: Sequence[Pack]) -> Tensor:
        """Log-probs before the first iteration, ``[rows, tokens]``.

        These are the sampler's if they agree with the policy's on the first micro-batch, else the policy's own.
        """
        rows = [batch.rows[index] for pack in packs for index in pack]
        if batch.sampler_agrees:
            return _sampled(rows).to(self.policy.device)
        own, _, mask = self.policy.completion_logprobs(_rows(batch, packs))
        if batch.sampler_agrees is None:
            difference = float((own - _sampled(rows).to(own)).abs()[mask].mean())
            batch.sampler_agrees = difference <= self.sampler_tolerance and self.sampler_tolerance > 0
        return own

    def _reference(self, batch: Batch, packs: Sequence[Pack]) -> Tensor:
        """Log-probs of the base (adapter disabled), ``[rows, tokens]``; computed once for all iterations."""
        indices = [index for pack in packs for index in pack]
        needed = any(index not in batch.reference for index in indices)
        if any(self.world.agree(lambda: needed)) if self.policy.sharded else needed:
            with torch.no_grad():
                logprobs, _, _ = self.policy.completion_logprobs(_rows(batch, packs), base=True)
            for index, values in zip(indices, logprobs, strict=True):
                batch.reference[index] = values[: len(batch.rows[index].completion)]
        return _padded([batch.reference[index] for index in indices])

    def _micro_batch(self, batch: Batch, packs: Sequence[Pack], counts: bool = True) -> None:
        """Add the gradient of a micro-batch, and its sums for the metrics; nothing is added if it does not count."""
        algorithm, group = self.algorithm, [index for pack in packs for index in pack]
        rows = [batch.rows[index] for index in group]
        reference = self._reference(batch, packs) if algorithm.kl_beta else None
        logprobs, entropy, mask = self.policy.completion_logprobs(
            _rows(batch, packs), entropy_gradient=bool(algorithm.entropy_bonus)
        )
        if not counts:
            self._together(lambda: None)
            torch.autograd.backward(logprobs, torch.zeros_like(logprobs))
            return
        for index, row, values in zip(group, rows, logprobs.detach(), strict=True):
            batch.old.setdefault(index, values[: len(row.completion)])
        old = _padded([batch.old[i] for i in group])
        sampled = _sampled(rows).to(logprobs)
        advantages = _padded([batch.advantages[i] for i in group]).to(logprobs)
        losses, sums = algorithm.token_loss(Tokens(logprobs, old, sampled, advantages, mask, entropy, reference))
        share = batch.shares[group].to(logprobs)
        loss = (share[:, None] * losses * mask).sum()
        if algorithm.imitation:
            loss = loss - (batch.imitated[group].to(logprobs)[:, None] * logprobs * mask).sum()

        def check() -> None:
            if not bool(loss.isfinite()):
                named = {"log-prob": logprobs, "sampler's log-prob": sampled, "reference's log-prob": reference}
                raise bad_token({**named, "advantage": advantages, "loss": losses}, mask, rows)

        self._together(check)
        torch.autograd.backward(loss)
        sums = {
            **sums,
            "entropy": (entropy.detach() * mask).sum(),
            "sampler_mismatch": ((old - sampled).abs() * mask).sum(),
            "loss": loss.detach(),
            "tokens": mask.sum(),
        }
        for name, value in sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)


def _rows(batch: Batch, packs: Sequence[Pack]) -> list[list[Row]]:
    return [[batch.rows[index] for index in pack] for pack in packs]


def _sampled(rows: Sequence[Row]) -> Tensor:
    """Log-probs recorded by the sampler, ``[rows, tokens]``."""
    return _padded([torch.tensor(row.logprobs, dtype=torch.float64) for row in rows])


def _padded(rows: Sequence[Tensor]) -> Tensor:
    """Stack rows of different lengths into one tensor, padded with zeros at the end."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
