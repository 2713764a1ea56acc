"""Sampling answers to problems: rollouts are grown, answers are verified, and what aggregations read is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.evaluation.controls import Sources, Verdicts
from src.evaluation.graphs import Graph, graph, judged_turns, quotes_several
from src.evaluation.judging import given_up, judged_records
from src.rounds.base import Strategy
from src.rounds.growing import grow
from src.types import Codec, Engine, Problem, Rollout, Scorer, Status, Turn
from src.verifiers.judge import Asked, recalled


@dataclass(frozen=True)
class Answered:
    """The answers to one problem.

    Attributes:
        turns: all turns that were written, also those that a search pruned.
        records: one record per answer.
        changed: per answer, whether it is wrong and an earlier round was right.
        graph: what the measures of aggregations need, if a prompt quotes several turns.
    """

    turns: Sequence[Turn]
    records: Sequence[dict[str, Any]]
    changed: Sequence[bool]
    graph: Graph | None


@dataclass(frozen=True)
class _Grown:
    """The rollouts of one problem, the turns behind each answer, and the drafts of each sample that can vote."""

    problem: Problem
    trees: Sequence[Rollout]
    chains: list[list[Turn]]
    drafts: Sequence[Sequence[Turn]]


def answer(
    engine: Engine,
    strategy: Strategy,
    problems: Sequence[Problem],
    codec: Codec,
    scorers: Mapping[str, Scorer],
    key: tuple[object, ...],
    interrupt: Callable[[], None] | None = None,
    sources: Sources | None = None,
) -> list[Answered | None]:
    """Sample and verify answers to problems.

    Each chain (first-round turn with its continuations) is one answer. With a search or an aggregation, each rollout is
    one answer. A problem with too few drafts of the kind that ``sources`` asks for has no answers (``None``).
    """
    keys = [key] if not strategy.joins else [(*key, sample) for sample in range(strategy.samples)]
    first = next(iter(scorers.values()))
    known: dict[Asked, float] = {}  # verdicts, so that no text is judged twice

    def verdicts(asked: Sequence[tuple[Problem, Turn]]) -> list[float]:
        return recalled(first, [(problem, turn.said) for problem, turn in asked], known)

    if sources is None:
        forests = [grow(engine, strategy, problems, codec, one, interrupt=interrupt) for one in keys]
        trees: list[list[Rollout] | None] = [list(own) for own in zip(*forests, strict=True)]
        drafts = [[tree.level(1) for tree in own or ()] for own in trees]
    else:
        drafts, trees = sources.grow(engine, strategy, problems, codec, keys, verdicts, interrupt)
    grown = [
        _Grown(problem, own, sampled(own), written if strategy.drafts_vote else [])
        for problem, own, written in zip(problems, trees, drafts, strict=True)
        if own is not None
    ]
    records = judged_records([(one.problem, one.chains) for one in grown], scorers)
    changed = given_up(first, [one.problem for one in grown], records)
    for one, judged in zip(grown, records, strict=True):
        answers = [(one.problem, chain[-1].said) for chain in one.chains]
        known |= zip(answers, (record["correct"] for record in judged), strict=True)
    found = iter(
        Answered([turn for tree in one.trees for turn in tree.turns], judged, lost, measured)
        for one, judged, lost, measured in zip(grown, records, changed, _graphs(grown, verdicts), strict=True)
    )
    return [None if own is None else next(found) for own in trees]


def _graphs(grown: Sequence[_Grown], verdicts: Verdicts) -> list[Graph | None]:
    """The graph of each problem; ``None`` if no prompt quotes several turns."""
    several = [quotes_several(one.trees) for one in grown]
    asked = [
        (one.problem, turn)
        for one, quoting in zip(grown, several, strict=True)
        if quoting
        for turn in (*judged_turns(one.trees), *(draft for drafts in one.drafts for draft in drafts))
    ]
    given = {(problem, turn.said): verdict for (problem, turn), verdict in zip(asked, verdicts(asked), strict=True)}

    def graph_of(one: _Grown) -> Graph:
        answers = [chain[-1] for chain in one.chains]
        return graph(one.trees, answers, one.drafts, lambda turn: given[one.problem, turn.said])

    return [graph_of(one) if quoting else None for one, quoting in zip(grown, several, strict=True)]


def sampled(trees: Sequence[Rollout]) -> list[list[Turn]]:
    """The turns behind each answer to a problem, the answer last, without those that a search pruned."""
    return [turns for tree in trees for turns in behind(tree)]


def behind(rollout: Rollout) -> list[list[Turn]]:
    """The turns behind each answer of a rollout: a chain, or if prompts quote several turns all that led to the last
    one, by round and path."""
    if all(len(turn.quoted) < 2 for turn in rollout.turns):
        return [chain(rollout, first) for first in rollout.level(1) if first.status != Status.PRUNED]
    last = rollout.turns[-1].round
    return [[*_before(rollout, turn), turn] for turn in rollout.level(last) if turn.status != Status.PRUNED]


def _before(rollout: Rollout, turn: Turn) -> list[Turn]:
    """The turns that led to a turn: those that it quotes, those that they quote, and so on."""
    found = set(turn.quoted)
    for earlier in reversed(rollout.turns):  # turns come after their sources
        if earlier.path in found:
            found.update(earlier.quoted)
    return [earlier for earlier in rollout.turns if earlier.path in found]


def chain(rollout: Rollout, first: Turn) -> list[Turn]:
    """Follow a first-round turn through its unpruned children to the end of the chain."""
    turns = [first]
    while children := [turn for turn in rollout.children(turns[-1].path) if turn.status != Status.PRUNED]:
        turns.append(children[0])
    return turns


def accepted(rollout: Rollout) -> list[Turn]:
    """Return the turns behind the answer: the first chain or aggregation that was not pruned, the answer last."""
    return behind(rollout)[0]
