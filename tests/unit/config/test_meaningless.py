"""Settings that no run can learn with are refused."""

from __future__ import annotations

from typing import Any

import pytest

from src.algorithms.grpo import GRPO
from src.optimizers.adamw import AdamW
from src.rewards.base import Reward
from src.settings import Section
from src.training.settings import Train
from tests.helpers.sections import mistakes

OUTCOME = {"_target_": "src.rewards.outcome.Outcome", "weight": 0.0}
TRAIN = {
    **{"steps": 1, "problems": 1, "micro_batch_tokens": 1, "max_grad_norm": 1.0},
    **{"sampler_tolerance": 0.0, "rollouts_every": 1},
}


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (GRPO, {"clip_low": 2.0}, "clip_low=2.0 must be in [0, 1]"),
        (AdamW, {"lr": 1e9}, "lr=1000000000.0 must be in (0, 1]"),
        (Reward, {"terms": {}}, "reward.terms is empty"),
        (Reward, {"terms": {"outcome": OUTCOME}}, "every weight in reward.terms is 0"),
        (Train, {**TRAIN, "threads": 5000}, "threads=5000 must be in [0, 1024]"),
    ],
)
def test_it_is_refused(kind: type[Section], values: dict[str, Any], words: str) -> None:
    found = mistakes(kind, **values)
    assert len(found) == 1
    assert words in found[0]
