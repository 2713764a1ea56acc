"""Sections are immutable, validated at construction, and built from plain values; every mistake is reported."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from src.config import build
from src.config.building import FAILED, attempt, locate
from src.models.settings import Lora, ModelSettings
from src.optimizers.adamw import AdamW
from src.rewards.base import Reward
from src.rewards.format import Format
from src.rewards.outcome import Outcome
from src.rounds.carry.tail import Tail
from src.rounds.multi_round import MultiRound
from src.types import InputError
from src.verifiers.base import Verifier
from src.verifiers.published import Published
from tests.helpers.sections import mistakes

BUDGETS = {"context": 99, "first_tokens": 9, "later_tokens": 9, "progress_tokens": 9}
ROUNDS = {"prompts": {"first": "?", "later": "?"}, "carry": {"_target_": "src.rounds.carry.tail.Tail"}, **BUDGETS}


def test_a_section_cannot_be_changed() -> None:
    settings = AdamW(lr=0.1)
    with pytest.raises(ValidationError, match="frozen"):
        settings.lr = 0.2
    assert settings.replace(lr=0.2) == AdamW(lr=0.2)
    assert settings == AdamW(lr=0.1)


@pytest.mark.parametrize("values", [{"lr": 0.0}, {"lr": "0.1"}, {"lr": 0.1, "rate": 1}, {"lr": float("nan")}, {}])
def test_an_invalid_section_cannot_be_constructed(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AdamW(**values)


def test_a_changed_copy_is_validated_again() -> None:
    with pytest.raises(ValidationError, match="must be two numbers in"):
        AdamW(lr=0.1).replace(betas=(1.0, 1.0))
    with pytest.raises(ValidationError, match="branching"):
        build({**ROUNDS, "n": 2, "branching": [2, 2]}, MultiRound).replace(n=3)


def test_a_description_holds_the_class_and_all_values() -> None:
    reward = Reward(terms={"right": Outcome(), "form": Format(weight=0.5)})
    assert reward.described() == {
        "_target_": "src.rewards.base.Reward",
        "normalise": "after",
        "terms": {
            "right": {"_target_": "src.rewards.outcome.Outcome", "weight": 1.0},
            "form": {"_target_": "src.rewards.format.Format", "weight": 0.5},
        },
    }
    assert build(reward.described()) == reward
    assert Published().described() == Published(anywhere=["aime2024"]).described()  # as a list or as a tuple
    assert Lora(r=8).described() != Lora(r=9).described()


def test_a_section_whose_class_is_abstract_needs_a_target() -> None:
    errors: list[str] = []
    assert attempt({"name": "x"}, Verifier, "verifier", errors) is FAILED
    assert errors == ["verifier._target_ is missing; it names the class of the section"]


def test_sections_are_built_from_the_inside_out() -> None:
    rounds = build({**ROUNDS, "_target_": "src.rounds.multi_round.MultiRound", "n": 2, "carry": Tail(head=0.5)})
    assert isinstance(rounds, MultiRound)
    assert rounds.carry == Tail(head=0.5)
    model = build({"name": "x", "context": 9, "round_tokens": 3, "lora": {"r": 4, "alpha": 8}}, ModelSettings)
    assert model.lora == Lora(r=4, alpha=8)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("AdamW", "'AdamW' is not the dotted path of a class"),
        ("../..", "'../..' is not the dotted path of a class"),
        ("src.optimizers..adamw.AdamW", "'src.optimizers..adamw.AdamW' is not the dotted path of a class"),
        (5, "5 is not the dotted path of a class"),
        ("src.optimizers.nothing.AdamW", "src.optimizers.nothing.AdamW cannot be imported: No module named"),
        ("src.optimizers.adamw.Adam", "src.optimizers.adamw.Adam: no such class"),
        ("os.path", "os.path is not a subclass of src.settings.Section, so it cannot be configured"),
        ("src.types.Turn", "src.types.Turn is not a subclass of src.settings.Section"),
        ("src.rounds.base.Carry", "src.rounds.base.Carry is abstract: it does not define carry"),
        ("src.rewards.base.Term", "src.rewards.base.Term is abstract: it does not define at"),
    ],
)
def test_targets_that_are_no_section_class_are_refused(target: Any, text: str) -> None:
    with pytest.raises(InputError) as caught:
        locate(target)
    assert str(caught.value).startswith(text)
    with pytest.raises(InputError) as caught:
        build({"_target_": target}, place="here")
    (problem,) = caught.value.problems
    assert problem.startswith(f"here._target_: {text}")


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (AdamW, {}, ["it.lr is missing"]),
        (AdamW, {"lr": "???"}, ["it.lr has no value; give one with it.lr=…"]),
        (AdamW, {"lr": 0.1, "warmpu": 0.1}, ["it.warmpu: there is no such setting; valid: warmup"]),
        (AdamW, {"lr": True}, ["it.lr=True: must be a number"]),
        (AdamW, {"lr": 1, "steps": 1.5}, ["it.steps=1.5: must be a whole number or null"]),
        (AdamW, {"lr": 1, "schedule": "flat"}, ["it.schedule='flat': must be one of cosine, linear, constant"]),
        (AdamW, {"lr": 1, "final": 2}, ["it.final=2 must be in [0, 1]"]),
        (Reward, {"terms": {"a": 3}}, ["it.terms.a=3: must be a section for Term (one term of the reward)"]),
        (Reward, {"terms": 3}, ["it.terms=3: must be a section"]),
        (
            Reward,
            {"terms": {"a": {"_target_": "src.rewards.overlong.Overlong", "buffer": 0.0}}, "normalise": "never"},
            ["it.terms.a.buffer=0.0 must be in (0, 1]", "it.normalise='never': must be one of after, before"],
        ),
        (
            MultiRound,
            {**ROUNDS, "n": 0, "carry": {"_target_": "src.rounds.carry.tail.Tail", "head": 1.0}, "top_p": 0.0},
            ["it.carry.head=1.0 must be in [0, 1)", "it.n=0 must be in [1, 10000]", "it.top_p=0.0 must be in (0, 1]"],
        ),
    ],
)
def test_mistakes_name_the_setting(kind: Any, values: dict[str, Any], expected: list[str]) -> None:
    assert mistakes(kind, "it", **values) == expected
    with pytest.raises(InputError) as caught:
        build(values, kind, "it")
    assert list(caught.value.problems) == expected


def test_rules_are_checked_even_if_other_values_are_invalid() -> None:
    values = {**ROUNDS, "n": 2, "branching": [1], "responses": 0, "ending": "concludes", "progress_tokens": 99}
    expected = ["rounds.responses=0 must", "rounds.branching=[1] must", "rounds.ending=concludes looks", "no room"]
    found = mistakes(MultiRound, "rounds", **values)
    assert [any(text in one for one in found) for text in expected] == [True] * 4
    assert len(found) == 4
    values |= {"n": 0, "first_tokens": 0}  # required fields: no default can replace the invalid values
    found = mistakes(MultiRound, "rounds", **values)
    assert [
        one
        for one in ("rounds.n=0 must", "rounds.first_tokens=0 must", *expected)
        if not any(one in two for two in found)
    ] == []
