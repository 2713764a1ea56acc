"""Losses and advantages are those of TRL's own code, on random tensors with masks and padding."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from src.algorithms.base import Tokens
from src.algorithms.cispo import CISPO
from src.algorithms.family import Family
from src.algorithms.grpo import GRPO
from src.algorithms.gspo import GSPO

trl = pytest.importorskip("trl.trainer.grpo_trainer", reason="TRL is installed with the extra dev")

LENGTHS = [7, 1, 12, 4, 9, 3]
LONGEST = 15
WIDTH = 14  # of the padded completions: more than any has
EQUAL = {"rtol": 0, "atol": 1e-5}


class Attributes(dict):
    """Metrics that nobody reads: every name is an empty list."""

    def __missing__(self, name: str) -> list:
        return self.setdefault(name, [])


def case(seed: int) -> dict[str, torch.Tensor]:
    """Random log-probs, advantages and masks, in double precision; what is padded is no number."""
    generator = torch.Generator().manual_seed(seed)

    def random(scale: float) -> torch.Tensor:
        return scale * torch.randn(len(LENGTHS), WIDTH, generator=generator, dtype=torch.float64)

    old = random(1.0) - 3
    mask = torch.arange(WIDTH)[None] < torch.tensor(LENGTHS)[:, None]
    return {
        "old": old,
        "logprobs": old + random(0.3),
        "sampled": old + random(0.2),
        "reference": old + random(0.5),
        "entropy": random(1.0).abs(),
        "advantages": random(1.0)[:, 0],
        "mask": mask,
    }


def theirs(tensors: dict[str, torch.Tensor], settings: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of TRL's ``GRPOTrainer._compute_loss`` and its gradient in the log-probs, on one device batch."""
    options = {
        "loss_type": "grpo",
        "importance_sampling_level": "token",
        "beta": 0.0,
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        "delta": None,
        "use_bias_correction_kl": False,
        "correction": None,
        "entropy_coef": 0.0,
        "truncated": [],
    } | settings
    logprobs = tensors["logprobs"].clone().requires_grad_()
    mask = tensors["mask"].long()
    for row in options["truncated"]:  # as ``mask_truncated_completions`` does
        mask[row] = 0
    trainer = object.__new__(trl.GRPOTrainer)
    names = ("loss_type", "importance_sampling_level", "beta", "epsilon_low", "epsilon_high", "entropy_coef")
    vars(trainer).update({name: options[name] for name in names})
    vars(trainer).update(
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(
            delta=options["delta"], use_bias_correction_kl=options["use_bias_correction_kl"], steps_per_generation=1
        ),
        accelerator=SimpleNamespace(
            num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, sync_gradients=False
        ),
        current_gradient_accumulation_steps=1,
        max_completion_length=LONGEST,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=options["correction"] is not None,
        vllm_importance_sampling_correction=True,
        aux_loss_enabled=False,
        use_adaptive_entropy=False,
        _entropy_bonus_enabled=options["entropy_coef"] != 0,
        _metrics={"train": Attributes()},
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, tensors["entropy"], None),
    )
    inputs = {
        "prompt_ids": torch.zeros(len(LENGTHS), 2, dtype=torch.long),
        "prompt_mask": torch.ones(len(LENGTHS), 2, dtype=torch.long),
        "completion_ids": torch.zeros_like(mask),
        "completion_mask": mask,
        "advantages": tensors["advantages"],
        "old_per_token_logps": tensors["old"],
        "ref_per_token_logps": tensors["reference"],
        "num_items_in_batch": mask.sum().float(),
    }
    if options["correction"] is not None:
        level, mode, floor, cap = options["correction"]
        # The weights are made in the middle of a method that samples; these are its lines.
        difference = (tensors["old"] - tensors["sampled"]) * mask
        weights = torch.exp(difference.sum(dim=-1, keepdim=True) if level == "sequence" else difference)
        if mode == "truncate":
            weights = torch.clamp(weights, min=floor, max=cap)
        else:
            weights = weights.masked_fill((weights < floor) | (weights > cap), value=0.0)
        inputs["importance_sampling_ratio"] = weights
    loss = trainer._compute_loss(None, inputs)
    return loss.detach(), torch.autograd.grad(loss, logprobs)[0]


