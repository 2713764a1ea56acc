"""``engine=vllm-server`` generates the same turns as ``engine=local``, whatever its servers do."""

from __future__ import annotations

import gc
import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from src.config import compose
from src.engines.local.engine import LocalEngine
from src.engines.server import pool
from src.engines.server.engine import ServerEngine
from src.engines.server.probing import Version
from src.engines.server.settings import VLLMServer
from src.models.policy import Policy
from src.models.settings import Lora, ModelSettings
from src.types import InputError, Sampling, Turn, Writer
from src.utils.services import UnavailableError
from tests.helpers.fake_vllm import FakeVLLM, error
from tests.helpers.tiny_models import adapted, random_tokens, save_tiny, tiny_policy

COMPLETIONS, LOAD, UNLOAD, MODELS = (
    f"/v1/{name}" for name in ("completions", "load_lora_adapter", "unload_lora_adapter", "models")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def policy(folder: Path) -> Policy:
    return tiny_policy(folder)


@pytest.fixture
def servers(folder: Path) -> Iterator[list[FakeVLLM]]:
    made = [FakeVLLM(folder) for _ in range(2)]
    yield made
    for server in made:
        server.hangs = False
        server.stop()


@pytest.fixture
def server(servers: list[FakeVLLM]) -> FakeVLLM:
    return servers[0]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PAUSES", (0.01, 0.05))


def engine(policy: Policy, servers: Sequence[FakeVLLM] | FakeVLLM, **settings: Any) -> ServerEngine:
    model = ModelSettings(name="tiny", context=128, round_tokens=32, dtype="float32", lora=Lora(r=4, alpha=8))
    urls = [one.url for one in ([servers] if isinstance(servers, FakeVLLM) else servers)]
    return VLLMServer(**{"urls": urls, "patience": 20.0, "seconds": 20.0, **settings}).build(policy, model)


def no_children(turn: Turn) -> list[Turn]:
    return []


def prompts(seed: int, count: int, sampling: Sampling, writer: Writer = Writer.POLICY) -> list[Turn]:
    rng = random.Random(seed)
    return [
        Turn((index,), random_tokens(rng, rng.randint(2, 30)), sampling, writer, stream=rng.getrandbits(128))
        for index in range(count)
    ]


def facts(turns: Sequence[Turn]) -> dict:
    return {turn.path: (turn.completion, turn.status, turn.text) for turn in turns}


def local(policy: Policy, turns: Sequence[Turn]) -> dict:
    return facts(LocalEngine(policy, native=False).generate(turns, no_children))


@pytest.mark.parametrize("writer", [Writer.POLICY, Writer.BASE])
def test_a_greedy_tree_equals_that_of_the_local_engine(policy: Policy, servers: list, writer: Writer) -> None:
    roots = prompts(1, 6, Sampling(8, 0.0), writer)

    def children(turn: Turn) -> list[Turn]:
        if turn.round == 2:
            return []
        prompt = turn.prompt[:20] + turn.completion[:8]
        return [Turn((*turn.path, index), (*prompt, 5 + index), turn.sampling, writer) for index in range(2)]

    ours = LocalEngine(policy, native=False).generate(roots, children)
    theirs = engine(policy, servers).generate(roots, children)
    assert facts(theirs) == facts(ours)
    known = {turn.path: turn for turn in ours}
    for turn in theirs:
        assert turn.logprobs == pytest.approx(known[turn.path].logprobs, abs=1e-3)
        assert turn.model_logprobs == turn.logprobs
    asked = [one.paths().count(COMPLETIONS) - 6 for one in servers]  # without the checks of base and adapter
    assert min(asked) >= len(theirs) // 4


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.0, 0.9)])
def test_log_probs_are_those_of_the_full_distribution_or_empty(
    policy, server, temperature: float, top_p: float
) -> None:
    for turn in engine(policy, server).generate(prompts(4, 3, Sampling(5, temperature, top_p)), no_children):
        assert bool(turn.logprobs) == (top_p == 1)
        assert bool(turn.model_logprobs) == (top_p == 1 and temperature == 1)


def test_a_turns_tokens_come_from_its_own_stream(policy: Policy, servers: list) -> None:
    turns, writer = prompts(5, 6, Sampling(8)), engine(policy, servers)
    together = facts(writer.generate(turns, no_children))
    assert facts(writer.generate(turns[::-1], no_children)) == together
    assert facts(writer.generate(turns[:1], no_children)) == {(0,): together[0,]}
    others = [replace(turn, stream=turn.stream + 1) for turn in turns]
    assert facts(writer.generate(others, no_children)) != together


