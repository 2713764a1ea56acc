"""Whatever a model writes, every carry rule hands on at most its budget, and no text becomes a control token."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from src.config import compose, options
from src.models.loading import load_codec
from src.models.tokenizer import TokenizerCodec
from src.rounds.base import TokenCarry
from src.rounds.multi_round import MultiRound
from src.types import Problem, Sampling, Status, Turn
from src.verifiers.tags import TAGS
from tests.helpers.tiny_models import TEMPLATE

ROUNDS = 3
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PROBLEM = Problem("p", "1 + 2 =", "3")

PIECES = st.sampled_from([*CONTROL, *TAGS, "\\boxed{", "}", "<|im_", "end|>", "<|", "\n", " ", "so far ", "1 + 2"])
TEXTS = st.one_of(st.text(max_size=80), st.lists(PIECES | st.text(max_size=3), max_size=40).map("".join))


@cache
def codec(kind: str) -> TokenizerCodec:
    """The embedded model's characters, or bytes with merges, as most language models have."""
    if kind == "characters":
        return load_codec(compose("train").settings.model)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    prompts = compose("train").settings.model.prompts
    texts = [prompts.first, prompts.later, "so far 1 + 2 = 3, <answer> \\boxed{3} </answer> <|im_start|> <|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts * 3, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=CONTROL[2], pad_token=CONTROL[0])
    fast.add_special_tokens({"additional_special_tokens": [CONTROL[1]]})
    fast.chat_template = TEMPLATE
    return TokenizerCodec(fast)


def fits(rounds: MultiRound, context: int, kind: str) -> bool:
    """Whether the problem is accepted before the run."""
    try:
        rounds.replace(context=context).check_problem(PROBLEM, codec(kind))
    except ValueError:  # also that of a context that cannot hold the progress
        return False
    return True


@cache
def strategy(kind: str, carry: str, keep: str) -> MultiRound:
    """Rounds with the smallest context that the problem is accepted with."""
    budgets = ["rounds.progress_tokens=12", "rounds.first_tokens=40", f"rounds.keep={keep}"]
    rounds = compose("train", [f"rounds={ROUNDS}", f"rounds/carry={carry}", *budgets]).settings.rounds
    assert isinstance(rounds, MultiRound)
    sizes = range(1, rounds.context + 1)
    return rounds.replace(context=sizes[bisect(sizes, False, key=lambda size: fits(rounds, size, kind))])


def control(codec: TokenizerCodec, tokens: Sequence[int]) -> int:
    """The number of control tokens."""
    special = {*codec.tokenizer.all_special_ids, *codec.tokenizer.added_tokens_decoder}
    return sum(codec.tokenizer.convert_ids_to_tokens(token) in CONTROL for token in tokens if token in special)


def written(codec: TokenizerCodec, texts: Sequence[str]) -> list[Turn]:
    """A branch whose turns have these texts. All of them reached their budget, so that every rule goes on."""
    lineage: list[Turn] = []
    for number, text in enumerate(texts, 1):
        facts: dict[str, Any] = {"status": Status.TRUNCATED, "completion": codec.encode(text)}
        lineage.append(Turn((0,) * number, (1,), Sampling(40), text=text, **facts))
    return lineage


@pytest.mark.parametrize("kind", ["characters", "merges"])
@pytest.mark.parametrize("carry", options("rounds/carry"))
@settings(max_examples=30, deadline=None)
@example(texts=["".join(map(chr, range(0xE000, 0xE010)))], keep="tail")
@given(texts=st.lists(TEXTS, min_size=1, max_size=ROUNDS - 1), keep=st.sampled_from(["head", "tail"]))
def test_any_text_is_carried_within_its_budget_and_as_text(kind: str, carry: str, texts: list[str], keep: str) -> None:
    tokenizer, rounds = codec(kind), strategy(kind, carry, keep)
    (first, *_) = rounds.open(PROBLEM, tokenizer)
    turns = rounds.extend(PROBLEM, written(tokenizer, texts), tokenizer)
    assert turns
    for turn in turns:
        quoted = turn.prompt[len(first.prompt) :] if isinstance(rounds.carry, TokenCarry) else turn.carried
        assert len(quoted if isinstance(quoted, tuple) else tokenizer.encode(quoted)) <= rounds.progress_tokens
        assert len(turn.prompt) + turn.sampling.max_new_tokens <= rounds.context
        assert control(tokenizer, turn.prompt) == control(tokenizer, first.prompt)
