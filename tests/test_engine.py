from __future__ import annotations

import random
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from src.engines import transformers as engine_module
from src.engines.transformers import TransformersEngine
from src.records import Sampling, Status, Turn, Writer
from tests.models_for_tests import plain_logprobs, random_tokens, save_tiny, tiny_policy

END = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def policy(folder):
    return tiny_policy(folder)


@pytest.fixture(scope="module")
def exact(folder):
    return tiny_policy(folder, "float64")


def no_children(turn):
    return ()


def random_turns(seed: int, count: int, prompts: int | None = None, longest: int = 40, limit: int = 24) -> list[Turn]:
    """Turns with mixed prompts (some shared), temperatures, nuclei, limits and writers."""
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
    found = {turn.path: turn for turn in turns}
    assert len(found) == len(turns)
    return found


def assert_same_turns(result, expected):
    result, expected = by_path(result), by_path(expected)
    assert result.keys() == expected.keys()
    for path, turn in expected.items():
        assert result[path].completion == turn.completion
        assert result[path].logprobs == pytest.approx(turn.logprobs, abs=1e-9)
        assert (result[path].status, result[path].text) == (turn.status, turn.text)


# agreement with the model


def test_greedy_is_generate_token_for_token(policy):
    rng = random.Random(0)
    sampling = Sampling(max_new_tokens=16, temperature=0.0)
    turns = [
        Turn(path=(index,), prompt=random_tokens(rng, rng.randint(1, 60)), sampling=sampling, stream=index)
        for index in range(100)
    ]
    written = by_path(TransformersEngine(policy, max_batch_tokens=2000).generate(turns, no_children))
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


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-9)])
def test_logprobs_are_those_of_a_plain_forward_pass(dtype, tolerance, policy, exact):
    weights = {"float32": policy, "float64": exact}[dtype]
    differs = 0
    for turn in TransformersEngine(weights, max_batch_tokens=600).generate(random_turns(1, 30, 12), no_children):
        base = turn.writer == Writer.BASE
        with torch.no_grad():
            expected = plain_logprobs(weights, turn.prompt, turn.completion, turn.sampling.temperature, base)
            other = plain_logprobs(weights, turn.prompt, turn.completion, turn.sampling.temperature, not base)
        assert turn.logprobs == pytest.approx(expected.tolist(), abs=tolerance)
        differs += float((expected - other).abs().max()) > 0.01
    assert differs > 20  # the adapter does something, so each writer is told from the other


@pytest.mark.parametrize("temperature", [0.7, 0.9, 1.1])
def test_any_temperature_is_exact_in_float64(exact, temperature):
    turn = replace(random_turns(2, 1)[0], sampling=Sampling(20, temperature), writer=Writer.POLICY)
    (written,) = TransformersEngine(exact).generate([turn], no_children)
    with torch.no_grad():
        expected = plain_logprobs(exact, written.prompt, written.completion, temperature)
    assert written.logprobs == pytest.approx(expected.tolist(), abs=1e-9)


# independence of the batch


@pytest.fixture(scope="module")
def alone(exact):
    """Turns, and what each becomes when it is written by itself."""
    turns = random_turns(3, 36, 15)
    engine = TransformersEngine(exact)
    written = [engine.generate([turn], no_children)[0] for turn in turns]
    lengths = [len(turn.completion) for turn in written]
    ended = [turn for turn in written if turn.status == Status.DONE]
    assert len(set(lengths)) > 5
    assert 5 < len(ended) < 36
    return turns, written


@pytest.mark.parametrize("max_batch_tokens", [1, 100, 400, 10**6])
def test_the_batch_does_not_matter(exact, alone, max_batch_tokens):
    turns, written = alone
    assert_same_turns(TransformersEngine(exact, max_batch_tokens).generate(turns, no_children), written)


def test_the_order_does_not_matter(exact, alone):
    turns, written = alone
    shuffled = random.Random(1).sample(turns, len(turns))
    assert_same_turns(TransformersEngine(exact).generate(shuffled, no_children), written)


@pytest.mark.parametrize("subset", [range(0, 36, 2), range(7), [3, 30]])
def test_other_turns_do_not_matter(exact, alone, subset):
    turns, written = alone
    picked = [turns[index] for index in subset]
    assert_same_turns(TransformersEngine(exact).generate(picked, no_children), [written[index] for index in subset])


@pytest.mark.parametrize("share", [0.0, 0.5, 1.01])
def test_dropping_finished_rows_does_not_matter(exact, alone, share, monkeypatch):
    monkeypatch.setattr(engine_module, "COMPACT_BELOW", share)
    calls = []
    select = engine_module._Cache.select
    monkeypatch.setattr(engine_module._Cache, "select", lambda *a: calls.append(len(a[1])) or select(*a))
    turns, written = alone
    assert_same_turns(TransformersEngine(exact).generate(turns, no_children), written)
    assert len(calls) == 2 if share == 0 else len(calls) > 4  # one for each writer's prefill, then the compactions