def test_every_update_is_a_new_adapter_and_old_ones_are_unloaded(policy: Policy, servers: list) -> None:
    roots, writer, seen = prompts(2, 4, Sampling(6, 0.0)), engine(policy, servers), []
    for seed in (1, 2, 3):
        adapted(policy, scale=0.2, seed=seed)
        seen.append(facts(writer.generate(roots, no_children)))
        assert seen[-1] == local(policy, roots)
        assert facts(writer.generate(roots, no_children)) == seen[-1]  # the same weights are not loaded again
    assert seen[0] != seen[1] != seen[2]
    for one in servers:
        names = [body["lora_name"] for path, body, _ in one.requests if path == LOAD]
        assert len(names) == len(set(names)) == 4
        assert list(one.adapters) == names[-1:]
    assert len(list(writer._folder.iterdir())) == 1


def test_the_end_of_the_engine_unloads_its_adapters_and_removes_its_files(policy: Policy, server: FakeVLLM) -> None:
    writer = engine(policy, server)
    files = writer._folder
    assert server.adapters
    assert files.is_dir()
    del writer
    gc.collect()
    assert not server.adapters
    assert not files.exists()


def test_the_base_uses_the_adapter_that_the_run_started_from(policy: Policy, server: FakeVLLM) -> None:
    policy.start = [parameter.detach().clone() for parameter in policy.parameters()]
    roots = prompts(3, 4, Sampling(6, 0.0), Writer.BASE)
    roots += [replace(turn, path=(4 + index,), writer=Writer.POLICY) for index, turn in enumerate(roots)]
    adapted(policy, scale=0.2, seed=5)
    assert facts(engine(policy, server).generate(roots, no_children)) == local(policy, roots)
    assert len(server.adapters) == 2 - 2 * (not server.adapters)


@pytest.mark.parametrize("what", ["the base weights", "the policy of an update before"])
def test_a_server_that_samples_from_other_weights_is_noticed(policy: Policy, server: FakeVLLM, what: str) -> None:
    writer = engine(policy, server)
    (first,) = server.adapters
    kept = server.adapters[first]
    server.serves = {"the base weights": lambda name: "tiny", "the policy of an update before": lambda name: "kept"}[
        what
    ]
    server.adapters["kept"] = kept
    if what == "the policy of an update before":
        server.serves = lambda name: name if name == "tiny" else "kept"
    for parameter in policy.parameters():
        parameter.data += 0.002  # a small update, whose log-probs are within rounding for bfloat16
    with pytest.raises(UnavailableError, match=f"it answers with {what} in place of the policy"):
        writer.generate(prompts(2, 2, Sampling(3)), no_children)


def test_weights_of_another_model_are_refused_at_the_start(policy: Policy, tmp_path: Path) -> None:
    server = FakeVLLM(save_tiny(tmp_path, seed=9))
    with pytest.raises(InputError, match=r"differ by .* nats from the base weights .*vllm serve .* --dtype float32"):
        engine(policy, server)
    server.stop()


def test_log_probs_before_temperature_are_refused_at_the_start(policy: Policy, server: FakeVLLM) -> None:
    server.raw = True
    with pytest.raises(InputError, match=r"start it with --logprobs-mode processed_logprobs"):
        engine(policy, server)


