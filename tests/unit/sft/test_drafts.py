"""Demonstrations of prompts with several drafts: right arithmetic, random strategy, and the prompts of rollouts."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from itertools import pairwise
from typing import Any

from src.config import compose
from src.models.loading import load_codec
from src.rounds.sets import reader
from src.sft.demonstrations import Demonstration, Demonstrations, draw
from src.sft.pretraining import messages
from src.types import Problem, Sampling, Turn

ANSWER = re.compile(r"<answer>(.*)</answer>")


def drawn(count: int, **settings: Any) -> list[Demonstration]:
    rng = random.Random(0)
    return [draw(rng, Demonstrations(**settings), frozenset()) for _ in range(count)]


def stated(text: str) -> str:
    found = ANSWER.search(text)
    assert found is not None
    return found[1]


def test_without_drafts_the_demonstrations_are_those_that_the_first_embedded_model_learned_from() -> None:
    text = repr(drawn(2000)).encode()
    assert hashlib.sha256(text).hexdigest() == "80bd7e53f7edc283e08627ef0f1b94a804f1623712112b4e5ad2365eb2478acf"


def test_a_turn_that_reads_drafts_goes_on_from_the_most_frequent_from_any_or_from_none() -> None:
    votes = copies = alone = 0
    for one in drawn(4000, drafts=1, guess=0, min_terms=6):
        texts = [stated(text) for text in one.before]
        steps = re.findall(r"([+-]\d+)=", one.completion)
        if not all("boxed" in text for text in texts):
            continue  # unfinished drafts are gone on with
        if not one.final:
            continue
        if steps:  # all of the question's operations
            assert steps == re.findall(r"[+-]\d+", one.question.partition(":")[2].replace(" ", ""))
            alone += 1
            continue
        assert stated(one.completion) in texts
        if (most := Counter(texts).most_common())[0][1] > most[-1][1]:
            votes += stated(one.completion) == most[0][0]
            copies += stated(one.completion) != most[0][0]
    assert alone > 0.25 * (votes + copies)
    assert votes > 2 * copies > 0


def test_its_arithmetic_is_right() -> None:
    seen = 0
    for one in drawn(500, drafts=1):
        sums = re.findall(r"(-?\d+)([+-]\d+)?(?:=|$)", one.completion.partition("</reasoning>")[0].rpartition(">")[2])
        for (value, operation), (result, _) in pairwise(sums):
            assert int(value) + int(operation) == int(result)
            seen += 1
    assert seen > 500


def test_its_prompt_is_the_one_of_rounds_aggregation() -> None:
    config = compose("train", ["rounds=aggregation", "rounds.sources=3", "rounds.responses=3"]).settings
    codec = load_codec(config.model)
    problem_of = {one.question: one for one in drawn(300, drafts=1) if one.final and len(one.before) == 3}
    assert problem_of
    for question, one in problem_of.items():
        drafts = [
            Turn((number,), (), Sampling(1), text=text, completion=codec.encode(text))
            for number, text in enumerate(one.before)
        ]
        asked = reader(config.rounds, Problem("p", question, "0"), 0, drafts, config.rounds, codec)
        assert asked.prompt == tuple(codec.chat(messages(one, config.model.prompts)))
