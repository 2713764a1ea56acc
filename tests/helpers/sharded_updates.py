"""Updates with sharded weights, compared with those of one process: ``python -m tests.helpers.sharded_updates``.

Arguments: a folder with a tiny model, and optionally the name of a method of FSDP's modules that is made to do nothing.
"""

from __future__ import annotations

import sys
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.fsdp import FSDPModule
from torch.optim.lr_scheduler import LambdaLR

from src.algorithms.grpo import GRPO
from src.models.loading import load_policy
from src.models.policy import Policy
from src.models.sharding import sharded_state, whole_state
from src.parallel import world
from src.rounds.growing import ALONE, World
from src.training.learner import Learner
from src.types import NumberError
from tests.helpers.tiny_models import adapted, random_rows, tiny_config

UNEQUAL = [(3, 9), (20, 1), (1, 14), (7, 7), (30, 4), (2, 2), (11, 12)]


@dataclass
class Case:
    """Settings of one comparison; ``budget`` is ``micro_batch_tokens``."""

    algorithm: GRPO
    full: bool = False
    again: bool = False  # gradient checkpointing
    rows: int = len(UNEQUAL)
    budget: int = 40
    dtype: str = "float64"


CASES = {
    "LoRA, KL in the loss": Case(GRPO(kl_beta=0.3, iterations=2)),
    "LoRA, KL in the reward, gradient checkpointing": Case(GRPO(kl_beta=0.3, kl_in="reward"), again=True),
    "LoRA, one row for two processes": Case(GRPO(kl_beta=0.3), rows=1),
    "all weights, entropy bonus": Case(GRPO(entropy_bonus=0.1, iterations=2), full=True),
    "all weights, gradient checkpointing": Case(GRPO(aggregation="dapo"), full=True, again=True, budget=10**6),
    "no rows": Case(GRPO(), rows=0),
    "float32": Case(GRPO(), dtype="float32"),
}


def policy_of(folder: Path, case: Case) -> Policy:
    changes = {"lora": None} if case.full else {}
    config = tiny_config(folder, case.dtype).replace(gradient_checkpointing=case.again, **changes)
    return adapted(load_policy(config, 0))


def learner(policy: Policy, case: Case, processes: World) -> Learner:
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.1, eps=1.0)
    schedule = LambdaLR(optimizer, lambda step: 1.0)
    return Learner(policy, case.algorithm, optimizer, schedule, case.budget, 0.5, world=processes)


def weights(policy: Policy) -> dict[str, torch.Tensor]:
    with policy.gathered():
        return {name: value.detach().clone() for name, value in policy.model.named_parameters() if value.requires_grad}


def compare(folder: Path, place: Path, case: Case, processes: World) -> None:
    """Two updates, a checkpoint, a third update; then the weights of the checkpoint again."""
    near = {"rel": 1e-9, "abs": 1e-12} if case.dtype == "float64" else {"rel": 1e-5, "abs": 1e-6}
    rows = [random_rows(seed, UNEQUAL[: case.rows]) for seed in range(3)]
    alone, sharded = policy_of(folder, case), policy_of(folder, case)
    sharded.shard(1, 2)
    assert sharded.trained_hash() == alone.trained_hash()
    one, two = learner(alone, case, ALONE), learner(sharded, case, processes)
    for step in range(2):
        assert two.update(rows[step]) == pytest.approx(one.update(rows[step]), **near)
    state = deepcopy(whole_state(two.optimizer.state_dict(), keep=True))  # the next update counts on in its steps
    expected = one.optimizer.state_dict()["state"]
    assert state["state"].keys() == expected.keys()
    for index, moments in expected.items():
        for name, value in moments.items():
            torch.testing.assert_close(state["state"][index][name], value, rtol=near["rel"], atol=near["abs"])
    with sharded.gathered():
        processes.lead(lambda: sharded.save(place))
    saved = sharded.trained_hash()
    once, third = weights(sharded), two.update(rows[2])
    assert third == pytest.approx(one.update(rows[2]), **near)
    assert sharded.trained_hash() != saved or not case.rows
    for name, value in weights(alone).items():
        torch.testing.assert_close(weights(sharded)[name], value, rtol=near["rel"], atol=near["abs"])
    sharded.load(place)
    two.optimizer.load_state_dict(sharded_state(state, sharded.parameters()))
    assert sharded.trained_hash() == saved
    assert all(torch.equal(value, once[name]) for name, value in weights(sharded).items())
    assert two.update(rows[2]) == third, "continued from whole tensors, bit for bit"
    other = policy_of(folder, case)
    other.load(place)
    assert other.trained_hash() == saved


class Poisoned(GRPO):
    """A loss that is NaN in one process."""

    def token_loss(self, tokens: Any) -> Any:
        losses, sums = super().token_loss(tokens)
        return losses * (float("nan") if world().rank == 1 else 1.0), sums


def check_error(folder: Path, processes: World) -> None:
    """A NaN in one process is an error in both; the next update works."""
    case = Case(Poisoned())
    policy = policy_of(folder, case)
    policy.shard(1, 2)
    subject, rows = learner(policy, case, processes), random_rows(0, UNEQUAL)
    before = policy.trained_hash()
    for _ in range(2):
        with pytest.raises(NumberError, match="the loss of a token is not finite"):
            subject.update(rows)
    assert replace(subject, on_nonfinite="skip").update(rows)["nonfinite"] == 1
    assert policy.trained_hash() == before
    subject.algorithm = GRPO()
    assert subject.update(rows)["nonfinite"] == 0
    assert policy.trained_hash() != before


def main(folder: Path, without: str | None = None) -> None:
    processes = world()
    torch.use_deterministic_algorithms(True, warn_only=True)
    if without is not None:  # in float32: FSDP always sums float64
        getattr(FSDPModule, without)
        setattr(FSDPModule, without, lambda self, value: None)
        compare(folder, folder / "saved", CASES["float32"], processes)
        return
    for name, case in CASES.items():
        try:
            compare(folder, folder / f"saved {name}", case, processes)
        except BaseException as error:
            error.add_note(name)
            raise
    check_error(folder, processes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