def test_versions_are_told_apart_only_beyond_rounding() -> None:
    here = torch.randn(4, 50, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    noise = torch.randn(4, 50, generator=torch.Generator().manual_seed(1))
    for gap, rounding, noticed in ((0.05, 0.001, True), (0.001, 0.01, False), (0.0, 0.01, False)):
        other = here + gap * torch.randn(4, 50, generator=torch.Generator().manual_seed(2))
        version = Version("the policy", here, {"the base": other}, torch.bfloat16)
        tables = [
            [
                {int(token): float(row[token]) for token in top}
                for row, top in zip(rows, here.topk(5).indices, strict=True)
            ]
            for rows in (other + rounding * noise, here + rounding * noise)
        ]
        assert (version.fault(tables[0]) is not None) == noticed
        assert version.fault(tables[1]) is None


def test_a_server_that_is_restarted_in_mid_run_costs_only_time(policy: Policy, server: FakeVLLM) -> None:
    turns, writer = prompts(6, 8, Sampling(6)), engine(policy, server, at_once=2)
    expected, restarted = facts(writer.generate(turns, no_children)), []

    def restart(turn: Turn) -> list[Turn]:
        if not restarted:
            restarted.append(threading.Timer(0.2, server.start))
            server.stop()
            restarted[0].start()
        return []

    assert facts(writer.generate(turns, restart)) == expected
    assert server.paths().count(LOAD) == 2  # the adapter was loaded again


def test_a_dead_server_leaves_its_turns_to_the_others(policy: Policy, servers: list[FakeVLLM]) -> None:
    turns, writer = prompts(6, 6, Sampling(5)), engine(policy, servers)
    expected = facts(writer.generate(turns, no_children))
    servers[1].stop()
    adapted(policy, seed=8)
    changed = facts(writer.generate(turns, no_children))
    assert changed != expected
    assert changed == facts(engine(policy, servers[0]).generate(turns, no_children))
    servers[1].start()


def test_an_evicted_adapter_is_loaded_again(policy: Policy, server: FakeVLLM) -> None:
    turns, writer = prompts(6, 3, Sampling(5)), engine(policy, server)
    expected = facts(writer.generate(turns, no_children))
    server.adapters.clear()
    assert facts(writer.generate(turns, no_children)) == expected
    assert len(server.adapters) == 1


@pytest.mark.parametrize("answer", [(503, error("overloaded")), (500, "<html>oops</html>"), (0, "")])
def test_answers_that_may_be_better_next_time_are_asked_for_again(policy: Policy, server: FakeVLLM, answer) -> None:
    turns, writer = prompts(6, 3, Sampling(5)), engine(policy, server)
    expected = facts(writer.generate(turns, no_children))
    server.answers[COMPLETIONS] = [answer]
    assert facts(writer.generate(turns, no_children)) == expected


def test_an_aborted_request_is_asked_for_again(policy: Policy, server: FakeVLLM) -> None:
    turns, writer = prompts(6, 3, Sampling(5)), engine(policy, server)
    expected, first = facts(writer.generate(turns, no_children)), []

    def abort(answer: dict) -> dict:
        if not first:
            first.append(answer["choices"][0].update(finish_reason="abort"))
        return answer

    server.spoil = abort
    assert facts(writer.generate(turns, no_children)) == expected


def test_a_turn_that_fails_every_time_ends_the_run_with_the_servers_words(policy: Policy, server: FakeVLLM) -> None:
    writer = engine(policy, server, tries=2)
    honest = server.answer
    server.answer = lambda path, body, headers: (
        (500, error("no memory")) if body.get("max_tokens") == 5 else honest(path, body, headers)
    )
    with pytest.raises(UnavailableError, match=r"127.*HTTP 500 \(no memory\); a turn failed 2 times \(engine\.tries\)"):
        writer.generate(prompts(6, 1, Sampling(5)), no_children)


def test_a_server_that_hangs_is_given_up_after_the_time_limit(policy: Policy, server: FakeVLLM) -> None:
    writer = engine(policy, server, seconds=0.2, patience=0.5)
    server.hangs = True
    with pytest.raises(UnavailableError, match=r"no server has answered for 0.5 s \(engine\.patience\).*ReadTimeout"):
        writer.generate(prompts(6, 1, Sampling(5)), no_children)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((200, "<html>"), r"its answer is not JSON \('<html>'\); start it with VLLM_ALLOW"),
        ((200, "[]"), "its answer is not a JSON object"),
        ((200, json.dumps({"model": "tiny"})), "answered with the model 'tiny' in place of 'motif-"),
        ((400, error("the prompt is too long")), r"/v1/completions: HTTP 400 \(the prompt is too long\)"),
        ((401, json.dumps({"error": "Unauthorized"})), r"HTTP 401 \(Unauthorized\).*variable VLLM_API_KEY"),
    ],
)
def test_malformed_answers_end_the_run_and_name_the_server(policy, server: FakeVLLM, answer, text: str) -> None:
    writer = engine(policy, server)
    server.answers[COMPLETIONS] = [answer]
    with pytest.raises(UnavailableError, match=rf"^{server.url}.*{text}"):
        writer.generate(prompts(6, 1, Sampling(5)), no_children)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"token_ids": None}, "0 token ids and 3 log-probs"),
        ({"token_ids": [4]}, "1 token ids and 3 log-probs"),
        ({"logprobs": None}, "3 token ids and 0 log-probs"),
    ],
)
def test_answers_without_token_ids_or_log_probs_end_the_run(policy, server: FakeVLLM, change: dict, text: str) -> None:
    writer = engine(policy, server)
    server.spoil = lambda answer: {**answer, "choices": [{**answer["choices"][0], **change}]}
    with pytest.raises(UnavailableError, match=rf"{text}, expected as many of both.*return_token_ids"):
        writer.generate(prompts(6, 1, Sampling(3, 0.0)), no_children)


@pytest.mark.parametrize("value", [None, -9999.0])
def test_a_log_prob_that_is_not_finite_raises(policy: Policy, server: FakeVLLM, value: float | None) -> None:
    writer = engine(policy, server)

    def spoil(answer: dict) -> dict:
        answer["choices"][0]["logprobs"]["token_logprobs"][0] = value
        return answer

    server.spoil = spoil
    with pytest.raises(FloatingPointError, match=r"returned a log-prob that is not finite for turn \(0,\)"):
        writer.generate(prompts(7, 1, Sampling(3)), no_children)


