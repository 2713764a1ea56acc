"""Evaluation loop: sample answers to held-out problems, verify them, compute accuracy and other statistics."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from src.evaluation.answers import attempts, repeated, vote_calibration, votes_of
from src.evaluation.controls import Sources
from src.evaluation.graphs import Graph, summarized
from src.evaluation.judging import second_opinion
from src.evaluation.labelled import read_labelled, verifier_error, with_error
from src.evaluation.measuring import VerifierError, flips, second_layout
from src.evaluation.results import Evaluated, Results, digest, problems_digest
from src.evaluation.sampling import Answered, answer
from src.evaluation.settings import Evaluation
from src.evaluation.statistics import accuracy, majority, pass_at_k
from src.rounds.base import Strategy
from src.rounds.growing import ALONE, World
from src.run import Run
from src.types import Codec, Engine, InputError, Problem, Scorer, Status, Turn
from src.verifiers.judge import failures
from src.verifiers.tags import well_formed
from src.verifiers.votes import merged

CHUNK = 256
"""Problems that are answered at once."""

Progress = Callable[[str, int], Callable[[int], None]]
"""Called with an evaluation's name and number of problems; returns a callback for the number of newly finished ones."""


def evaluate_tests(
    run: Run,
    settings: Evaluation,
    results: Results,
    show: Progress,
    interrupt: Callable[[], None] | None = None,
    sources: Sources | None = None,
) -> Iterator[Evaluated]:
    """Evaluate every test split at every number of rounds with the policy's current weights.

    An evaluation that is already in ``results`` is read instead of sampled again. Base and trained policy use the same
    random streams. ``interrupt`` is called while turns are generated, and may raise to stop.
    """

    @cache
    def of_verifier(labelled: str) -> VerifierError:
        scorer = next(iter(run.scorers.values()))
        return run.world.lead(lambda: verifier_error(scorer, read_labelled(Path(labelled))))

    for split, rounds, problems, chains in _planned(run, settings):
        decided = decided_by(run, settings, split, problems, chains, trained=run.step > 0)
        decided |= {"control": sources.described} if sources is not None else {}
        result = run.world.lead(partial(results.find, digest(decided)))
        if result is None:
            seeds = (run.settings.seed, "test", rounds)
            report = show(f"{run.settings.benchmark.name}-{split}_rounds{rounds}", len(problems))
            place = run.engine, chains, problems, run.codec, run.scorers
            error = None if settings.labelled is None else of_verifier(settings.labelled)
            again_with = run.engine if settings.floor_engine is None else run.floor_engine  # checked before sampling
            with run.policy.gathered():
                sampled, records = evaluate(
                    *place, seeds, progress=report, interrupt=interrupt, world=run.world, sources=sources
                )
            measured: dict[str, Any] = {}
            if settings.floor is not None:
                at_once = second_layout(len(problems), settings.floor, CHUNK)
                with run.policy.gathered():
                    again, _ = evaluate(
                        again_with, *place[1:], seeds, at_once, interrupt=interrupt, world=run.world, sources=sources
                    )
                measured["floor"] = {"problems_at_once": at_once, **asdict(flips(sampled.correct, again.correct))}
                if settings.floor_engine is not None:
                    measured["floor"]["engine"] = type(settings.floor_engine).__name__
            if error is not None:
                measured |= with_error(sampled.interval, error)
            about = {
                "benchmark": run.settings.benchmark.name,
                "split": split,
                "key": digest(decided),
                "protocol": digest({**decided, "weights": None}),
                "decided_by": decided,
                "step": run.step,
                "seed": run.settings.seed,
                "base_sha256": run.policy.base_hash,
                "data": run.settings.benchmark.origin(split),
                "changed": {name: {"run": was, "here": now} for name, (was, now) in run.config.changed.items()},
            }
            result = Evaluated({**sampled.summary, **measured, **about}, sampled.correct)
            run.world.lead(partial(results.write, result, records))
        yield result


def evaluations_of_base(run: Run, settings: Evaluation, results: Results) -> list[Evaluated]:
    """Read the evaluations of the base that were made before the first training step.

    Raises:
        InputError: one is missing or damaged; it cannot be made again, since the weights are past step 0.
    """
    evaluations = []
    for split, rounds, problems, chains in _planned(run, settings):
        result = results.find(digest(decided_by(run, settings, split, problems, chains, trained=False)))
        if result is None:
            raise InputError(
                f"{results.folder}: the evaluation of the base on {split} over {rounds} rounds is missing or damaged, "
                "and the weights are past step 0. Restore its files, or start a new run."
            )
        evaluations.append(result)
    return evaluations


def _planned(run: Run, settings: Evaluation) -> Iterator[tuple[str, int, Sequence[Problem], Strategy]]:
    """Yield split, rounds, problems and strategy of every evaluation."""
    for split, problems in run.splits.tests.items():
        for rounds in dict.fromkeys(settings.rounds):
            yield split, rounds, problems[: settings.limit], settings.chains(run.settings.rounds, split, rounds)


