"""``engine=vllm`` generates the same turns as ``engine=local``.

Tests run against vLLM where it is installed, and always against a stand-in that loads the written adapter files."""

from __future__ import annotations

import importlib.util
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from src.config import compose
from src.engines.local.engine import LocalEngine
from src.engines.vllm import VLLM, VLLMEngine
from src.models.loading import load_policy
from src.models.policy import Policy
from src.models.settings import Lora, ModelSettings
from src.rounds.growing import grow
from src.types import InputError, Sampling, Status, Turn, Writer
from tests.helpers.tiny_models import adapted, plain_logprobs, random_tokens, save_tiny, tiny_policy

REAL = importlib.util.find_spec("vllm") is not None
CONTEXT = 128


class StandIn:
    """The part of vLLM's API that ``VLLMEngine`` uses, implemented with transformers and PEFT: every step writes one
    token of each request, with the checkpoint or an adapter loaded from its folder."""

    def __init__(self, model: str, dtype: str, **options: object) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.source, self.options, self.llm_engine = model, options, self
        self.adapters: dict[int, PeftModel] = {}
        self.requests: dict[str, SimpleNamespace] = {}

    def add_lora(self, request: SimpleNamespace) -> bool:
        assert request.lora_int_id not in self.adapters
        base = AutoModelForCausalLM.from_pretrained(self.source, dtype=self.model.dtype)
        self.adapters[request.lora_int_id] = PeftModel.from_pretrained(base, request.lora_path).eval()
        return len(self.adapters) <= self.options["max_loras"]

    def remove_lora(self, number: int) -> bool:
        return self.adapters.pop(number) is not None

    def add_request(self, name: str, prompt: dict, params: SimpleNamespace, lora_request: SimpleNamespace | None):
        writer = self.model if lora_request is None else self.adapters[lora_request.lora_int_id]
        random_numbers = torch.Generator().manual_seed(params.seed)
        self.requests[name] = SimpleNamespace(
            prompt=prompt["prompt_token_ids"], params=params, writer=writer, numbers=random_numbers, new=[], tables=[]
        )

    def abort_request(self, names: list[str]) -> None:
        for name in names:
            del self.requests[name]

    @torch.inference_mode()
    def step(self) -> list[SimpleNamespace]:
        outputs = []
        for name, request in list(self.requests.items()):
            params = request.params
            logits = request.writer(torch.tensor([request.prompt + request.new])).logits[0, -1].double()
            logprobs = (logits / (params.temperature or 1.0)).log_softmax(-1)
            token = int(logits.argmax())
            if params.temperature:
                token = int(torch.multinomial(logprobs.exp(), 1, generator=request.numbers))
            request.new.append(token)
            request.tables.append({token: SimpleNamespace(logprob=float(logprobs[token]))})
            text = self.tokenizer.decode(request.new, skip_special_tokens=params.skip_special_tokens)
            stops = token in params.stop_token_ids or any(text.endswith(stop) for stop in params.stop or ())
            finished = stops or len(request.new) == params.max_tokens
            if finished:
                del self.requests[name]
            if finished or params.output_kind == "cumulative":
                reason = ("stop" if stops else "length") if finished else None
                output = SimpleNamespace(
                    token_ids=list(request.new), logprobs=list(request.tables), finish_reason=reason
                )
                outputs.append(SimpleNamespace(request_id=name, finished=finished, outputs=[output]))
        return outputs


@dataclass
class Request:
    """vLLM's ``LoRARequest``."""

    lora_name: str
    lora_int_id: int
    lora_path: str


