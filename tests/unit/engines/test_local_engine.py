from __future__ import annotations

import random
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from src.engines.local import batch as batch_module
from src.engines.local.batch import Batch, need
from src.engines.local.cache import Cache
from src.engines.local.engine import LocalEngine
from src.engines.local.llama import LlamaDecoder
from src.models.loading import load_policy
from src.models.settings import Lora
from src.types import InputError, Sampling, Status, Turn, Writer
from tests.helpers.tiny_models import adapted, plain_logprobs, random_tokens, save_tiny, tiny_config, tiny_policy

END = 2

EXACT = {"native": 1e-5, "lean": 1e-5, "forward": 1e-9}
"""Tolerance against the model in float64: the model's own RMSNorm rounds to float32, that of ``LlamaDecoder`` not."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def policy(folder):
    return tiny_policy(folder)


@pytest.fixture(scope="module")
def exact(folder):
    return tiny_policy(folder, "float64")


@pytest.fixture(params=["native", "lean", "forward"])
def decoder(request, monkeypatch):
    """Run the test with each decoder of the same model: compiled, ``LlamaDecoder`` in torch, ``ForwardDecoder``."""
    if request.param != "native":
        monkeypatch.setattr(LocalEngine, "_kernels", None)
    if request.param == "forward":
        monkeypatch.setattr(LlamaDecoder, "fits", staticmethod(lambda model: False))
    return request.param


def no_children(turn):
    return ()


def random_turns(seed: int, count: int, prompts: int | None = None, longest: int = 40, limit: int = 24) -> list[Turn]:
    """Turns with mixed prompts (some shared), temperatures, top-p, token limits and writers."""
    rng = random.Random(seed)
    pool = [random_tokens(rng, rng.randint(1, longest)) for _ in range(prompts or count)]
    return [
        Turn(
            path=(index,),
            prompt=pool[index % len(pool)],
            sampling=Sampling(
                max_new_tokens=rng.randint(1, limit),
                temperature=rng.choice((0.0, 0.5, 1.0, 1.0, 1.25)),
                top_p=rng.choice((0.5, 0.9, 1.0, 1.0)),
            ),
            writer=rng.choice((Writer.POLICY, Writer.POLICY, Writer.BASE)),
            stream=rng.getrandbits(128),
        )
        for index in range(count)
    ]


def by_path(turns):
    table = {turn.path: turn for turn in turns}
    assert len(table) == len(turns)
    return table


def assert_same_turns(result, expected):
    result, expected = by_path(result), by_path(expected)
    assert result.keys() == expected.keys()
    for path, turn in expected.items():
        assert result[path].completion == turn.completion
        assert result[path].logprobs == pytest.approx(turn.logprobs, abs=1e-9)
        assert result[path].model_logprobs == pytest.approx(turn.model_logprobs, abs=1e-9)
        assert (result[path].status, result[path].text) == (turn.status, turn.text)


# agreement with the model


@pytest.mark.usefixtures("decoder")
def test_greedy_completions_equal_those_of_generate(policy):
    rng = random.Random(0)
    sampling = Sampling(max_new_tokens=16, temperature=0.0)
    turns = [
        Turn(path=(index,), prompt=random_tokens(rng, rng.randint(1, 60)), sampling=sampling, stream=index)
        for index in range(100)
    ]
    written = by_path(LocalEngine(policy, max_batch_tokens=2000).generate(turns, no_children))
    ended = 0
    for turn in turns:
        output = policy.model.generate(
            input_ids=torch.tensor([turn.prompt]),
            attention_mask=torch.ones(1, len(turn.prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=16,
        )
        expected = tuple(output[0, len(turn.prompt) :].tolist())
        assert written[turn.path].completion == expected
        assert (written[turn.path].status == Status.DONE) == (expected[-1] == END)
        ended += expected[-1] == END
    assert 0 < ended < 100


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logprobs_equal_those_of_a_plain_forward_pass(dtype, decoder, policy, exact):
    tolerance = 1e-4 if dtype == "float32" else EXACT[decoder]
    weights = {"float32": policy, "float64": exact}[dtype]
    differs = 0
    for turn in LocalEngine(weights, max_batch_tokens=600).generate(random_turns(1, 30, 12), no_children):
        base = turn.writer == Writer.BASE
        with torch.no_grad():
            expected = plain_logprobs(weights, turn.prompt, turn.completion, turn.sampling.temperature, base)
            at_one = plain_logprobs(weights, turn.prompt, turn.completion, 1.0, base)
            other = plain_logprobs(weights, turn.prompt, turn.completion, turn.sampling.temperature, not base)
        assert turn.logprobs == pytest.approx(expected.tolist(), abs=tolerance)
        assert turn.model_logprobs == pytest.approx(at_one.tolist(), abs=tolerance)
        differs += float((expected - other).abs().max()) > 0.01
    assert differs > 20  # the adapter changes the log-probs, so the two writers can be told apart


@pytest.mark.parametrize("temperature", [0.7, 0.9, 1.1])
def test_logprobs_at_any_temperature_are_exact_in_float64(exact, temperature, decoder):
    turn = replace(random_turns(2, 1)[0], sampling=Sampling(20, temperature), writer=Writer.POLICY)
    (written,) = LocalEngine(exact).generate([turn], no_children)
    with torch.no_grad():
        expected = plain_logprobs(exact, written.prompt, written.completion, temperature)
    assert written.logprobs == pytest.approx(expected.tolist(), abs=EXACT[decoder])


class Bare:
    """A model without tokenizer or adapter."""

    codec = SimpleNamespace(size=0, decode=lambda tokens: "")
    device, end_tokens, pad_token = torch.device("cpu"), frozenset({END}), 0

    def __init__(self, kind, dtype=torch.float32, **settings):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            common = {"vocab_size": 60, "initializer_range": 0.25, "eos_token_id": END, "pad_token_id": 0}
            self.model = kind[1](kind[0](**common, **settings)).to(dtype).eval()

    @contextmanager
    def writing(self, writer):
        yield self.model


SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 16}
LLAMA3 |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
MODELS = {
    "llama": ((LlamaConfig, LlamaForCausalLM), SHAPE | {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "llama-biases": (
        (LlamaConfig, LlamaForCausalLM),
        SHAPE | {"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True, "head_dim": 16},
    ),
    "llama-3": ((LlamaConfig, LlamaForCausalLM), SHAPE | {"num_key_value_heads": 4, "rope_parameters": LLAMA3}),
    "qwen2": ((Qwen2Config, Qwen2ForCausalLM), SHAPE | {"num_key_value_heads": 2}),
    "gpt2": ((GPT2Config, GPT2LMHeadModel), {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}),
    "gemma2": (
        (Gemma2Config, Gemma2ForCausalLM),
        SHAPE | {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 96},
    ),
}


def bare(name: str, dtype=torch.float32) -> Bare:
    weights = Bare(MODELS[name][0], dtype, **MODELS[name][1])
    for parameter in weights.model.parameters():  # norms and biases start at 1 and 0: a missing one would not show
        with torch.no_grad():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    return weights


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_generates_the_same_tokens_as_its_own_generate(name):
    weights = bare(name)
    lean = name not in ("gpt2", "gemma2")
    assert LlamaDecoder.fits(weights.model) == lean
    rng = random.Random(14)
    turns = [
        Turn((index,), tuple(rng.randrange(3, 60) for _ in range(rng.randint(1, 50))), Sampling(12, 0.0))
        for index in range(30)
    ]
    lengths = set()
    for turn in LocalEngine(weights, max_batch_tokens=500).generate(turns, no_children):
        output = weights.model.generate(
            input_ids=torch.tensor([turn.prompt]),
            attention_mask=torch.ones(1, len(turn.prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=12,
        )
        assert turn.completion == tuple(output[0, len(turn.prompt) :].tolist())
        with torch.no_grad():
            logits = weights.model(torch.tensor([turn.prompt + turn.completion])).logits[0, len(turn.prompt) - 1 : -1]
        expected = logits.log_softmax(-1).gather(-1, torch.tensor(turn.completion)[:, None])[:, 0]
        assert turn.logprobs == pytest.approx(expected.tolist(), abs=1e-4)
        lengths.add(len(turn.completion))
    assert len({turn.completion for turn in turns}) == 1 < len(lengths) or lengths == {12}


def test_bfloat16_is_as_close_to_float32_as_the_model_itself(monkeypatch):
    turns = [Turn((index,), tuple(range(3, 20 + index)), Sampling(16), stream=index) for index in range(20)]
    rough, fine = bare("llama", torch.bfloat16), bare("llama", torch.bfloat16)
    fine.model.float()
    off = {}
    for lean in (True, False):
        monkeypatch.setattr(LlamaDecoder, "fits", staticmethod(lambda model, lean=lean: lean))
        gaps = []
        for turn in LocalEngine(rough).generate(turns, no_children):
            with torch.no_grad():
                logits = fine.model(torch.tensor([turn.prompt + turn.completion])).logits[0, len(turn.prompt) - 1 : -1]
            expected = logits.log_softmax(-1).gather(-1, torch.tensor(turn.completion)[:, None])[:, 0]
            gaps.append((expected - torch.tensor(turn.logprobs)).abs().mean())
        off[lean] = float(torch.stack(gaps).mean())
    assert off[True] < 1.5 * off[False] < 0.3


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("llama", {"hidden_act": "gelu"}),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}),
        ("llama-3", {"rope_parameters": LLAMA3 | {"rope_type": "dynamic"}}),
    ],
)
def test_a_llama_model_with_unsupported_settings_uses_its_own_forward(name, change):
    model = bare(name).model
    assert LlamaDecoder.fits(model)
    model.config.update(change)
    assert not LlamaDecoder.fits(model)


def test_large_models_and_parametrized_layers_use_their_own_forward(monkeypatch):
    model = bare("llama").model
    monkeypatch.setattr("src.engines.local.llama.LARGEST", 1)
    assert not LlamaDecoder.fits(model)
    monkeypatch.undo()
    model.model.layers[1].mlp.up_proj = torch.nn.utils.parametrizations.weight_norm(model.model.layers[1].mlp.up_proj)
    assert not LlamaDecoder.fits(model)


def test_a_sliding_window_shorter_than_the_turn_is_refused():
    turn = Turn((0,), (5,) * 90, Sampling(20, 0.0))
    with pytest.raises(InputError, match="sliding-window attention over 96 tokens, but a turn has"):
        LocalEngine(bare("gemma2")).generate([turn], no_children)


# independence of the batch


@pytest.fixture
def alone(exact, decoder):
    """Turns, and each of them generated in a batch of its own."""
    turns = random_turns(3, 36, 15)
    engine = LocalEngine(exact)
    written = [engine.generate([turn], no_children)[0] for turn in turns]
    lengths = [len(turn.completion) for turn in written]
    ended = [turn for turn in written if turn.status == Status.DONE]
    assert len(set(lengths)) > 5
    assert 5 < len(ended) < 36
    return turns, written


@pytest.mark.parametrize("max_batch_tokens", [1, 100, 400, 10**6])
def test_turns_do_not_depend_on_the_batch_size(exact, alone, max_batch_tokens):
    turns, written = alone
    assert_same_turns(LocalEngine(exact, max_batch_tokens).generate(turns, no_children), written)


def test_turns_do_not_depend_on_their_order(exact, alone):
    turns, written = alone
    shuffled = random.Random(1).sample(turns, len(turns))
    assert_same_turns(LocalEngine(exact).generate(shuffled, no_children), written)


def test_in_half_precision_turns_depend_on_the_batch_only_by_rounding(decoder):
    rough = bare("llama", torch.bfloat16)
    turns = [replace(turn, writer=Writer.POLICY) for turn in random_turns(3, 40, 15)]
    engine = LocalEngine(rough, max_batch_tokens=300)
    together, shared, written = by_path(engine.generate(turns, no_children)), 0, 0
    for turn in turns:
        (alone,) = LocalEngine(rough).generate([turn], no_children)
        other = together[turn.path]
        pairs = list(zip(alone.completion, other.completion, strict=False))
        same = next((place for place, (one, two) in enumerate(pairs) if one != two), len(pairs))
        assert other.logprobs[:same] == pytest.approx(alone.logprobs[:same], abs=0.1)
        shared, written = shared + same, written + len(alone.completion)
    assert shared > 0.8 * written  # rounding changes a token only if the uniform number is close to a boundary


@pytest.mark.parametrize("subset", [range(0, 36, 2), range(7), [3, 30]])
def test_a_turn_does_not_depend_on_the_other_turns(exact, alone, subset):
    turns, written = alone
    picked = [turns[index] for index in subset]
    assert_same_turns(LocalEngine(exact).generate(picked, no_children), [written[index] for index in subset])


@pytest.mark.parametrize("patience", [0, 0.25, 1e9])
@pytest.mark.parametrize("max_batch_tokens", [150, 600])
def test_turns_do_not_depend_on_when_they_are_admitted(exact, alone, patience, max_batch_tokens, monkeypatch):
    monkeypatch.setattr(batch_module, "PATIENCE", patience)
    together, wrapped = Counter(), 0
    sample = Batch.sample

    def watched(batch, on_token):
        nonlocal wrapped
        together[len({int(start) for start, live in zip(batch.start, batch.live, strict=True) if live})] += 1
        wrapped += batch.time > batch.cache.width
        return sample(batch, on_token)

    monkeypatch.setattr(Batch, "sample", watched)
    turns, written = alone
    assert_same_turns(LocalEngine(exact, max_batch_tokens).generate(turns, no_children), written)
    assert max(together) == 1 if patience == 1e9 else max(together) > 2  # rows that started at different times
    assert wrapped > 0 or patience == 1e9 or max_batch_tokens == 600


@pytest.mark.parametrize("tokens", [1, 50])
def test_turns_do_not_depend_on_the_prefill_size(exact, alone, tokens, monkeypatch):
    monkeypatch.setattr(batch_module, "PREFILL", tokens)
    turns, written = alone
    assert_same_turns(LocalEngine(exact).generate(turns, no_children), written)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.01])
def test_turns_do_not_depend_on_removing_finished_rows(exact, alone, share, monkeypatch):
    monkeypatch.setattr(batch_module, "COMPACT_BELOW", share)
    moves = []
    move = Cache.move
    monkeypatch.setattr(Cache, "move", lambda *arguments: moves.append(len(arguments[1])) or move(*arguments))
    turns, written = alone
    assert_same_turns(LocalEngine(exact).generate(turns, no_children), written)
    assert (sum(moves) > 0) == (share > 0)


def test_the_same_stream_gives_the_same_tokens_and_another_does_not(exact):
    turn = replace(random_turns(4, 1)[0], sampling=Sampling(30), stream=5)
    turns = [replace(turn, path=(index,), stream=stream) for index, stream in enumerate((5, 5, 6))]
    first, second, third = LocalEngine(exact).generate(turns, no_children)
    assert first.completion == second.completion != third.completion


@pytest.mark.parametrize("branching", [(), (3, 2)])
def test_batches_stay_within_the_token_budget(policy, branching, monkeypatch):
    seen = []
    sample = Batch.sample

    def watched(batch, on_token):
        seen.append((batch.writing, batch.cache.width))
        rows = [turn for turn in batch.turns if turn is not None]
        for keys, values in batch.cache.layers:
            assert keys.shape[0] * keys.shape[2] == values.shape[0] * values.shape[2] <= max(200, batch.cache.width)
        assert len({turn.writer for turn in rows}) == 1
        assert max(map(need, rows)) <= batch.cache.width
        assert len(rows) == 1 or len(rows) * batch.cache.width <= 200
        return sample(batch, on_token)

    monkeypatch.setattr(Batch, "sample", watched)
    turns = random_turns(5, 40, longest=200)
    written = grown(LocalEngine(policy, max_batch_tokens=200), turns, branching)
    assert len(by_path(written)) >= 40
    assert max(width for _, width in seen) > 200  # a turn that exceeds the budget alone is a batch of its own
    assert max(rows for rows, _ in seen) > 3


def test_a_finished_row_is_reused_while_others_are_decoded(policy):
    """With four rows, one turn of 60 tokens and 39 turns of 4: the short ones share the other three rows."""
    script = Script(policy.codec, (*(7,) * 59, END))
    long = Turn((0,), (5,), Sampling(63, 0.0))
    turns = [long, *(Turn((index,), (5,) * 57, Sampling(7, 0.0)) for index in range(1, 40))]
    written = by_path(LocalEngine(script, max_batch_tokens=64 * 4).generate(turns, no_children))
    assert [len(written[index,].completion) for index in range(40)] == [60, *(4,) * 39]
    assert script.steps < 70  # static batches of four, each run to its longest turn, would take 60 + 9 * 4


# ends and limits


def test_every_row_has_its_own_limit(policy):
    turns = random_turns(6, 40)
    written = by_path(LocalEngine(policy).generate(turns, no_children))
    reached = Counter()
    for turn in turns:
        result = written[turn.path]
        limit = turn.sampling.max_new_tokens
        assert 1 <= len(result.completion) <= limit
        assert len(result.logprobs) == len(result.completion)
        assert END not in result.completion[:-1]
        if result.completion[-1] == END:
            assert result.status == Status.DONE
        else:
            assert result.status == Status.TRUNCATED
            assert len(result.completion) == limit
        assert (result.prompt, result.stream, result.sampling) == (turn.prompt, turn.stream, turn.sampling)
        reached[result.status] += 1
    assert min(reached[Status.DONE], reached[Status.TRUNCATED]) > 2


def test_a_longer_limit_only_adds_tokens(exact):
    turn = replace(random_turns(7, 1)[0], sampling=Sampling(40), writer=Writer.POLICY)
    full = LocalEngine(exact).generate([turn], no_children)[0]
    for limit in range(1, len(full.completion)):
        short = LocalEngine(exact).generate([replace(turn, sampling=Sampling(limit))], no_children)[0]
        assert short.completion == full.completion[:limit]
        assert short.status == Status.TRUNCATED


def test_the_text_does_not_contain_the_end_token(policy):
    codec = policy.codec
    for turn in LocalEngine(policy).generate(random_turns(8, 30), no_children):
        shown = turn.completion[:-1] if turn.completion[-1] == END else turn.completion
        assert turn.text == codec.decode(shown)
        assert "<|im_end|>" not in turn.text


class Script:
    """A fake model that writes ``tokens`` after any prompt of one token. Its body gives logits; its head keeps them."""

    config, dtype, base_model_prefix = GPT2Config(), torch.float32, "body"

    def __init__(self, codec, tokens):
        self.codec, self.tokens = codec, tokens
        self.device, self.end_tokens, self.pad_token = torch.device("cpu"), frozenset({END}), 0
        self.steps = 0

    @contextmanager
    def writing(self, writer):
        yield self

    @property
    def body(self):
        return self

    def get_output_embeddings(self):
        return lambda hidden: hidden

    def __call__(self, input_ids, position_ids, **options):
        self.steps += "attention_mask" in options
        logits = torch.full((*position_ids.shape, self.codec.size), -10.0)
        for row, positions in enumerate(position_ids.tolist()):
            for place, position in enumerate(positions):
                logits[row, place, self.tokens[min(position, len(self.tokens) - 1)]] = 10.0
        return SimpleNamespace(logits=logits, last_hidden_state=logits)


def scripted(codec, tokens, stop_at_answer=True, limit=64):
    sampling = Sampling(limit, temperature=0.0, stop_at_answer=stop_at_answer)
    turn = Turn(path=(0,), prompt=(5,), sampling=sampling)
    return LocalEngine(Script(codec, tuple(tokens))).generate([turn], no_children)[0]


SLASH, ER, BANG = 45, 46, 47  # "</", "er>", ">!"


@pytest.mark.parametrize(
    ("spelling", "written"),
    [
        ("</answer>", "</answer>"),
        ((SLASH, "answ", ER), "</answer>"),
        (("</answer", BANG), "</answer>!"),
        ((SLASH, "answer", BANG), "</answer>!"),
    ],
)
@pytest.mark.parametrize("before", ["", "so<answer>3 > 2", "</reasoning> </answer <answer>>"])
def test_the_closing_tag_ends_a_turn_however_it_is_spelled(policy, spelling, written, before):
    codec = policy.codec
    tag = [token for piece in spelling for token in ([piece] if isinstance(piece, int) else codec.encode(piece))]
    tokens = [*codec.encode(before), *tag]
    turn = scripted(codec, [*tokens, *codec.encode("abc"), END])
    assert turn.completion == tuple(tokens)
    assert turn.status == Status.DONE
    assert turn.text == before + written


@pytest.mark.parametrize("text", ["<answer>1<answer>", "</answer", "</ answer>", "< /answer>", "answer>"])
def test_other_text_does_not_end_a_turn(policy, text):
    turn = scripted(policy.codec, [*policy.codec.encode(text + " and on"), END])
    assert turn.text == text + " and on"
    assert turn.completion[-1] == END


@pytest.mark.parametrize(("limit", "status"), [(8, Status.TRUNCATED), (9, Status.DONE)])
def test_a_tag_that_ends_at_the_limit_is_complete(policy, limit, status):
    turn = scripted(policy.codec, [*policy.codec.encode("</answer> abc"), END], limit=limit)
    assert turn.text == "</answer>"[:limit]
    assert turn.status == status


def test_the_closing_tag_does_not_end_a_turn_without_stop_at_answer(policy):
    turn = scripted(policy.codec, [*policy.codec.encode("</answer> abc"), END], stop_at_answer=False)
    assert turn.text == "</answer> abc"


def test_rows_that_stop_at_the_tag_mix_with_rows_that_do_not(policy):
    script = Script(policy.codec, (*policy.codec.encode("a</answer> abc"), END))
    turns = [
        Turn(path=(index,), prompt=(5,), sampling=Sampling(limit, 0.0, stop_at_answer=stop))
        for index, (limit, stop) in enumerate([(64, True), (64, False), (4, True), (12, False)])
    ]
    written = by_path(LocalEngine(script).generate(turns, no_children))
    assert [written[index,].text for index in range(4)] == ["a</answer>", "a</answer> abc", "a</a", "a</answer> a"]
    assert [str(written[index,].status) for index in range(4)] == ["done", "done", "truncated", "truncated"]


def test_every_end_token_ends_a_turn(policy):
    script = Script(policy.codec, (7, 8, 9))
    script.end_tokens = frozenset({2, 8})
    turn = Turn(path=(0,), prompt=(5,), sampling=Sampling(10, 0.0))
    (written,) = LocalEngine(script).generate([turn], no_children)
    assert (written.completion, written.text, written.status) == ((7, 8), policy.codec.decode((7,)), Status.DONE)


def test_every_token_is_streamed_as_it_is_sampled(policy):
    seen: dict[tuple[int, ...], list[int]] = {}
    turns = random_turns(9, 20)
    engine = LocalEngine(policy)
    written = engine.generate(turns, no_children, lambda turn, token: seen.setdefault(turn.path, []).append(token))
    assert {turn.path: list(turn.completion) for turn in written} == seen


# trees


def grown(engine, roots, branching):
    """Generate a tree in which each prompt consists of the last nine tokens of the parent turn."""

    def children(turn):
        assert turn.status in (Status.DONE, Status.TRUNCATED)
        finished.append(turn.path)
        if turn.round > len(branching):
            return []
        writer = Writer.BASE if turn.path[-1] % 2 else Writer.POLICY
        prompt = (turn.prompt + turn.completion)[-9:]
        return [
            Turn((*turn.path, index), prompt, Sampling(6), writer=writer, stream=hash((*turn.path, index)) % 2**64)
            for index in range(branching[turn.round - 1])
        ]

    finished = []
    written = engine.generate(roots, children)
    assert sorted(finished) == sorted(turn.path for turn in written)  # `children` is called once per turn
    return written


@pytest.mark.parametrize("branching", [(3,), (2, 2), (3, 1, 2)])
def test_children_are_generated_too(exact, branching):
    roots = [replace(turn, sampling=Sampling(6)) for turn in random_turns(10, 4)]
    written = by_path(grown(LocalEngine(exact), roots, branching))
    expected = [(index,) for index in range(4)]
    level = expected
    for count in branching:
        level = [(*path, index) for path in level for index in range(count)]
        expected = expected + level
    assert sorted(written) == sorted(expected)
    for path, turn in written.items():
        if len(path) > 1:
            parent = written[path[:-1]]
            assert turn.prompt == (parent.prompt + parent.completion)[-9:]
        with torch.no_grad():
            logprobs = plain_logprobs(exact, turn.prompt, turn.completion, 1.0, turn.writer == Writer.BASE)
        assert turn.logprobs == pytest.approx(logprobs.tolist(), abs=EXACT["lean"])
    assert {turn.writer for turn in written.values() if turn.round > 1} == {Writer.POLICY, Writer.BASE}


@pytest.mark.parametrize("max_batch_tokens", [1, 60])
def test_a_tree_does_not_depend_on_batches(exact, max_batch_tokens):
    roots = [replace(turn, sampling=Sampling(6)) for turn in random_turns(11, 4)]
    expected = grown(LocalEngine(exact), roots, (2, 2))
    assert_same_turns(grown(LocalEngine(exact, max_batch_tokens), roots, (2, 2)), expected)


def test_no_turns_give_no_turns(policy):
    assert LocalEngine(policy).generate([], no_children) == []


# writers


def state(weights):
    return {name: parameter.detach().clone() for name, parameter in weights.model.named_parameters()}


def assert_untouched(weights, before):
    for name, parameter in weights.model.named_parameters():
        assert torch.equal(parameter, before[name]), name
    assert weights.parameters()  # the adapter is still trainable
    assert all("lora" in name for name, p in weights.model.named_parameters() if p.requires_grad)


def test_turns_of_the_base_are_generated_without_the_adapter(folder, exact):
    turns = [replace(turn, writer=Writer.BASE) for turn in random_turns(12, 12)]
    bare = tiny_policy(folder, "float64", adapt=False)
    policy_turns = [replace(turn, writer=Writer.POLICY) for turn in turns]
    base = LocalEngine(exact).generate(turns, no_children)
    assert_same_turns(
        base,
        [
            replace(turn, writer=Writer.BASE)
            for turn in LocalEngine(bare).generate(policy_turns, no_children)  # B = 0: the same model
        ],
    )
    adapted = by_path(LocalEngine(exact).generate(policy_turns, no_children))
    assert any(adapted[turn.path].completion != turn.completion for turn in base)


def test_generation_leaves_every_weight_unchanged(policy):
    before = state(policy)
    with torch.no_grad():
        logprobs = plain_logprobs(policy, (5, 6, 7), (8, 9), 1.0)
    for seed in range(3):
        LocalEngine(policy).generate(random_turns(seed, 10), no_children)
    assert_untouched(policy, before)
    with torch.no_grad():
        assert torch.equal(plain_logprobs(policy, (5, 6, 7), (8, 9), 1.0), logprobs)


def test_a_failure_during_generation_leaves_every_weight_unchanged(policy):
    before = state(policy)

    def fail(turn, token):
        raise KeyboardInterrupt

    turns = [replace(turn, writer=Writer.POLICY) for turn in random_turns(13, 4)]
    with pytest.raises(KeyboardInterrupt):
        LocalEngine(policy).generate(turns, no_children, fail)
    assert_untouched(policy, before)


@pytest.mark.parametrize("writer", [Writer.POLICY, Writer.BASE])
def test_the_writing_context_gives_merged_or_base_weights(policy, writer):
    name = "model.layers.0.self_attn.q_proj"
    layer = policy.model.get_base_model().get_submodule(name)
    expected = layer.base_layer.weight.detach().clone()
    if writer == Writer.POLICY:  # alpha / r = 2
        expected += 2 * layer.lora_B["default"].weight.detach() @ layer.lora_A["default"].weight.detach()
    with torch.no_grad(), policy.writing(writer) as model:
        torch.testing.assert_close(model.get_submodule(name).base_layer.weight, expected)


@pytest.mark.parametrize(
    "targets", [("q_proj", "v_proj", "down_proj"), ("k_proj", "o_proj", "gate_proj", "up_proj", "lm_head")]
)
@pytest.mark.parametrize("writer", [Writer.POLICY, Writer.BASE])
def test_an_unmerged_adapter_gives_the_same_turns(tmp_path, monkeypatch, writer, targets):
    """Adapters are not merged into half-precision weights; tested in float64, where results must agree."""
    config = tiny_config(save_tiny(tmp_path), "float64").replace(lora=Lora(r=3, alpha=5, targets=targets))
    policy = adapted(load_policy(config, 0))
    monkeypatch.setattr(policy, "merges", False)
    turns = [replace(turn, writer=writer) for turn in random_turns(21, 30)]
    with policy.writing(writer) as model:
        assert LlamaDecoder.fits(model)
    lean = LocalEngine(policy, native=False).generate(turns, no_children)
    monkeypatch.setattr(LlamaDecoder, "fits", staticmethod(lambda model: False))
    plain = by_path(LocalEngine(policy).generate(turns, no_children))
    for turn in lean:
        assert turn.completion == plain[turn.path].completion
        assert turn.logprobs == pytest.approx(plain[turn.path].logprobs, abs=3 * EXACT["lean"])
    base = LocalEngine(policy).generate([replace(turn, writer=Writer.BASE) for turn in turns], no_children)
    same = [by_path(base)[path].completion == turn.completion for path, turn in plain.items()]
    assert all(same) == (writer == Writer.BASE)


def test_an_adapter_with_dropout_uses_the_models_own_forward(tmp_path):
    policy = load_policy(tiny_config(save_tiny(tmp_path), "bfloat16"), 0)
    with policy.writing(Writer.POLICY) as model:
        assert LlamaDecoder.fits(model)
        layer = model.model.layers[0].self_attn.q_proj
        layer.lora_dropout["default"] = torch.nn.Dropout(0.1)
        assert not LlamaDecoder.fits(model)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_raise(folder, temperature, value):
    broken = tiny_policy(folder)
    broken.model.get_base_model().lm_head.weight.data[7] = value
    turn = Turn(path=(0,), prompt=(5, 6), sampling=Sampling(8, temperature))
    with pytest.raises(FloatingPointError, match=r"not finite.*optimizer\.lr"):
        LocalEngine(broken).generate([turn], no_children)