def test_the_same_stream_gives_the_same_tokens_and_another_does_not(exact):
    turn = replace(random_turns(4, 1)[0], sampling=Sampling(30), stream=5)
    turns = [replace(turn, path=(index,), stream=stream) for index, stream in enumerate((5, 5, 6))]
    first, second, third = TransformersEngine(exact).generate(turns, no_children)
    assert first.completion == second.completion != third.completion


def test_batches_fit_the_budget(policy, monkeypatch):
    batches = []
    write = TransformersEngine._write
    monkeypatch.setattr(
        TransformersEngine,
        "_write",
        lambda self, model, turns, seen: batches.append(turns) or write(self, model, turns, seen),
    )
    turns = random_turns(5, 40)
    TransformersEngine(policy, max_batch_tokens=200).generate(turns, no_children)
    assert sorted(turn.path for batch in batches for turn in batch) == [(index,) for index in range(40)]
    for batch in batches:
        assert len({turn.writer for turn in batch}) == 1
        longest = max(len(turn.prompt) for turn in batch) + max(turn.sampling.max_new_tokens for turn in batch)
        assert len(batch) == 1 or len(batch) * longest <= 200
    assert 4 < len(batches) < 40


# ends and limits


def test_every_row_has_its_own_limit(policy):
    turns = random_turns(6, 40)
    written = by_path(TransformersEngine(policy).generate(turns, no_children))
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
    full = TransformersEngine(exact).generate([turn], no_children)[0]
    for limit in range(1, len(full.completion)):
        short = TransformersEngine(exact).generate([replace(turn, sampling=Sampling(limit))], no_children)[0]
        assert short.completion == full.completion[:limit]
        assert short.status == Status.TRUNCATED


def test_the_text_leaves_the_end_token_out(policy):
    codec = policy.codec
    for turn in TransformersEngine(policy).generate(random_turns(8, 30), no_children):
        shown = turn.completion[:-1] if turn.completion[-1] == END else turn.completion
        assert turn.text == codec.decode(shown)
        assert "<|im_end|>" not in turn.text


class Script:
    """Stands for a model: writes ``tokens`` whatever the prompt, which has one token."""

    config = SimpleNamespace(num_hidden_layers=0)

    def __init__(self, codec, tokens):
        self.codec, self.tokens = codec, tokens
        self.device, self.end_tokens, self.pad_token = torch.device("cpu"), frozenset({END}), 0

    @contextmanager
    def writing(self, writer):
        yield self

    def __call__(self, input_ids, position_ids, **options):
        logits = torch.full((len(input_ids), 1, self.codec.size), -10.0)
        for row, position in enumerate(position_ids[:, -1].tolist()):
            logits[row, 0, self.tokens[min(position, len(self.tokens) - 1)]] = 10.0
        return SimpleNamespace(logits=logits)


def scripted(codec, tokens, stop_at_answer=True, limit=64):
    sampling = Sampling(limit, temperature=0.0, stop_at_answer=stop_at_answer)
    turn = Turn(path=(0,), prompt=(5,), sampling=sampling)
    return TransformersEngine(Script(codec, tuple(tokens))).generate([turn], no_children)[0]


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


def test_the_closing_tag_is_nothing_special_unless_asked(policy):
    turn = scripted(policy.codec, [*policy.codec.encode("</answer> abc"), END], stop_at_answer=False)
    assert turn.text == "</answer> abc"


def test_rows_that_stop_at_the_tag_mix_with_rows_that_do_not(policy):
    script = Script(policy.codec, (*policy.codec.encode("a</answer> abc"), END))
    turns = [
        Turn(path=(index,), prompt=(5,), sampling=Sampling(limit, 0.0, stop_at_answer=stop))
        for index, (limit, stop) in enumerate([(64, True), (64, False), (4, True), (12, False)])
    ]
    written = by_path(TransformersEngine(script).generate(turns, no_children))
    assert [written[index,].text for index in range(4)] == ["a</answer>", "a</answer> abc", "a</a", "a</answer> a"]
    assert [str(written[index,].status) for index in range(4)] == ["done", "done", "truncated", "truncated"]


def test_every_end_token_ends(policy):
    script = Script(policy.codec, (7, 8, 9))
    script.end_tokens = frozenset({2, 8})
    turn = Turn(path=(0,), prompt=(5,), sampling=Sampling(10, 0.0))
    (written,) = TransformersEngine(script).generate([turn], no_children)
    assert (written.completion, written.text, written.status) == ((7, 8), policy.codec.decode((7,)), Status.DONE)


def test_every_token_is_shown_as_it_is_written(policy):
    seen: dict[tuple[int, ...], list[int]] = {}
    turns = random_turns(9, 20)
    engine = TransformersEngine(policy)
    written = engine.generate(turns, no_children, lambda turn, token: seen.setdefault(turn.path, []).append(token))
    assert {turn.path: list(turn.completion) for turn in written} == seen


