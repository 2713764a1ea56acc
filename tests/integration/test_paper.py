"""Settings of the paper's recipes against the published ones, copied by hand (arXiv 2507.02851 and its code)."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from src.config import compose
from src.types import InputError

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

BOTH = {
    "model.name": "Qwen/Qwen2.5-3B-Instruct",
    "model.quantization": "nf4",
    "model.lora.r": 64,
    "model.lora.alpha": 64,
    "model.lora.targets": PROJECTIONS,
    "model.context": 2048,
    "benchmark.train.hub": "openai/gsm8k",
    "benchmark.train.split": "train",
    "benchmark.train.after": "####",
    "benchmark.train_size": None,
    "benchmark.validation_size": 0,
    "rounds.responses": 8,
    "rounds.first_tokens": 1024,
    "rounds.temperature": 1.0,
    "rounds.top_p": 1.0,
    "rounds.stop_at_answer": False,
    "rounds.carry._target_": "src.rounds.carry.answer.Answer",
    "optimizer._target_": "src.optimizers.adamw_8bit.AdamW8bit",
    "optimizer.lr": 5e-6,
    "optimizer.betas": [0.9, 0.99],
    "optimizer.weight_decay": 0.1,
    "optimizer.schedule": "cosine",
    "optimizer.warmup": 0.1,
    "optimizer.final": 0.0,
    "train.problems": 1,
    "train.max_grad_norm": 0.1,
    "algorithm.aggregation": "bnpo",
    "algorithm.loss_batch": 8,
    "algorithm.scale": "group",
    "algorithm.clip_low": 0.2,
    "algorithm.clip_high": 0.2,
    "algorithm.kl_beta": 0.0,
    "algorithm.iterations": 1,
    "credit._target_": "src.credit.first.First",
    "reward.terms.accuracy._target_": "src.rewards.published.Accuracy",
    "reward.terms.accuracy.corrected": False,
    "reward.terms.strict.corrected": False,
    "reward.terms.soft.corrected": False,
    "reward.terms.tags.corrected": False,
    "evaluation.temperature": 0,
    "evaluation.samples": 1,
    "evaluation.also": ["published"],
}
MOTIF = {
    "rounds.n": 3,
    "rounds.trajectories": 4,
    "rounds.branching": None,
    "rounds.continuation": "base",
    "rounds.later_tokens": 2048,
    "rounds.later_temperature": 0.8,
    "rounds.later_top_p": 0.95,
    "train.steps": 1000,
    "checkpoint.every": 100,
    "checkpoint.keep": 0,
}
GRPO = {"rounds.n": 1, "train.steps": 2000, "checkpoint.every": 250, "checkpoint.keep": 0}


@pytest.mark.parametrize(("recipe", "own"), [("paper-motif", MOTIF), ("paper-grpo", GRPO)])
def test_the_recipes_use_every_published_number(recipe, own):
    config = compose("train", [f"experiment={recipe}"]).node
    found = {key: OmegaConf.select(config, key, default="there is no such key") for key in {**BOTH, **own}}
    plain = {
        key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value for key, value in found.items()
    }
    assert plain == {**BOTH, **own}
    assert dict(config.benchmark.tests).keys() == {"math500", "aime2024"}


@pytest.mark.parametrize("recipe", ["paper-motif", "paper-grpo"])
def test_another_model_changes_no_other_section(recipe):
    paper = compose("train", [f"experiment={recipe}"])
    other = compose("train", [f"experiment={recipe}", "model=tiny"])
    sections = [section for section in paper.values if section not in ("model", "rounds")]
    assert {section: paper.values[section] for section in sections} == {
        section: other.values[section] for section in sections
    }
    assert len(sections) > 8
    assert paper.settings.rounds.replace(prompts=other.settings.rounds.prompts) == other.settings.rounds
    assert paper.settings.rounds != other.settings.rounds


def test_the_system_prompt_can_be_dropped_for_one_split():
    overrides = ["model/prompts=instruct", "benchmark=paper", "evaluation.no_system=[aime2024]"]
    settings = compose("evaluate", overrides).settings
    strategy = settings.rounds
    chains = {split: settings.evaluation.chains(strategy, split, 2) for split in ("math500", "aime2024")}
    roles = {
        split: [message["role"] for message in chain.prompts.messages("1 + 1?", None, 1, 2)]
        for split, chain in chains.items()
    }
    assert roles == {"math500": ["system", "user"], "aime2024": ["user"]}
    assert chains["aime2024"].replace(prompts=strategy.prompts) == chains["math500"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["evaluation.no_system=[aime]"], r"evaluation\.no_system=\['aime'\]: .*valid: math500, aime2024"),
        (
            ["evaluation.every=5"],
            r"evaluation\.every=5 needs a validation split, but benchmark\.validation_size=0",
        ),
    ],
)
def test_invalid_evaluation_settings_are_refused(overrides, message):
    with pytest.raises(InputError, match=message):
        compose("train", ["experiment=paper-motif", *overrides])


def test_a_warm_up_needs_a_validation_split():
    with pytest.raises(InputError, match=r"imitation\.validation_problems=64 needs a validation split"):
        compose("warmup", ["benchmark=gsm8k", "benchmark.validation_size=0"])
