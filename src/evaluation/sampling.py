"""Sample a policy on problems and write down what came of it: shared by training, ``src.evaluate`` and reports."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from src.credit.base import Credited
from src.engines.base import Engine
from src.evaluation.statistics import Interval, accuracy, majority, paired_difference, pass_at_k
from src.rounds.growing import grow
from src.rounds.multi_round import MultiRound
from src.types import Codec, Problem, Rollout, Scorer, Scores, Status, Turn
from src.types import Path as TurnPath
from src.utils.files import read_jsonl, write_json, write_jsonl
from src.verifiers.tags import stated_answer, well_formed


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated, and how answers are sampled; see conf/train.yaml."""

    rounds: Sequence[int]
    samples: int
    temperature: float
    top_p: float
    limit: int | None = None
    every: int = 0
    keep_best: bool = False
    before: bool = True
    also: Sequence[str] = ()
    no_system: Sequence[str] = ()

    def chains(self, strategy: MultiRound, split: str, rounds: int) -> MultiRound:
        """How a test split is thought about: separate chains of ``rounds`` rounds."""
        chains = strategy.independent(rounds, self.samples, self.temperature, self.top_p)
        if split not in self.no_system:
            return chains
        return replace(chains, prompts=replace(chains.prompts, system=""))

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        errors = []
        if not self.rounds or min(self.rounds) < 1:
            errors.append(f"evaluation.rounds={list(self.rounds)} must name numbers of rounds, all 1 or more")
        if self.samples < 1:
            errors.append(f"evaluation.samples={self.samples} must be 1 or more")
        if self.temperature < 0:
            errors.append(f"evaluation.temperature={self.temperature} must be 0 (greedy) or more")
        if self.temperature == 0 and self.samples > 1:
            errors.append(
                f"evaluation.temperature=0 is greedy, so evaluation.samples={self.samples} would all be equal; "
                "use evaluation.samples=1"
            )
        if not 0 < self.top_p <= 1:
            errors.append(f"evaluation.top_p={self.top_p} must be in (0, 1]")
        if self.limit is not None and self.limit < 1:
            errors.append(f"evaluation.limit={self.limit} must be null (all problems) or 1 or more")
        if self.every < 0:
            errors.append(f"evaluation.every={self.every} must be 0 (never) or more")
        if self.keep_best and self.every == 0:
            errors.append(
                "evaluation.keep_best=true chooses by validation accuracy, but evaluation.every=0 never looks"
            )
        return errors


@dataclass(frozen=True)
class Evaluated:
    """One split at one number of rounds: per problem and sample, and in sum."""

    summary: dict[str, Any]
    correct: list[list[float]]

    @property
    def interval(self) -> Interval:
        """Accuracy with its 95 % interval."""
        return Interval(*(self.summary[name] for name in ("accuracy", "low", "high")))


def evaluate(
    engine: Engine,
    strategy: MultiRound,
    problems: Sequence[Problem],
    codec: Codec,
    scorers: Mapping[str, Scorer],
    key: tuple[object, ...],
    chunk: int = 256,
    progress: Callable[[int], None] | None = None,
) -> tuple[Evaluated, list[dict[str, Any]]]:
    """Every first-level branch is a sample; with a search, every tree. The first of the scorers decides, the others'
    verdicts stand beside.

    Returns the results and one record per problem and sample.
    """
    verifier, *others = scorers
    correct: list[list[float]] = []
    answers: list[list[str | None]] = []
    records: list[dict[str, Any]] = []
    turns: list[Turn] = []
    for start in range(0, len(problems), chunk):
        some = problems[start : start + chunk]
        keys = [key] if strategy.search is None else [(*key, sample) for sample in range(strategy.samples)]
        forests = [grow(engine, strategy, some, codec, one) for one in keys]
        for problem, *trees in zip(some, *forests, strict=True):
            chains = [chain(tree, first) for tree in trees for first in tree.level(1) if first.status != Status.PRUNED]
            stated = [stated_answer(turns_[-1].said) for turns_ in chains]
            verdicts = [scorers[verifier](problem, turns_[-1].said) for turns_ in chains]
            correct.append(verdicts)
            answers.append(stated)
            turns += [turn for tree in trees for turn in tree.turns]
            records += [
                _record(problem, sample, turns_, answer, verdict)
                | ({"also": {name: scorers[name](problem, turns_[-1].said) for name in others}} if others else {})
                for sample, (turns_, answer, verdict) in enumerate(zip(chains, stated, verdicts, strict=True))
            ]
        if progress is not None:
            progress(len(some))
    interval = accuracy(correct)
    samples = len(correct[0])
    summary = {
        "accuracy": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "problems": len(correct),
        "samples": samples,
        "verifier": verifier,
        "rounds": strategy.n,
        "temperature": strategy.temperature,
        "pass_at": {str(k): pass_at_k(correct, k) for k in _powers(samples)},
        "majority": majority(answers, correct),
        "tokens_per_answer": sum(len(turn.completion) for turn in turns) / (len(correct) * samples),
        "rounds_used": statistics.fmean(record["rounds"] for record in records),
        "well_formed": statistics.fmean(well_formed(turn.text) for turn in turns),
        "truncated": statistics.fmean(turn.status == Status.TRUNCATED for turn in turns),
        "carried_cut": statistics.fmean(turn.carried_cut for turn in turns),
    }
    if others:
        summary["also"] = {name: _second_opinion(name, records, samples) for name in others}
    return Evaluated(summary, correct), records


