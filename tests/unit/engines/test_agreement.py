"""The self-check accepts what agrees, and names the family and the difference where something does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from src.engines.agreement import check_agreement
from src.engines.local.engine import LocalEngine
from src.models.policy import Policy
from src.types import InputError, Turn
from tests.helpers.tiny_models import save_tiny, tiny_policy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


class Shifted(LocalEngine):
    """An engine whose log-probs are off by half a nat."""

    def generate(self, turns: Sequence[Turn], *arguments: Any, **options: Any) -> list[Turn]:
        done = super().generate(turns, *arguments, **options)
        return [replace(turn, logprobs=tuple(value - 0.5 for value in turn.logprobs)) for turn in done]


class Stale(LocalEngine):
    """An engine that samples from the base in place of the policy."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(tiny_policy(Path(policy.codec.tokenizer.name_or_path), adapt=False))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("adapt", [True, False], ids=["trained", "fresh"])
def test_the_local_engine_agrees_and_nothing_changes(folder: Path, dtype: str, adapt: bool) -> None:
    policy = tiny_policy(folder, dtype, adapt=adapt)
    before, state = policy.trained_hash(), torch.get_rng_state()
    check_agreement(policy, LocalEngine(policy), "tiny", 128)
    assert policy.trained_hash() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_an_engine_with_other_log_probs_is_refused(folder: Path) -> None:
    policy = tiny_policy(folder)
    with pytest.raises(
        InputError, match=r"engine samples with log-probs of the policy that differ by 0\.5 nats.*qwen2"
    ):
        check_agreement(policy, Shifted(policy), "tiny", 128)


def test_a_fresh_adapter_cannot_hide_an_engine_that_ignores_it(folder: Path) -> None:
    policy = tiny_policy(folder, adapt=False)
    with pytest.raises(InputError, match="engine samples with log-probs of the policy"):
        check_agreement(policy, Stale(policy), "tiny", 128)


def test_a_learner_with_other_log_probs_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny_policy(folder)
    compute = policy.completion_logprobs

    def wrong(packs: Any, base: bool = False) -> Any:
        logprobs, entropy, mask = compute(packs, base)
        return (logprobs - 1.0 if base else logprobs), entropy, mask

    monkeypatch.setattr(policy, "completion_logprobs", wrong)
    with pytest.raises(InputError, match="learner trains with log-probs of the base that differ by 1 nats"):
        check_agreement(policy, LocalEngine(policy), "tiny", 128)


def test_a_family_that_crashes_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny_policy(folder)
    monkeypatch.setattr(policy, "completion_logprobs", lambda *arguments, **options: [][0])
    with pytest.raises(InputError, match="the family qwen2 is not supported"):
        check_agreement(policy, LocalEngine(policy), "tiny", 128)