def ours(
    algorithm: Family, tensors: dict[str, torch.Tensor], truncated: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by this project's algorithm: shares times token losses."""
    logprobs = tensors["logprobs"].clone().requires_grad_()
    mask = tensors["mask"].clone()
    mask[truncated] = False
    batch = Tokens(
        logprobs=logprobs,
        old=tensors["old"],
        sampled=tensors["sampled"],
        advantages=tensors["advantages"][:, None].expand_as(logprobs),
        mask=mask,
        entropy=tensors["entropy"],
        reference=tensors["reference"] if algorithm.kl_beta else None,
    )
    shares = algorithm.shares(mask.sum(-1).double(), torch.ones(len(mask)).double(), torch.arange(len(mask)))
    loss = (shares[:, None] * algorithm.token_loss(batch)[0] * mask).sum()
    return loss.detach(), torch.autograd.grad(loss, logprobs)[0]


CASES: dict[str, tuple[Family, dict[str, Any]]] = {
    "grpo": (GRPO(), {}),
    "bnpo": (GRPO(aggregation="bnpo"), {"loss_type": "bnpo"}),
    "dr_grpo": (GRPO(aggregation="dr_grpo", max_tokens=LONGEST), {"loss_type": "dr_grpo"}),
    "dapo, clip higher": (GRPO(aggregation="dapo", clip_high=0.28), {"loss_type": "dapo", "epsilon_high": 0.28}),
    "dual clip": (GRPO(dual_clip=1.3), {"delta": 1.3}),
    "k3": (GRPO(kl_beta=0.2), {"beta": 0.2}),
    "k3 times the ratio": (GRPO(kl_beta=0.2, kl_unbiased=True), {"beta": 0.2, "use_bias_correction_kl": True}),
    "gspo": (
        GSPO(clip_low=0.1, clip_high=0.15),
        {"importance_sampling_level": "sequence", "epsilon_low": 0.1, "epsilon_high": 0.15},
    ),
    "gspo, k3": (
        GSPO(clip_low=3e-4, clip_high=4e-4, kl_beta=0.1),
        {"importance_sampling_level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4, "beta": 0.1},
    ),
    "cispo": (  # TRL's epsilon_high is the cap itself
        CISPO(aggregation="dapo", clip_low=1.0, clip_high=0.25),
        {"loss_type": "cispo", "epsilon_high": 1.25},
    ),
    "entropy bonus": (GRPO(aggregation="dapo", entropy_bonus=0.3), {"loss_type": "dapo", "entropy_coef": 0.3}),
    "token truncation": (
        GRPO(correction="token", correction_floor=0.9, correction_cap=1.1, kl_beta=0.2),
        {"correction": ("token", "truncate", 0.9, 1.1), "beta": 0.2},
    ),
    "token mask": (
        GRPO(correction="token", correction_mode="mask", correction_floor=0.9, correction_cap=1.1),
        {"correction": ("token", "mask", 0.9, 1.1)},
    ),
    "sequence truncation": (
        CISPO(aggregation="dapo", clip_low=1.0, clip_high=0.25, correction="sequence", correction_cap=1.1),
        {"loss_type": "cispo", "epsilon_high": 1.25, "correction": ("sequence", "truncate", 0.0, 1.1)},
    ),
    "sequence mask": (
        GSPO(correction="sequence", correction_mode="mask", correction_cap=1.5),
        {"importance_sampling_level": "sequence", "correction": ("sequence", "mask", 0.0, 1.5)},
    ),
} | {
    f"{name} without truncated completions": (
        GRPO(aggregation=name, max_tokens=LONGEST, kl_beta=0.2),
        {"loss_type": name, "beta": 0.2, "truncated": [0, 3]},
    )
    for name in ("grpo", "bnpo", "dapo", "dr_grpo")
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_are_trls(name: str, seed: int) -> None:
    algorithm, settings = CASES[name]
    assert algorithm.check() == []
    tensors = case(seed)
    loss, gradient = ours(algorithm, tensors, settings.get("truncated", []))
    their_loss, their_gradient = theirs(tensors, settings)
    assert float(their_gradient.abs().max()) > 1e-3
    torch.testing.assert_close(loss, their_loss, **EQUAL)
    torch.testing.assert_close(gradient, their_gradient, **EQUAL)