def _second_opinion(name: str, records: Sequence[Mapping[str, Any]], samples: int) -> dict[str, Any]:
    """Accuracy by another verifier's verdicts, and how often they differ."""
    verdicts = [record["also"][name] for record in records]
    interval = accuracy([verdicts[start : start + samples] for start in range(0, len(verdicts), samples)])
    differ = sum(record["correct"] != verdict for record, verdict in zip(records, verdicts, strict=True))
    return {"accuracy": interval.estimate, "low": interval.low, "high": interval.high, "disagreements": differ}


def write_evaluation(
    folder: Path, name: str, result: Evaluated, records: Sequence[dict[str, Any]], **about: Any
) -> Evaluated:
    """``<name>.jsonl``, a line per problem and sample, and ``<name>.json``, the summary with what ``about`` adds to it.

    With more than one verifier, ``<name>_disagreements.jsonl`` lists the answers that they judge differently. Returns
    the result with that summary: what ``read_evaluation`` gives back.
    """
    complete = Evaluated({**result.summary, **about}, result.correct)
    write_jsonl(folder / f"{name}.jsonl", records)
    if "also" in complete.summary:
        write_jsonl(folder / f"{name}_disagreements.jsonl", disagreements(complete.summary["verifier"], records))
    write_json(folder / f"{name}.json", complete.summary)
    return complete


def disagreements(verifier: str, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The answers that not all verifiers judge alike, with each one's verdict."""
    found = []
    for record in records:
        verdicts = {verifier: record["correct"], **record["also"]}
        if len(set(verdicts.values())) > 1:
            found.append({name: record[name] for name in ("id", "sample", "answer", "gold")} | {"verdicts": verdicts})
    return found


def read_evaluation(folder: Path, name: str) -> Evaluated:
    """What ``write_evaluation`` wrote."""
    summary = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    verdicts = [record["correct"] for record in read_jsonl(folder / f"{name}.jsonl")]
    samples = summary["samples"]
    return Evaluated(summary, [verdicts[start : start + samples] for start in range(0, len(verdicts), samples)])


def chain(rollout: Rollout, first: Turn) -> list[Turn]:
    """A first-round turn and its only children that were not pruned, to the end."""
    turns = [first]
    while children := [turn for turn in rollout.children(turns[-1].path) if turn.status != Status.PRUNED]:
        turns.append(children[0])
    return turns


def write_trees(
    path: Path, rollouts: Sequence[Rollout], scores: Sequence[Scores], credited: Credited, codec: Codec
) -> None:
    """A step's trees, one a line: each turn with its texts, scores by term, value, correctness and advantage."""
    advantages = {(row.tree, row.path): row.advantage for row in credited.rows}
    write_jsonl(
        path, (_tree(rollout, score, advantages, codec) for rollout, score in zip(rollouts, scores, strict=True))
    )


def compare(before: Mapping[str, Evaluated], after: Mapping[str, Evaluated]) -> dict[str, Any]:
    """Summaries before and after, and the paired change of what was evaluated both times."""
    both = [name for name in after if name in before]
    changes = {name: paired_difference(before[name].correct, after[name].correct) for name in both}
    return {
        "before": {name: result.summary for name, result in before.items()},
        "after": {name: result.summary for name, result in after.items()},
        "change": {name: asdict(change) for name, change in changes.items()},
    }


def _tree(
    rollout: Rollout, score: Scores, advantages: Mapping[tuple[int, TurnPath], float], codec: Codec
) -> dict[str, Any]:
    problem = rollout.problem
    turns = [
        {
            "path": list(turn.path),
            "parent": list(turn.parent),
            "round": turn.round,
            "writer": str(turn.writer),
            "probe": turn.probe,
            "status": str(turn.status),
            "prompt": codec.decode(turn.prompt),
            "carried": turn.carried,
            "carried_cut": turn.carried_cut,
            "prompt_tokens": len(turn.prompt),
            "tokens": len(turn.completion),
            "text": turn.text,
            "scores": {name: term.get(turn.path) for name, term in score.terms.items()},
            "value": score.values.get(turn.path),
            "correct": score.correct.get(turn.path),
            "advantage": advantages.get((turn.tree, turn.path)),
        }
        for turn in rollout.turns
    ]
    return {"problem": {"id": problem.id, "question": problem.question, "answer": problem.answer}, "turns": turns}


def _record(problem: Problem, sample: int, turns: Sequence[Turn], answer: str | None, verdict: float) -> dict[str, Any]:
    return {
        "id": problem.id,
        "sample": sample,
        "question": problem.question,
        "gold": problem.answer,
        "answer": answer,
        "correct": verdict,
        "rounds": len(turns),
        "tokens": [len(turn.completion) for turn in turns],
        "statuses": [str(turn.status) for turn in turns],
        "carried": [turn.carried for turn in turns],
        "texts": [turn.text for turn in turns],
    }


def _powers(limit: int) -> list[int]:
    return [k for k in (2**power for power in range(limit.bit_length())) if k <= limit]
