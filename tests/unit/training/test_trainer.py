"""Training loop: order of problems, every algorithm, validation, interruptions."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from src.config import options, resume
from src.evaluation.results import Evaluated
from src.evaluation.statistics import Interval
from src.rounds.aggregation import Aggregation
from src.train import train
from src.training import trainer
from src.training.trainer import Trainer, order, spares
from src.types import Turn
from src.utils.checkpoints import latest, step_of, steps
from tests.conftest import run_small
from tests.integration.test_train import metrics

# the order of problems


@pytest.mark.parametrize(("count", "size"), [(10, 3), (12, 4), (5, 5), (7, 1)])
def test_an_epoch_takes_every_problem_at_most_once(count: int, size: int) -> None:
    steps = count // size
    epochs = [[order(count, 3, epoch * steps + step, size) for step in range(steps)] for epoch in range(3)]
    for epoch in epochs:
        taken = [index for step in epoch for index in step]
        assert len(set(taken)) == len(taken) == steps * size
    assert epochs[0] != epochs[1] or count == 1
    assert epochs[0] != [order(count, 4, step, size) for step in range(steps)]


def test_spares_are_the_other_problems_shuffled_by_seed_and_step() -> None:
    taken = order(50, 0, 2, 8)
    found = spares(50, 0, 2, taken)
    assert sorted([*found, *taken]) == list(range(50))
    assert found == spares(50, 0, 2, taken)
    others = [spares(50, seed, step, taken) for seed, step in ((0, 3), (1, 2))]
    assert all(other != found for other in others)
    assert found != sorted(found)


# algorithms


@pytest.mark.parametrize("name", options("algorithm"))
def test_every_algorithm_trains(tmp_path: Path, name: str) -> None:
    settings = ["algorithm.iterations=2", "algorithm.correction=sequence", "algorithm.mask_truncated=true"]
    settings += [
        "reward=overlong",
        "rounds=1",
        "train.steps=1",
        "train.problems=6",
        "rounds.responses=6",
        "evaluation.before=false",
        "evaluation.every=0",
    ]
    run = run_small(tmp_path / "run", f"algorithm={name}", *settings, "evaluation.limit=1")
    line = metrics(run)[0]
    assert 0 < line["grad_norm"] < 100
    assert line["sampler_weight"] == pytest.approx(1.0, abs=1e-3)  # sampler and learner compute the same distribution


# validation and interruptions


SETTINGS = ["train.steps=3", "seed=0", "evaluation.before=false", "evaluation.limit=1", "checkpoint.keep=0"]


@pytest.fixture(scope="module")
def small_whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_small(tmp_path_factory.mktemp("runs") / "whole", *SETTINGS)


def weights(checkpoint: Path) -> bytes:
    return (checkpoint / "adapter" / "adapter_model.safetensors").read_bytes()


def test_the_best_weights_are_those_of_the_first_step_with_the_best_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = iter([0.5, 0.75, 0.75, 0.625])  # the last one: fresh answers of the best weights

    def evaluate(*arguments: object, **options: object) -> tuple[Evaluated, list[object]]:
        value = next(accuracies)
        return Evaluated({"accuracy": value, "low": 0.0, "high": 1.0, "tokens_per_answer": 9.0}, [[1.0]]), []

    monkeypatch.setattr(trainer, "evaluate", evaluate)
    run = run_small(tmp_path / "run", *SETTINGS, "evaluation.keep_best=true")
    assert [line["validation/accuracy"] for line in metrics(run)] == [0.5, 0.75, 0.75]
    summary = json.loads((run / "summary.json").read_text())
    kept = summary["best"]
    assert (kept["step"], kept["accuracy"], kept["fresh_accuracy"], kept["optimism"]) == (2, 0.75, 0.625, 0.125)
    assert summary["reported_step"] == 2
    assert {one["step"] for one in summary["evaluations"]["after"]} == {2}
    best, second, third = (weights(run / "checkpoints" / name) for name in ("best", "step_2", "step_3"))
    assert best == second == (run / "model" / "adapter_model.safetensors").read_bytes()
    assert second != third
    assert step_of(run / "checkpoints" / "best") == 2


def test_every_look_at_the_validation_split_counts_once_also_after_an_extension(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 2 and 3 are looks 1 and 2 of a run of three steps; step 4 is the third look, not the second again."""
    looks: list[int] = []
    honest = trainer.band

    def noted(correct: Sequence[float], look: int) -> Interval:
        looks.append(look)
        return honest(correct, look)

    monkeypatch.setattr(trainer, "band", noted)
    run = run_small(tmp_path / "run", *SETTINGS, "evaluation.every=2")
    assert looks == [1, 2]
    directory, config = resume([f"resume={run}", "train.steps=5"])
    train(config, directory)
    assert looks == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("moment", "number"),
    [("sample", signal.SIGTERM), ("validate", signal.SIGINT), ("sample", signal.SIGUSR1), ("sample", signal.SIGHUP)],
)
def test_a_run_stopped_by_a_signal_resumes_bit_for_bit(
    small_whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, number: signal.Signals
) -> None:
    """The signal arrives while the third step is sampled, or while the second is validated."""
    honest = getattr(Trainer, moment)

    def interrupted(self: Trainer, *arguments: int) -> object:
        if self.state.step == 2:
            signal.raise_signal(number)
        return honest(self, *arguments)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, moment, interrupted)
        with pytest.raises(SystemExit) as caught:
            run_small(run, *SETTINGS)
    assert caught.value.code == 128 + number
    assert len(metrics(run)) == (2 if moment == "sample" else 1)  # step 2 is not validated yet, so not logged
    assert steps(run) == [1, 2]
    assert not (run / "summary.json").exists()
    directory, config = resume([f"resume={run}"])
    train(config, directory)
    assert metrics(run) == metrics(small_whole)
    assert weights(latest(run)) == weights(latest(small_whole))


def test_a_run_stopped_while_drafts_are_aggregated_resumes_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal arrives in the second step, when some of its aggregations are written and others are not."""
    settings = ["experiment=spiral", "rounds.sets=2", "rounds.sources=2", "train.steps=2", "seed=0"]
    settings += ["evaluation.before=false", "evaluation.every=0", "evaluation.limit=1"]
    written: dict[str, int] = {"step": 0, "aggregations": 0}
    sample, extend = Trainer.sample, Aggregation.extend

    def noted(self: Trainer, step: int) -> object:
        written.update(step=step, aggregations=0)
        return sample(self, step)

    def interrupted(self: Aggregation, problem: object, lineage: list[Turn], codec: object) -> list[Turn]:
        written["aggregations"] += lineage[-1].round == 2
        if written == {"step": 1, "aggregations": 3}:
            signal.raise_signal(signal.SIGTERM)
        return extend(self, problem, lineage, codec)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "sample", noted)
        patch.setattr(Aggregation, "extend", interrupted)
        with pytest.raises(SystemExit) as caught:
            run_small(run, *settings)
    assert caught.value.code == 128 + signal.SIGTERM
    assert written == {"step": 1, "aggregations": 3}  # of at least 2 problems x 2 sets x 2 aggregations
    assert steps(run) == [1]
    directory, config = resume([f"resume={run}"])
    train(config, directory)
    whole = run_small(tmp_path / "whole", *settings)
    assert metrics(run) == metrics(whole)
    assert metrics(run)[1]["completion/round_2/mean_tokens"] > 0
    assert weights(latest(run)) == weights(latest(whole))
