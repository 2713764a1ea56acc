"""Losses and advantages equal those of TRL's own code, on random tensors with masks and padding."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from src.algorithms.base import Tokens
from src.algorithms.cispo import CISPO
from src.algorithms.grpo import GRPO
from src.algorithms.gspo import GSPO
from src.rewards.base import normalised

trl = pytest.importorskip("trl.trainer.grpo_trainer", reason="TRL is installed with the extra dev")

LENGTHS = [7, 1, 12, 4, 9, 3]
WIDTH = max(LENGTHS)
LONGEST = 15  # that a completion may be
GROUP = 3
PAD, END = 0, 1
REWARD_WEIGHTS = [1.0, 0.5]
EQUAL = {"rtol": 0, "atol": 1e-5}


def case(seed: int) -> dict[str, torch.Tensor]:
    """Random log-probs and rewards, in double precision, and masks of padded rows."""
    generator = torch.Generator().manual_seed(seed)

    def random(scale: float) -> torch.Tensor:
        return scale * torch.randn(len(LENGTHS), WIDTH, generator=generator, dtype=torch.float64)

    old = random(1.0) - 3
    return {
        "old": old,
        "logprobs": old + random(0.3),
        "sampled": old + random(0.2),
        "reference": old + random(0.5),
        "entropy": random(1.0).abs(),
        "rewards": random(1.0)[:, :2],
        "mask": torch.arange(WIDTH)[None] < torch.tensor(LENGTHS)[:, None],
    }


class Trainer(trl.GRPOTrainer):
    """TRL's trainer on one batch whose completions, log-probs and rewards are given; all else is its own code."""

    def __init__(self, tensors: dict[str, torch.Tensor], truncated: list[int], **settings: Any) -> None:
        self.tensors = tensors
        self.logprobs = tensors["logprobs"].clone().requires_grad_()
        options = {name: settings.pop(name) for name in ("delta", "use_bias_correction_kl") if name in settings}
        correction = settings.pop("vllm_importance_sampling_mode", None)
        self.truncated = truncated
        self.model = torch.nn.Identity()
        self.model.is_gradient_checkpointing = False
        self.ref_model = torch.nn.Identity()
        self.accelerator = SimpleNamespace(
            device=torch.device("cpu"),
            num_processes=1,
            process_index=0,
            gather=lambda x: x,
            reduce=lambda x, reduction: x,
            sync_gradients=False,
        )
        self.args = SimpleNamespace(
            per_device_train_batch_size=len(LENGTHS),
            steps_per_generation=1,
            gradient_accumulation_steps=1,
            gradient_checkpointing_kwargs=None,
            **{"delta": None, "use_bias_correction_kl": False, **options},
        )
        fixed = {
            "environments": None,
            "environment_factories": None,
            "_multi_environment": False,
            "tools": None,
            "_is_vlm": False,
            "_tokenizer": SimpleNamespace(pad_token_id=PAD),
            "eos_token_ids": [END],
            "pad_to_multiple_of": None,
            "num_iterations": 2,  # so that the log-probs of the policy that sampled are kept
            "num_generations": GROUP,
            "current_gradient_accumulation_steps": 1,
            "max_completion_length": LONGEST,
            "top_entropy_quantile": 1.0,
            "off_policy_mask_threshold": None,
            "aux_loss_enabled": False,
            "use_adaptive_entropy": False,
            "log_multimodal": False,
            "reward_funcs": [None, None],
            "reward_func_names": ["first", "second"],
            "reward_weights": torch.tensor(REWARD_WEIGHTS, dtype=torch.float64),
            "use_vllm": correction is not None,
            "vllm_importance_sampling_correction": True,
            "vllm_importance_sampling_mode": correction,
            "_pending_extra_logs": {},
            "_pending_metrics": {},
            "_metrics": {"train": defaultdict(list)},
            "_logs": {"prompt": [], "completion": [], "advantages": [], "rewards": defaultdict(list), "extra": {}},
        }
        usual = {
            "loss_type": "grpo",
            "importance_sampling_level": "token",
            "beta": 0.0,
            "epsilon_low": 0.2,
            "epsilon_high": 0.2,
            "entropy_coef": 0.0,
            "scale_rewards": "group",
            "multi_objective_aggregation": "sum_then_normalize",
            "mask_truncated_completions": bool(truncated),
        }
        vars(self).update(fixed | usual | settings)
        self._entropy_bonus_enabled = self.entropy_coef != 0

    def _generate(self, prompts: list[str]) -> tuple[Any, ...]:
        ids = [[5] * (length - 1) + [5 if row in self.truncated else END] for row, length in enumerate(LENGTHS)]
        sampled = [row[:length].tolist() for row, length in zip(self.tensors["sampled"], LENGTHS, strict=True)]
        own = None
        if "environment" in self.tensors:
            masks = zip(~self.tensors["environment"], LENGTHS, strict=True)
            own = [row[:length].int().tolist() for row, length in masks]
        return [[3, 4]] * len(ids), ids, own, [""] * len(ids), sampled, {}, None, None

    def _get_per_token_logps_and_entropies(self, model: Any, *_: Any, **options: Any) -> tuple[Any, Any, None]:
        if options.get("compute_entropy"):
            return self.logprobs, self.tensors["entropy"], None
        return self.tensors["reference" if model is self.ref_model else "old"], None, None

    def _calculate_rewards(self, *_: Any) -> torch.Tensor:
        return self.tensors["rewards"]

    def sampled(self) -> dict[str, torch.Tensor]:
        """A batch with its advantages, masks and weights."""
        return self._generate_and_score_completions([{"prompt": "?"} for _ in LENGTHS])

    def loss(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and its gradient in the log-probs."""
        loss = self._compute_loss(self.model, self.sampled())
        return loss.detach(), torch.autograd.grad(loss, self.logprobs)[0]


def advantages(algorithm: GRPO, tensors: dict[str, torch.Tensor]) -> list[float]:
    """This project's advantages of the same rewards, group after group."""
    values = (tensors["rewards"] * torch.tensor(REWARD_WEIGHTS, dtype=torch.float64)).sum(-1)
    return [one for group in algorithm.advantages(values.view(-1, GROUP).tolist()) for one in group]


def ours(algorithm: GRPO, tensors: dict[str, torch.Tensor], truncated: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by this project's algorithm: shares times token losses."""
    logprobs = tensors["logprobs"].clone().requires_grad_()
    mask = tensors["mask"].clone()
    mask[truncated] = False
    if "environment" in tensors:
        mask &= ~tensors["environment"]
    batch = Tokens(
        logprobs=logprobs,
        old=tensors["old"],
        sampled=tensors["sampled"],
        advantages=torch.tensor(advantages(algorithm, tensors), dtype=torch.float64)[:, None].expand_as(logprobs),
        mask=mask,
        entropy=tensors["entropy"],
        reference=tensors["reference"] if algorithm.kl_beta else None,
    )
    shares = algorithm.shares(mask.sum(-1).double(), torch.ones(len(mask)).double(), torch.arange(len(mask)))
    loss = (shares[:, None] * algorithm.token_loss(batch)[0] * mask).sum()
    return loss.detach(), torch.autograd.grad(loss, logprobs)[0]


CASES: dict[str, tuple[GRPO, dict[str, Any]]] = {
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
        {
            "vllm_importance_sampling_mode": "token_truncate",
            "vllm_importance_sampling_clip_min": 0.9,
            "vllm_importance_sampling_clip_max": 1.1,
            "beta": 0.2,
        },
    ),
    "token mask": (
        GRPO(correction="token", correction_mode="mask", correction_floor=0.9, correction_cap=1.1),
        {
            "vllm_importance_sampling_mode": "token_mask",
            "vllm_importance_sampling_clip_min": 0.9,
            "vllm_importance_sampling_clip_max": 1.1,
        },
    ),
    "sequence truncation": (
        CISPO(aggregation="dapo", clip_low=1.0, clip_high=0.25, correction="sequence", correction_cap=1.1),
        {
            "loss_type": "cispo",
            "epsilon_high": 1.25,
            "vllm_importance_sampling_mode": "sequence_truncate",
            "vllm_importance_sampling_clip_min": 0.0,
            "vllm_importance_sampling_clip_max": 1.1,
        },
    ),
    "sequence mask": (
        GSPO(correction="sequence", correction_mode="mask", correction_cap=1.5),
        {
            "importance_sampling_level": "sequence",
            "vllm_importance_sampling_mode": "sequence_mask",
            "vllm_importance_sampling_clip_min": 0.0,
            "vllm_importance_sampling_clip_max": 1.5,
        },
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
    tensors = case(seed)
    truncated = settings.get("truncated", [])
    loss, gradient = ours(algorithm, tensors, truncated)
    their_loss, their_gradient = Trainer(tensors, **{"truncated": [], **settings}).loss()
    assert float(their_gradient.abs().max()) > 1e-3
    torch.testing.assert_close(loss, their_loss, **EQUAL)
    torch.testing.assert_close(gradient, their_gradient, **EQUAL)


@pytest.mark.parametrize("name", CASES)
def test_losses_with_tokens_of_an_environment_are_trls(name: str) -> None:
    algorithm, settings = CASES[name]
    tensors = case(7)
    tensors["environment"] = (torch.arange(WIDTH) % 3 == 1).expand(len(LENGTHS), WIDTH)
    loss, gradient = ours(algorithm, tensors, settings.get("truncated", []))
    their_loss, their_gradient = Trainer(tensors, **{"truncated": [], **settings}).loss()
    assert not gradient[tensors["environment"]].any()
    assert float(their_gradient.abs().max()) > 1e-3
    torch.testing.assert_close(loss, their_loss, **EQUAL)
    torch.testing.assert_close(gradient, their_gradient, **EQUAL)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_are_trls(scale: Any, seed: int) -> None:
    tensors = case(seed)
    tensors["rewards"][GROUP:] = tensors["rewards"][GROUP]  # a group without spread
    wanted = Trainer(tensors, [], scale_rewards=scale).sampled()["advantages"]
    assert advantages(GRPO(scale=scale), tensors) == pytest.approx(wanted.tolist(), abs=1e-5)
    assert float(wanted[:GROUP].abs().max()) > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_terms_normalised_before_they_are_summed_give_trls_gdpo(seed: int) -> None:
    tensors = case(seed)
    tensors["rewards"][:GROUP, 1] = 0.25  # a term without spread in its group
    wanted = Trainer(tensors, [], multi_objective_aggregation="normalize_then_sum").sampled()["advantages"]
    groups = range(len(LENGTHS) // GROUP)
    terms = [
        [
            normalised({(row,): float(tensors["rewards"][group * GROUP + row, term]) for row in range(GROUP)})
            for term in (0, 1)
        ]
        for group in groups
    ]
    values = [
        [
            sum(weight * table[row,] for weight, table in zip(REWARD_WEIGHTS, tables, strict=True))
            for row in range(GROUP)
        ]
        for tables in terms
    ]
    found = [one for group in GRPO(scale="batch").advantages(values) for one in group]
    assert found == pytest.approx(wanted.tolist(), abs=1e-5)
