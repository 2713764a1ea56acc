"""Mixtures: who grows which problem, what is evaluated, and which settings are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from src.config import compose, overlay, resume
from src.rounds.growing import grow
from src.rounds.mixture import Mixture
from src.train import train
from src.types import InputError, Problem
from tests.conftest import run_small
from tests.helpers.scripted import Letters, Scripted
from tests.integration.test_train import adapter, metrics, stopped

PROBLEMS = [Problem(f"p{number}", f"Q{number}", "") for number in range(6)]


def mixture(*overrides: str) -> Mixture:
    rounds = compose("train", ["rounds=mixture", "rounds.responses=2", "train.problems=6", *overrides]).settings.rounds
    assert isinstance(rounds, Mixture)
    return rounds


def says(turn: object) -> str:
    return "<answer>1+1</answer>"


@pytest.mark.parametrize(
    ("shares", "parts"),
    [((1, 1), "aaabbb"), ((2, 1), "aaaabb"), ((1, 5), "abbbbb"), ((0.5, 0.25), "aaaabb"), ((1, 0), "aaaaaa")],
)
def test_each_part_grows_its_share_of_a_steps_problems(shares: tuple[float, float], parts: str) -> None:
    names = {"a": "chains", "b": "single"}
    one = mixture(f"rounds.parts.chains.share={shares[0]}", f"rounds.parts.single.share={shares[1]}")
    problems = one.assigned(PROBLEMS)
    assert [problem.part for problem in problems] == [names[part] for part in parts]  # type: ignore[attr-defined]
    rollouts = grow(Scripted(says), one, problems, Letters(), ("key",))
    for rollout, part, plain in zip(rollouts, parts, PROBLEMS, strict=True):
        alone = grow(Scripted(says), one.parts[names[part]].strategy, [plain], Letters(), ("key",))[0]
        assert [(turn.path, turn.stream, turn.prompt) for turn in rollout.turns] == [
            (turn.path, turn.stream, turn.prompt) for turn in alone.turns
        ]


def test_the_evaluated_part_answers() -> None:
    for name, n in (("chains", 3), ("single", 1)):
        one = mixture(f"rounds.evaluated={name}")
        part = one.parts[name].strategy
        assert one.independent(n, 4, 1.0, 1.0) == part.independent(n, 4, 1.0, 1.0)
        assert (one.joins, one.samples) == (part.joins, part.samples)


REFUSED = {
    "train.problems=5": "train.problems=5 cannot be divided by rounds.parts.chains.share=1, rounds.parts.single.share",
    "rounds.parts.chains.strategy.continuation=base": "rounds.parts.chains: continuation=base needs the",
    "rounds/search@rounds.parts.chains.strategy.search=vote": "rounds.parts.chains: a search prunes",
    "+rounds/search=vote": "rounds/search searches with one strategy",
    "rounds.evaluated=double": "rounds.evaluated=double is no part of the mixture; valid: chains, single",
    "rounds.parts.single.strategy.responses=1": "rounds.parts.single: a group of 1",
}


def test_bad_settings_are_refused_together() -> None:
    with pytest.raises(InputError) as caught:
        compose("train", ["rounds=mixture", *REFUSED])
    for message in REFUSED.values():
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["rounds=mixture", "rounds.parts.chains.share=0", "rounds.parts.single.share=0"],
            "every share in rounds.parts is 0",
        ),
        (["rounds=mixture", "reward=process"], "rounds.probes=0; use 1 or more"),
        (["experiment=pdr", "credit=global-local"], "compares a turn with the one that it quotes"),
        (["experiment=pdr", "evaluation.rounds=[1,3]"], "asks for 3 rounds"),
        (["experiment=accordion", "rounds.parts.unfolded.strategy.progress_tokens=512"], "fills the whole context"),
    ],
)
def test_what_a_part_cannot_do_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compose("train", overrides)


def test_only_the_evaluated_part_must_fit_the_evaluations() -> None:
    compose("train", ["experiment=pdr", "rounds.evaluated=long", "evaluation.rounds=[1,3]"])


def test_a_mixture_trains_resumes_and_is_evaluated_crosswise(tmp_path: Path) -> None:
    """Half of the problems are grown by each part, also after a kill; either part can be evaluated."""
    settings = ["experiment=accordion", "evaluation.before=false", "evaluation.every=0", "evaluation.limit=1"]
    whole = run_small(tmp_path / "whole", *settings, "train.steps=2")
    half = stopped(whole, tmp_path / "half")
    shutil.rmtree(half / "checkpoints" / "step_2")
    (half / "checkpoints" / "latest").write_text("step_1\n")
    directory, config = resume([f"resume={half}"])
    train(config, directory)
    assert metrics(half) == metrics(whole)
    assert adapter(half) == adapter(whole)
    assert {name: metrics(whole)[0][f"part/{name}/problems"] for name in ("folded", "unfolded")} == {
        "folded": 1,
        "unfolded": 1,
    }
    for part, carry in (("folded", "History"), ("unfolded", "Transcript")):
        rounds = overlay("evaluate", [f"run={whole}", f"rounds.evaluated={part}"]).settings.rounds
        assert type(rounds.independent(3, 1, 1.0, 1.0).carry).__name__ == carry
