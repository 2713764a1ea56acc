"""Verdicts on sampled answers, and the record of each answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from src.evaluation.statistics import accuracy
from src.types import Problem, Scorer, Turn
from src.verifiers.judge import verdicts
from src.verifiers.tags import stated_answer


def judged_records(
    samples: Sequence[tuple[Problem, list[list[Turn]]]], scorers: Mapping[str, Scorer]
) -> list[list[dict[str, Any]]]:
    """Verify the sampled answers (chains of turns) of each problem. Returns one record per problem and sample."""
    _, *others = scorers
    asked = [(problem, one[-1].said) for problem, chains in samples for one in chains]
    judged = [iter(verdicts(scorer, asked)) for scorer in scorers.values()]
    records: list[list[dict[str, Any]]] = []
    for problem, chains in samples:
        records.append([])
        for sample, one in enumerate(chains):
            verdict, *further = [next(judgements) for judgements in judged]
            record = _record(problem, sample, one, stated_answer(one[-1].said), verdict)
            records[-1].append(record | ({"also": dict(zip(others, further, strict=True))} if others else {}))
    return records


def given_up(
    scorer: Scorer, problems: Sequence[Problem], records: Sequence[Sequence[Mapping[str, Any]]]
) -> list[list[bool]]:
    """Whether an earlier round of each answer that is judged wrong stated a right one, by problem and sample."""
    earlier = [
        [_earlier(record) if record["correct"] < 1 and record["answer"] is not None else [] for record in row]
        for row in records
    ]
    asked = [(problem, text) for problem, row in zip(problems, earlier, strict=True) for texts in row for text in texts]
    given = iter(verdicts(scorer, asked))
    return [[sum(next(given) >= 1 for _ in texts) > 0 for texts in row] for row in earlier]


def _earlier(record: Mapping[str, Any]) -> list[str]:
    """The texts of earlier rounds that state another answer than the last round."""
    return [text for text in dict.fromkeys(record["texts"][:-1]) if stated_answer(text) not in (None, record["answer"])]


def second_opinion(name: str, records: Sequence[Mapping[str, Any]], samples: int) -> dict[str, Any]:
    """Accuracy by another verifier, and the number of answers on which it disagrees with the deciding one."""
    verdicts = [record["also"][name] for record in records]
    interval = accuracy([verdicts[start : start + samples] for start in range(0, len(verdicts), samples)])
    differ = sum(record["correct"] != verdict for record, verdict in zip(records, verdicts, strict=True))
    return {"accuracy": interval.estimate, "low": interval.low, "high": interval.high, "disagreements": differ}


def _record(problem: Problem, sample: int, turns: Sequence[Turn], answer: str | None, verdict: float) -> dict[str, Any]:
    """One answer. If prompts quote several turns, it also holds the paths of its turns and of their sources."""
    graph = {
        "paths": [list(turn.path) for turn in turns],
        "sources": [[list(source) for source in turn.quoted] for turn in turns],
    }
    return {
        "id": problem.id,
        "sample": sample,
        "question": problem.question,
        "gold": problem.answer,
        "answer": answer,
        "correct": verdict,
        "rounds": turns[-1].round,
        "tokens": [turn.generated for turn in turns],
        "statuses": [str(turn.status) for turn in turns],
        "carried": [turn.carried for turn in turns],
        "texts": [turn.text for turn in turns],
        **(graph if any(len(turn.quoted) > 1 for turn in turns) else {}),
    }