# trees


def grown(engine, roots, branching):
    """The tree that grows when each turn's prompt is the end of its parent's tokens."""

    def children(turn):
        assert turn.status in (Status.DONE, Status.TRUNCATED)
        asked.append(turn.path)
        if turn.round > len(branching):
            return []
        writer = Writer.BASE if turn.path[-1] % 2 else Writer.POLICY
        prompt = (turn.prompt + turn.completion)[-9:]
        return [
            Turn((*turn.path, index), prompt, Sampling(6), writer=writer, stream=hash((*turn.path, index)) % 2**64)
            for index in range(branching[turn.round - 1])
        ]

    asked = []
    written = engine.generate(roots, children)
    assert sorted(asked) == sorted(turn.path for turn in written)  # each was asked once
    return written


@pytest.mark.parametrize("branching", [(3,), (2, 2), (3, 1, 2)])
def test_children_are_written_too(exact, branching):
    roots = [replace(turn, sampling=Sampling(6)) for turn in random_turns(10, 4)]
    written = by_path(grown(TransformersEngine(exact), roots, branching))
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
        assert turn.logprobs == pytest.approx(logprobs.tolist(), abs=1e-9)
    assert {turn.writer for turn in written.values() if turn.round > 1} == {Writer.POLICY, Writer.BASE}


@pytest.mark.parametrize("max_batch_tokens", [1, 60])
def test_a_tree_does_not_depend_on_batches(exact, max_batch_tokens):
    roots = [replace(turn, sampling=Sampling(6)) for turn in random_turns(11, 4)]
    expected = grown(TransformersEngine(exact), roots, (2, 2))
    assert_same_turns(grown(TransformersEngine(exact, max_batch_tokens), roots, (2, 2)), expected)


def test_nothing_to_write(policy):
    assert TransformersEngine(policy).generate([], no_children) == []


# writers


def state(weights):
    return {name: parameter.detach().clone() for name, parameter in weights.model.named_parameters()}


def assert_untouched(weights, before):
    for name, parameter in weights.model.named_parameters():
        assert torch.equal(parameter, before[name]), name
    assert weights.parameters()  # the adapter still learns
    assert all("lora" in name for name, p in weights.model.named_parameters() if p.requires_grad)


def test_the_base_writes_without_the_adapter(folder, exact):
    turns = [replace(turn, writer=Writer.BASE) for turn in random_turns(12, 12)]
    bare = tiny_policy(folder, "float64", adapt=False)
    policy_turns = [replace(turn, writer=Writer.POLICY) for turn in turns]
    base = TransformersEngine(exact).generate(turns, no_children)
    assert_same_turns(
        base,
        [
            replace(turn, writer=Writer.BASE)
            for turn in TransformersEngine(bare).generate(policy_turns, no_children)  # B = 0: the same model
        ],
    )
    adapted = by_path(TransformersEngine(exact).generate(policy_turns, no_children))
    assert any(adapted[turn.path].completion != turn.completion for turn in base)


def test_writing_leaves_every_weight_as_it_was(policy):
    before = state(policy)
    with torch.no_grad():
        logprobs = plain_logprobs(policy, (5, 6, 7), (8, 9), 1.0)
    for seed in range(3):
        TransformersEngine(policy).generate(random_turns(seed, 10), no_children)
    assert_untouched(policy, before)
    with torch.no_grad():
        assert torch.equal(plain_logprobs(policy, (5, 6, 7), (8, 9), 1.0), logprobs)


def test_a_failure_while_writing_leaves_every_weight_as_it_was(policy):
    before = state(policy)

    def fail(turn, token):
        raise KeyboardInterrupt

    turns = [replace(turn, writer=Writer.POLICY) for turn in random_turns(13, 4)]
    with pytest.raises(KeyboardInterrupt):
        TransformersEngine(policy).generate(turns, no_children, fail)
    assert_untouched(policy, before)


@pytest.mark.parametrize("writer", list(Writer))
def test_writing_gives_the_merged_or_the_bare_weights(policy, writer):
    name = "model.layers.0.self_attn.q_proj"
    layer = policy.model.get_base_model().get_submodule(name)
    expected = layer.base_layer.weight.detach().clone()
    if writer == Writer.POLICY:  # alpha / r = 2
        expected += 2 * layer.lora_B["default"].weight.detach() @ layer.lora_A["default"].weight.detach()
    with torch.no_grad(), policy.writing(writer) as model:
        torch.testing.assert_close(model.get_submodule(name).base_layer.weight, expected)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_raise(folder, temperature, value):
    broken = tiny_policy(folder)
    broken.model.get_base_model().lm_head.weight.data[7] = value
    turn = Turn(path=(0,), prompt=(5, 6), sampling=Sampling(8, temperature))
    with pytest.raises(FloatingPointError, match=r"not finite.*optimizer\.lr"):
        TransformersEngine(broken).generate([turn], no_children)
