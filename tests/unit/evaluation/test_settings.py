"""Settings of evaluation: what is refused, and the strategy that answers a test split."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from src.engines.local.settings import HF, Local
from src.engines.vllm import VLLM
from src.evaluation.settings import Evaluation
from src.rounds.carry.answer import Answer
from src.rounds.multi_round import MultiRound
from src.rounds.prompts import Prompts
from src.verifiers.own import Own
from src.verifiers.published import Published

VALUES: dict[str, Any] = {"rounds": [1, 3], "samples": 4, "temperature": 1.0, "top_p": 1.0}


def mistakes(**changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Evaluation(**VALUES | changes)
    return str(caught.value)


@pytest.mark.parametrize("rounds", [[], [0], [3, 0], [-1]])
def test_numbers_of_rounds_are_positive(rounds: list[int]) -> None:
    assert f"evaluation.rounds={rounds} must be a nonempty list" in mistakes(rounds=rounds)


def test_one_round_and_one_greedy_sample_are_enough() -> None:
    assert Evaluation(**VALUES | {"rounds": [1], "samples": 1, "temperature": 0}).samples == 1
    assert Evaluation(**VALUES | {"samples": 2, "temperature": 0.1}).samples == 2


def test_greedy_samples_would_be_equal() -> None:
    text = mistakes(temperature=0, samples=2)
    assert "evaluation.temperature=0 is greedy, so evaluation.samples=2 answers would be equal" in text
    assert "use evaluation.samples=1" in text


def test_the_best_checkpoint_needs_validation() -> None:
    assert "evaluation.keep_best=true needs validation accuracies" in mistakes(keep_best=True)
    assert Evaluation(**VALUES, keep_best=True, every=1).keep_best
    assert not Evaluation(**VALUES).keep_best
    assert "evaluation.at_start=true needs validation accuracies" in mistakes(at_start=True)


def run(validation_size: int = 10, trains: bool = True, verifier: Any = None) -> Any:
    benchmark = SimpleNamespace(name="sums", validation_size=validation_size, tests={"easy": None, "hard": None})
    return SimpleNamespace(verifier=verifier or Own(), benchmark=benchmark, train=SimpleNamespace() if trains else None)


def errors(settings: Evaluation, of: Any) -> list[str]:
    return list(settings.check_run(of))


def test_a_verifier_counts_once() -> None:
    assert errors(Evaluation(**VALUES, also=[Published()]), run()) == []
    (error,) = errors(Evaluation(**VALUES, also=[Own()]), run())
    assert error.startswith("evaluation.also=own: the verifier own is already in use")
    (error,) = errors(Evaluation(**VALUES, also=[Published(), Published()]), run())
    assert error.startswith("evaluation.also=published")
    without = SimpleNamespace(verifier=None, benchmark=None, train=None)
    assert errors(Evaluation(**VALUES, also=[Own()], every=3), without) == []


def test_validation_needs_a_split() -> None:
    every = Evaluation(**VALUES, every=5)
    (error,) = errors(every, run(validation_size=0))
    assert "evaluation.every=5 needs a validation split" in error
    assert errors(every, run(validation_size=1)) == []
    assert errors(every, run(validation_size=0, trains=False)) == []
    assert errors(Evaluation(**VALUES), run(validation_size=0)) == []


def test_splits_without_a_system_prompt_exist() -> None:
    (error,) = errors(Evaluation(**VALUES, no_system=["hard", "harder", "a"]), run())
    assert error == "evaluation.no_system=['a', 'harder']: benchmark=sums has no such test split; valid: easy, hard"
    assert errors(Evaluation(**VALUES, no_system=["hard"]), run()) == []


def test_a_split_is_answered_by_independent_chains() -> None:
    prompts = Prompts(first="{question}", later="{progress}", final="", item="{progress}", system="Think.")
    strategy = MultiRound(
        n=3,
        prompts=prompts,
        responses=8,
        trajectories=4,
        context=500,
        first_tokens=50,
        later_tokens=50,
        progress_tokens=20,
        carry=Answer(),
    )
    settings = Evaluation(**VALUES | {"samples": 2, "temperature": 0.5, "top_p": 0.9}, no_system=["hard"])
    chains = settings.chains(strategy, "easy", 2)
    assert isinstance(chains, MultiRound)
    assert (chains.n, chains.branching, chains.temperature, chains.top_p) == (2, (2, 1), 0.5, 0.9)
    assert chains.prompts.system == "Think."
    assert settings.chains(strategy, "hard", 2) == chains.replace(prompts=prompts.replace(system=""))


def test_another_engine_measures_the_floor() -> None:
    assert "use e.g. evaluation.floor=16" in mistakes(floor_engine=HF())
    asked = VALUES | {"floor": 16, "floor_engine": HF()}
    with_engine = run()
    with_engine.engine = Local()
    assert errors(Evaluation(**asked), with_engine) == []
    (error,) = errors(Evaluation(**asked | {"floor_engine": Local()}), with_engine)
    assert "is the engine of the run; use another one" in error


def test_an_engine_with_other_random_numbers_measures_the_floor_of_greedy_answers_only() -> None:
    asked = VALUES | {"floor": 16, "floor_engine": VLLM()}
    with_engine = run()
    with_engine.engine = Local()
    (error,) = errors(Evaluation(**asked), with_engine)
    assert "VLLM draws other random numbers than Local" in error
    assert errors(Evaluation(**asked | {"samples": 1, "temperature": 0}), with_engine) == []


def test_controls_and_another_engine_are_refused_together() -> None:
    with_engine = run()
    with_engine.engine, with_engine.control = Local(), SimpleNamespace(active=True)
    (error,) = errors(Evaluation(**VALUES | {"floor": 16, "floor_engine": HF()}), with_engine)
    assert "the drafts would still come from the first engine" in error