def decided_by(
    run: Run, asked: Evaluation, split: str, problems: Sequence[Problem], chains: Strategy, trained: bool
) -> dict[str, Any]:
    """Collect everything that decides a result: weights, problems, strategy, sampling, verifiers, precision."""
    settings = run.settings
    return {
        "weights": {"base": run.policy.base_hash, "trained": run.policy.trained_hash() if trained else None},
        "precision": {"dtype": str(settings.model.precision), "quantization": settings.model.quantization},
        "problems": {"origin": settings.benchmark.origin(split), "sha256": problems_digest(problems)},
        "strategy": chains.described(),
        "seed": settings.seed,
        "verifiers": [judge.described() for judge in run.judges],
        "judging": settings.benchmark.judging,
        "engine": type(settings.engine).__name__,
        **({"floor": asked.floor} if asked.floor is not None else {}),
        **({"floor_engine": type(asked.floor_engine).__name__} if asked.floor_engine is not None else {}),
        **({"labelled": digest(read_labelled(Path(asked.labelled)))} if asked.labelled is not None else {}),
    }


def evaluate(
    engine: Engine,
    strategy: Strategy,
    problems: Sequence[Problem],
    codec: Codec,
    scorers: Mapping[str, Scorer],
    key: tuple[object, ...],
    chunk: int = CHUNK,
    progress: Callable[[int], None] | None = None,
    interrupt: Callable[[], None] | None = None,
    world: World = ALONE,
    sources: Sources | None = None,
) -> tuple[Evaluated, list[dict[str, Any]]]:
    """Sample answers to ``problems`` and verify them.

    Each chain (first-round turn with its continuations) is one sample. With a search or an aggregation, each rollout is
    one sample. The first scorer decides correctness; the verdicts of the others are recorded under ``also``.
    ``sources`` chooses what aggregations read; problems without enough such drafts are left out.

    Returns the results and one record per problem and sample.

    Raises:
        InputError: all problems would be left out.
    """
    verifier, *others = scorers
    correct: list[list[float]] = []
    answers: list[list[str | None]] = []
    records: list[dict[str, Any]] = []
    changed: list[bool] = []  # whether an earlier round of a wrong answer was right
    turns: list[Turn] = []
    graphs: list[Graph] = []
    failed = failures(scorers.values())

    def answered(some: Sequence[Problem]) -> list[Answered | None]:
        return answer(engine, strategy, some, codec, scorers, key, interrupt, sources)

    for start in range(0, len(problems), chunk):
        some = problems[start : start + chunk]
        for one in world.share(some, [len(problem.question) for problem in some], answered):
            if one is None:
                continue
            correct.append([record["correct"] for record in one.records])
            answers.append([record["answer"] for record in one.records])
            turns += one.turns
            records += one.records
            changed += one.changed
            graphs += [one.graph] if one.graph is not None else []
        if progress is not None:
            world.agree(partial(progress, len(some)))
    if sources is not None:
        sources.check_covered(len(correct), len(problems), strategy.drafts(strategy.n))
    interval = accuracy(correct)
    count = len(correct[0])
    meant = [merged(row) for row in answers]
    summary = {
        "accuracy": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "problems": len(correct),
        "samples": count,
        "verifier": verifier,
        "rounds": strategy.n,
        "temperature": strategy.temperature,
        "pass_at": {str(k): pass_at_k(correct, k) for k in _powers(count)},
        "majority": majority(meant, correct),
        "votes": {str(k): votes_of(meant, correct, k) for k in range(1, count + 1)},
        "vote_calibration": vote_calibration(meant, correct),
        "attempts": attempts(records, changed),
        "repeated": repeated(records),
        **({"per_problem": [sum(row) for row in correct]} if len(correct) == len(problems) else {}),
        "tokens_per_answer": sum(turn.generated for turn in turns) / (len(correct) * count),
        "rounds_used": statistics.fmean(record["rounds"] for record in records),
        "well_formed": statistics.fmean(well_formed(turn.text) for turn in turns),
        "truncated": statistics.fmean(turn.status == Status.TRUNCATED for turn in turns),
        "carried_cut": statistics.fmean(turn.carried_cut for turn in turns),
        "verifier_failures": sum(world.agree(lambda: failures(scorers.values()) - failed)),
    }
    if others:
        summary["also"] = {name: second_opinion(name, records, count) for name in others}
    if graphs:
        summary["graph"] = summarized(graphs)
    if sources is not None:
        summary["control"] = sources.named | {"problems": len(problems), "covered": len(correct)}
    return Evaluated(summary, correct), records


def _powers(limit: int) -> list[int]:
    return [k for k in (2**power for power in range(limit.bit_length())) if k <= limit]
