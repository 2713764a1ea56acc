"""Measures of stated answers: votes of fewer samples, calibration of vote shares, and how wrong answers come about."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from src.evaluation.statistics import majority

SUBSETS = 64
"""Largest number of subsets of the samples that a vote is averaged over."""


def votes_of(answers: Sequence[Sequence[str | None]], correct: Sequence[Sequence[float]], k: int) -> float:
    """Expected accuracy of the vote of ``k`` of the samples of each problem, averaged over subsets of the samples.

    All subsets of size ``k`` count, or 64 random ones, the same for all problems, if there are more. ``answers`` are
    merged by meaning.
    """
    return statistics.fmean(
        majority(
            [[row[index] for index in chosen] for row in answers], [[row[index] for index in chosen] for row in correct]
        )
        for chosen in _subsets(len(correct[0]), k)
    )


def _subsets(count: int, k: int) -> Iterator[tuple[int, ...]]:
    if math.comb(count, k) <= SUBSETS:
        yield from itertools.combinations(range(count), k)
        return
    rng = random.Random(f"{count}/{k}")
    for _ in range(SUBSETS):
        yield tuple(rng.sample(range(count), k))


def vote_calibration(answers: Sequence[Sequence[str | None]], correct: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Calibration of the vote share of each problem's winning answer as a probability that it is correct.

    ``error`` is the expected calibration error, the mean distance between share and accuracy over groups of equal share
    (Naeini et al., AAAI 2015); ``brier`` the mean squared distance (Brier, Mon. Weather Rev. 78, 1950); ``shares`` maps
    each share to its number of problems and their accuracy. A problem without a stated answer has the share 0.
    """
    groups: dict[float, list[float]] = defaultdict(list)
    for row, verdicts in zip(answers, correct, strict=True):
        votes = Counter(answer for answer in row if answer is not None)
        share = max(votes.values(), default=0) / len(row)
        groups[share].append(majority([row], [verdicts]))
    problems = len(answers)
    means = {share: statistics.fmean(found) for share, found in sorted(groups.items())}
    return {
        "error": sum(len(groups[share]) * abs(share - mean) for share, mean in means.items()) / problems,
        "brier": sum((share - one) ** 2 for share, found in groups.items() for one in found) / problems,
        "shares": {f"{share:g}": {"problems": len(groups[share]), "accuracy": mean} for share, mean in means.items()},
    }


def repeated(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How often a policy states its most frequent answer, and its accuracy elsewhere; ``None`` if it states none.

    ``stated`` is the share of all answers, ``gold`` the share on problems where this ``answer`` is right, which is the
    accuracy of stating nothing else, and ``elsewhere`` the accuracy on all other problems (``None`` without any). Where
    training raises ``stated`` and the accuracy, but not ``elsewhere``, it taught a guess.
    """
    counts = Counter(record["answer"] for record in records if record["answer"] is not None)
    if not counts:
        return None
    ((answer, count),) = counts.most_common(1)
    right = {
        record["id"]
        for record in records
        if record["gold"] == answer or (record["answer"] == answer and record["correct"] >= 1)
    }
    others = [record["correct"] for record in records if record["id"] not in right]
    return {
        "answer": answer,
        "stated": count / len(records),
        "gold": 1 - len(others) / len(records),
        "elsewhere": statistics.fmean(others) if others else None,
    }


def attempts(records: Sequence[Mapping[str, Any]], changed: Sequence[bool]) -> dict[str, float]:
    """Shares of all answers by how they end; all but the last add up to 1.

    ``right``; without a stated answer: ``truncated`` at the token budget, or ``unanswered``; with a stated one:
    ``changed_to_wrong``, if an earlier round stated a right answer (``changed``), or ``wrong``. ``right_of_stated`` is
    the accuracy among stated answers: where training raises the accuracy but not this number, it taught to state an
    answer, not to find a better one.
    """
    counts: Counter[str] = Counter()
    for record, lost in zip(records, changed, strict=True):
        if record["correct"] >= 1:
            counts["right"] += 1
        elif record["answer"] is None:
            counts["truncated" if record["statuses"][-1] == "truncated" else "unanswered"] += 1
        else:
            counts["changed_to_wrong" if lost else "wrong"] += 1
    stated = [record["correct"] for record in records if record["answer"] is not None]
    names = ("right", "wrong", "changed_to_wrong", "unanswered", "truncated")
    return {
        **{name: counts[name] / len(records) for name in names},
        "right_of_stated": statistics.fmean(stated) if stated else 0.0,
    }