@pytest.fixture(params=["stand-in", pytest.param("vLLM", marks=pytest.mark.skipif(not REAL, reason="not installed"))])
def vllm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with vLLM and with its stand-in; gives the name of the one in use."""
    if request.param == "stand-in":
        parts = {name: ModuleType(name) for name in ("vllm", "vllm.sampling_params", "vllm.lora", "vllm.lora.request")}
        parts["vllm"].__dict__.update(LLM=StandIn, SamplingParams=SimpleNamespace, __spec__=ModuleSpec("vllm", None))
        kinds = SimpleNamespace(FINAL_ONLY="final", CUMULATIVE="cumulative")
        parts["vllm.sampling_params"].__dict__.update(RequestOutputKind=kinds)
        parts["vllm.lora.request"].__dict__.update(LoRARequest=Request)
        for name, part in parts.items():
            monkeypatch.setitem(sys.modules, name, part)
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"), hidden_size=128, num_attention_heads=2, num_key_value_heads=1)


@pytest.fixture
def policy(folder: Path) -> Policy:
    return tiny_policy(folder)


def engine(policy: Policy) -> VLLMEngine:
    model = ModelSettings(name="tiny", context=CONTEXT, round_tokens=32, dtype="float32", lora=Lora(r=4, alpha=8))
    return VLLM(eager=True).build(policy, model)


def no_children(turn: Turn) -> list[Turn]:
    return []


def prompts(seed: int, count: int, sampling: Sampling, writer: Writer = Writer.POLICY) -> list[Turn]:
    rng = random.Random(seed)
    return [
        Turn((index,), random_tokens(rng, rng.randint(2, 40)), sampling, writer, stream=rng.getrandbits(128))
        for index in range(count)
    ]


def facts(turns: Sequence[Turn]) -> dict:
    return {turn.path: (turn.completion, turn.status, turn.text) for turn in turns}


@pytest.mark.parametrize("writer", [Writer.POLICY, Writer.BASE])
@pytest.mark.usefixtures("vllm")
def test_a_greedy_tree_equals_that_of_the_local_engine(policy: Policy, writer: Writer) -> None:
    roots = prompts(1, 12, Sampling(16, 0.0), writer)

    def children(turn: Turn) -> list[Turn]:
        if turn.round == 3:
            return []
        prompt = turn.prompt[:20] + turn.completion[:8]
        return [Turn((*turn.path, index), (*prompt, 5 + index), turn.sampling, writer) for index in range(2)]

    ours = LocalEngine(policy, native=False).generate(roots, children)
    theirs = engine(policy).generate(roots, children)
    assert len(theirs) == 12 * 7
    assert facts(theirs) == facts(ours)
    assert {turn.status for turn in theirs} == {Status.DONE, Status.TRUNCATED}
    known = {turn.path: turn for turn in ours}
    for turn in theirs:
        assert turn.logprobs == pytest.approx(known[turn.path].logprobs, abs=1e-3)
        assert turn.model_logprobs == turn.logprobs


@pytest.mark.usefixtures("vllm")
def test_every_call_uses_the_current_adapter(policy: Policy) -> None:
    roots, writer = prompts(2, 8, Sampling(12, 0.0)), engine(policy)
    seen = []
    for seed in (1, 2, 3):
        adapted(policy, scale=0.2, seed=seed)
        seen.append(facts(writer.generate(roots, no_children)))
        assert seen[-1] == facts(LocalEngine(policy, native=False).generate(roots, no_children))
    assert seen[0] != seen[1] != seen[2]
    assert len(list(writer._folder.iterdir())) == 1  # files of old adapters are deleted


@pytest.mark.usefixtures("vllm")
def test_the_base_uses_the_adapter_that_the_run_started_from(policy: Policy) -> None:
    policy.start = [parameter.detach().clone() for parameter in policy.parameters()]
    roots = prompts(3, 8, Sampling(12, 0.0), Writer.BASE)
    roots += [replace(turn, path=(8 + index,), writer=Writer.POLICY) for index, turn in enumerate(roots)]
    adapted(policy, scale=0.2, seed=5)
    theirs = facts(engine(policy).generate(roots, no_children))
    assert theirs == facts(LocalEngine(policy, native=False).generate(roots, no_children))
    assert any(theirs[index,] != theirs[8 + index,] for index in range(8))


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.0, 0.9), (0.0, 0.9)])
@pytest.mark.usefixtures("vllm")
def test_logprobs_are_those_of_the_full_distribution_or_empty(policy: Policy, temperature: float, top_p: float) -> None:
    for turn in engine(policy).generate(prompts(4, 10, Sampling(12, temperature, top_p)), no_children):
        with torch.no_grad():
            expected = plain_logprobs(policy, turn.prompt, turn.completion, temperature)
        known = top_p == 1 or temperature == 0
        assert turn.logprobs == (pytest.approx(expected.tolist(), abs=1e-3) if known else ())
        assert turn.model_logprobs == (turn.logprobs if temperature in (0, 1) else ())


@pytest.mark.usefixtures("vllm")
def test_a_turns_tokens_come_from_its_own_stream(policy: Policy) -> None:
    turns, writer = prompts(5, 6, Sampling(12)), engine(policy)
    together = facts(writer.generate(turns, no_children))
    assert facts(writer.generate(turns[::-1], no_children)) == together
    assert facts(writer.generate(turns[:1], no_children)) == {(0,): together[0,]}
    others = [replace(turn, stream=turn.stream + 1) for turn in turns]
    assert facts(writer.generate(others, no_children)) != together


@pytest.mark.parametrize("stop_at_answer", [True, False])
@pytest.mark.usefixtures("vllm")
def test_multi_round_rollouts_of_the_embedded_model_equal_those_of_the_local_engine(stop_at_answer: bool) -> None:
    settings = compose("train", ["rounds=3", f"rounds.stop_at_answer={stop_at_answer}"]).settings
    policy = adapted(load_policy(settings.model, 0), scale=0.01)
    strategy = settings.rounds.independent(3, 1, 0.0, 1.0)
    problems = settings.benchmark.load().train[:6]
    writer = VLLM(eager=True).build(policy, settings.model)
    theirs = grow(writer, strategy, problems, policy.codec, (0,))
    ours = grow(LocalEngine(policy, native=False), strategy, problems, policy.codec, (0,))
    assert [facts(tree.turns) for tree in theirs] == [facts(tree.turns) for tree in ours]
    texts = [turn.text for tree in theirs for turn in tree.turns]
    assert sum(text.endswith("</answer>") for text in texts) > len(texts) // 2


@pytest.mark.usefixtures("vllm")
def test_every_token_is_streamed_once_and_an_interrupted_call_leaves_no_requests(policy: Policy) -> None:
    turns, writer, shown = prompts(6, 5, Sampling(9)), engine(policy), {}
    written = writer.generate(turns, no_children, lambda turn, token: shown.setdefault(turn.path, []).append(token))
    assert {path: tuple(tokens) for path, tokens in shown.items()} == {turn.path: turn.completion for turn in written}

    def stop(turn: Turn) -> list[Turn]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.generate(turns, stop)
    again = writer.generate(turns[:1], no_children)
    assert facts(again) == {(0,): facts(written)[0,]}


def test_a_log_prob_that_is_not_finite_raises(vllm: str, policy: Policy) -> None:
    output = SimpleNamespace(token_ids=[5], logprobs=[{5: SimpleNamespace(logprob=math.nan)}], finish_reason="stop")
    with pytest.raises(FloatingPointError, match=r"not finite for turn \(0,\) of tree 0.*optimizer\.lr"):
        engine(policy)._closed(prompts(7, 1, Sampling(3))[0], output)


@pytest.mark.parametrize("reason", ["abort", "error", None])
def test_an_aborted_or_failed_request_raises(vllm: str, policy: Policy, reason: str | None) -> None:
    output = SimpleNamespace(token_ids=[], logprobs=[], finish_reason=reason)
    with pytest.raises(RuntimeError, match=rf"did not finish turn \(0,\) of tree 0: finish_reason={reason}"):
        engine(policy)._closed(prompts(7, 1, Sampling(3))[0], output)


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "vllm" else find(name, *rest))


@pytest.mark.usefixtures("not_installed")
def test_without_vllm_the_message_says_how_to_install_it() -> None:
    with pytest.raises(InputError, match=r"vLLM is not installed; valid: `pip install vllm`, or engine=local"):
        compose("train", ["engine=vllm"])


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("engine.memory=1.5", "engine.memory=1.5 must be in (0, 1]"),
        ("model.lora=null", "but model.lora=null trains all weights; valid: engine=local"),
        ("model.lora.r=600", "model.lora.r=600 must be at most 512"),
        ("model.dtype=float64", "vLLM's LoRA does not support model.dtype=float64; valid: auto, bfloat16"),
        (
            "+engine.options.enforce_eager=true",
            "engine.options.enforce_eager: this argument of vLLM is set by another setting; use engine.eager",
        ),
        ("engine.max_batch_tokens=5", "engine.max_batch_tokens"),
    ],
)
def test_unsupported_settings_are_refused_before_weights_load(override: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        compose("train", ["engine=vllm", override])
    assert text in str(caught.value)
    assert len(caught.value.problems) == 1