@pytest.mark.parametrize(
    ("path", "answer", "text"),
    [
        (
            LOAD,
            (404, '{"detail":"Not Found"}'),
            "does not load adapters; start it with VLLM_ALLOW",
        ),
        (LOAD, (404, error("No adapter found for /x")), "see this folder under the same path; set engine.adapters"),
        (LOAD, (500, error("LoRA rank 4 is greater")), r"HTTP 500 \(LoRA rank 4 is greater\).*--max-lora-rank"),
        (MODELS, (404, "no such page"), r"no vLLM server\. engine\.urls takes e\.g\. http://localhost:8000"),
        (MODELS, (200, "{}"), "its list of models .* is malformed"),
        (MODELS, (200, '{"data": []}'), "serves no base model"),
        (
            MODELS,
            (200, '{"data": [{"id": "tiny", "max_model_len": 64}]}'),
            "64 tokens is shorter than model.context",
        ),
    ],
)
def test_a_server_that_cannot_be_used_is_refused_at_the_start(policy, server: FakeVLLM, path, answer, text) -> None:
    server.answers[path] = [answer]
    with pytest.raises(InputError, match=rf"^engine=vllm-server: {server.url}.*{text}"):
        engine(policy, server)


def test_a_server_that_starts_later_is_waited_for(policy: Policy, server: FakeVLLM) -> None:
    server.stop()
    threading.Timer(0.3, server.start).start()
    turns = prompts(6, 2, Sampling(5, 0.0))
    assert facts(engine(policy, server).generate(turns, no_children)) == local(policy, turns)


def test_no_server_at_all_is_said_after_a_while(policy: Policy, server: FakeVLLM) -> None:
    server.stop()
    with pytest.raises(UnavailableError, match=rf"no server has answered for 0.1 s .*{server.url}.*ConnectError"):
        engine(policy, server, patience=0.1)
    server.start()


def test_every_token_is_shown_once_also_after_a_failure(policy: Policy, server: FakeVLLM) -> None:
    turns, writer, shown = prompts(6, 3, Sampling(6)), engine(policy, server), {}
    expected = facts(writer.generate(turns, no_children))
    cut = "data: " + json.dumps({"error": {"message": "gone"}}) + "\n\n"
    server.answers[COMPLETIONS] = [(200, cut)]
    written = writer.generate(turns, no_children, lambda turn, token: shown.setdefault(turn.path, []).append(token))
    assert facts(written) == expected
    assert {path: tuple(tokens) for path, tokens in shown.items()} == {turn.path: turn.completion for turn in written}


def test_an_interrupted_call_leaves_no_requests(policy: Policy, server: FakeVLLM) -> None:
    turns, writer = prompts(6, 6, Sampling(5)), engine(policy, server, at_once=1)
    expected = facts(writer.generate(turns, no_children))

    def stop(turn: Turn) -> list[Turn]:
        raise KeyboardInterrupt

    before = server.paths().count(COMPLETIONS)
    with pytest.raises(KeyboardInterrupt):
        writer.generate(turns, stop)
    time.sleep(0.05)
    assert server.paths().count(COMPLETIONS) - before < 4
    assert facts(writer.generate(turns[:1], no_children)) == {(0,): expected[0,]}


def test_the_key_comes_from_the_environment(policy: Policy, server: FakeVLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    server.key = "secret"
    with pytest.raises(InputError, match=r"HTTP 401 .*environment variable MY_KEY \(engine\.key\)"):
        engine(policy, server, key="MY_KEY")
    monkeypatch.setenv("MY_KEY", "secret")
    writer = engine(policy, server, key="MY_KEY")
    writer.generate(prompts(6, 1, Sampling(2)), no_children)
    del writer
    gc.collect()
    assert not server.adapters


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("engine.urls=[]", "engine.urls=[] names no server; use e.g. engine.urls=[http://localhost:8000]"),
        ("engine.urls=[localhost:8000]", "'localhost:8000' is not the address of a server"),
        ("engine.urls=['http://me:secret@host']", "engine.urls holds a password"),
        ("engine.urls=['http://a:1','http://a:1/v1/']", "names a server twice"),
        ("engine.adapters=/not/there", "engine.adapters=/not/there: no such folder"),
        ("model.lora=null", "but model.lora=null trains all weights; valid: engine=local"),
        ("model.dtype=float64", "vLLM does not support model.dtype=float64"),
    ],
)
def test_unsupported_settings_are_refused_before_weights_load(override: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        compose("train", ["engine=vllm-server", override])
    assert text in str(caught.value)
    assert len(caught.value.problems) == 1
