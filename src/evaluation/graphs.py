"""Measures of answers that read several drafts: tokens in sequence, and what an aggregation makes of its sources.

An aggregation is a turn whose prompt quotes several turns; those are its sources. A turn is right if its own stated
answer is. A share without any case is undefined (``None``), never 0.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from src.evaluation.statistics import accuracy, majority, ratio
from src.types import Path, Rollout, Turn
from src.verifiers.tags import stated_answer
from src.verifiers.votes import merged


@dataclass(frozen=True)
class Aggregated:
    """Whether an aggregation is right, and whether each of its sources is, in the order of its prompt."""

    right: bool
    sources: tuple[bool, ...]


@dataclass(frozen=True)
class Draft:
    """A first-round turn as a vote: its stated answer, the verdict on it, and its generated tokens."""

    answer: str | None
    verdict: float
    tokens: int


@dataclass(frozen=True)
class Graph:
    """The answers to one problem, for the measures: tokens and drafts by sample, and all aggregations.

    There are drafts only where the strategy asks for an answer in the first round, so that drafts can vote.
    """

    sequential: Sequence[int]
    total: Sequence[int]
    aggregations: Sequence[Aggregated]
    drafts: Sequence[Sequence[Draft]]


def quotes_several(rollouts: Sequence[Rollout]) -> bool:
    """Whether a prompt quotes several turns."""
    return any(len(turn.quoted) > 1 for rollout in rollouts for turn in rollout.turns)


def graph(
    rollouts: Sequence[Rollout],
    answers: Sequence[Turn],
    drafts: Sequence[Sequence[Turn]],
    verdict: Callable[[Turn], float],
) -> Graph:
    """The graph of one problem, from the rollout, the accepted answer and the drafts of each sample."""
    return Graph(
        [sequential_tokens(rollout, answer) for rollout, answer in zip(rollouts, answers, strict=True)],
        [rollout.tokens for rollout in rollouts],
        [one for rollout in rollouts for one in aggregations(rollout, verdict)],
        [[Draft(stated_answer(turn.said), verdict(turn), turn.generated) for turn in own] for own in drafts],
    )


def sequential_tokens(rollout: Rollout, answer: Turn) -> int:
    """B_seq: generated tokens of the longest chain of turns that ends in the accepted answer, a measure of latency.

    A chain goes from a turn to one of its sources, and so on to the first round. The sources of a prompt are generated
    in parallel, so that the longest chain decides when the answer is there. Turns that the answer does not depend on do
    not count, nor do prompts and results of tools. B_total, ``rollout.tokens``, is a measure of cost: the generated
    tokens of all turns. (Parallel-Distill-Refine, arXiv 2510.01123, reports both; its sequential budget is that of the
    path of the accepted answer.)
    """
    longest: dict[Path, int] = {}
    for turn in rollout.turns:  # turns come after their sources
        longest[turn.path] = turn.generated + max((longest[source] for source in turn.quoted), default=0)
    return longest[answer.path]


def judged_turns(rollouts: Sequence[Rollout]) -> list[Turn]:
    """Aggregations, also pruned ones, and their sources: the turns whose verdicts the measures need."""
    found = []
    for rollout in rollouts:
        several = [turn for turn in rollout.turns if _aggregates(turn)]
        quoted = {source for turn in several for source in turn.quoted}
        found += [turn for turn in rollout.turns if turn.path in quoted or _aggregates(turn)]
    return found


def aggregations(rollout: Rollout, verdict: Callable[[Turn], float]) -> list[Aggregated]:
    """All aggregations of a rollout, also those that a search pruned."""
    by_path = {turn.path: turn for turn in rollout.turns}
    return [
        Aggregated(verdict(turn) >= 1, tuple(verdict(by_path[source]) >= 1 for source in turn.quoted))
        for turn in rollout.turns
        if _aggregates(turn)
    ]


def _aggregates(turn: Turn) -> bool:
    return turn.written and not turn.probe and len(turn.quoted) > 1


def summarized(graphs: Sequence[Graph]) -> dict[str, Any]:
    """The measures of all problems."""
    found = [one.aggregations for one in graphs]
    return {
        "sequential_tokens": statistics.fmean(tokens for one in graphs for tokens in one.sequential),
        "total_tokens": statistics.fmean(tokens for one in graphs for tokens in one.total),
        **by_sources(found),
        "draft_vote": draft_vote(graphs) if graphs[0].drafts else None,
    }


def by_sources(found: Sequence[Sequence[Aggregated]]) -> dict[str, Any]:
    """How aggregations depend on their sources, from the aggregations of each problem.

    ``right_if_all_wrong`` and ``wrong_if_some_right`` are conditional probabilities. ``by_right_sources`` is the
    accuracy by the number of right sources, ``by_position`` the accuracy by the place (from 1) of the only right one:
    if it differs between places, aggregations are anchored to a place of the prompt, not to what stands there.
    """
    most = max((len(one.sources) for row in found for one in row), default=0)
    numbers = {
        str(number): _share([[one.right for one in row if sum(one.sources) == number] for row in found])
        for number in range(most + 1)
    }
    lonely = [[one for one in row if sum(one.sources) == 1] for row in found]
    places = {
        str(place + 1): _share([[one.right for one in row if one.sources.index(True) == place] for row in lonely])
        for place in range(most)
    }
    return {
        "aggregations": sum(map(len, found)),
        "right_if_all_wrong": _share([[one.right for one in row if not any(one.sources)] for row in found]),
        "wrong_if_some_right": _share([[not one.right for one in row if any(one.sources)] for row in found]),
        "by_right_sources": numbers,
        "by_position": places,
    }


def _share(cases: Sequence[Sequence[bool]]) -> dict[str, float] | None:
    """Share of true cases of all problems, with its interval clustered by problem."""
    interval = ratio([(sum(row), len(row)) for row in cases])
    if interval is None:
        return None
    return {"count": sum(map(sum, cases)), "total": sum(map(len, cases)), **asdict(interval)}


def draft_vote(graphs: Sequence[Graph]) -> dict[str, float]:
    """The vote of drafts at the tokens of the aggregation: the accuracy of the most frequent answer of the drafts.

    To each answer belongs one vote, of as many drafts as fit into the tokens of its whole rollout (B_total). It takes
    the drafts that the answer reads first, then those of the next samples of the problem, in order. Where all drafts of
    a problem are fewer, all vote; ``tokens`` shows it by being less than ``total_tokens``. Answers are one vote if they
    mean the same; with a tie, the accuracy is the share of winners that are right.
    """
    correct: list[list[float]] = []
    voters: list[Draft] = []
    for one in graphs:
        meant = iter(merged([draft.answer for own in one.drafts for draft in own]))
        drafts = [[Draft(next(meant), draft.verdict, draft.tokens) for draft in own] for own in one.drafts]
        voting = [
            fitting([draft for own in (*drafts[sample:], *drafts[:sample]) for draft in own], budget)
            for sample, budget in enumerate(one.total)
        ]
        voters += [draft for some in voting for draft in some]
        correct.append(
            [majority([[draft.answer for draft in some]], [[draft.verdict for draft in some]]) for some in voting]
        )
    interval, votes = accuracy(correct), sum(map(len, correct))
    return {
        "accuracy": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "drafts": len(voters) / votes,
        "tokens": sum(draft.tokens for draft in voters) / votes,
    }


def fitting(drafts: Sequence[Draft], budget: int) -> list[Draft]:
    """The first drafts that together take at most ``budget`` tokens; at least one."""
    taken, used = list(drafts[:1]), drafts[0].tokens
    for draft in drafts[1:]:
        used += draft.tokens
        if used > budget:
            break
        taken.append(draft)
    return taken


def scalars(measures: Mapping[str, Any]) -> dict[str, float]:
    """The main measures as flat numbers, for curves; undefined ones are left out."""
    shares = {name: measures[name] for name in ("right_if_all_wrong", "wrong_if_some_right")}
    return {
        "sequential_tokens": measures["sequential_tokens"],
        **{name: share["estimate"] for name, share in shares.items() if share is not None},
    }
