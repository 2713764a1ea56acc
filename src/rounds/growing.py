"""Generate rollouts: the strategy proposes turns, and the engine samples the turns of all trees in one batch."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any, TypeVar

from src.rounds.base import Strategy
from src.rounds.tool.base import Tool
from src.types import Codec, Engine, OnToken, Path, Problem, Rollout, Status, Turn

Item = TypeVar("Item")
Result = TypeVar("Result")


def stream(*key: object) -> int:
    """The 128-bit random key of a turn, hashed from its identity: seed, step, problem and path."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=16).digest(), "little")


def grow(
    engine: Engine,
    strategy: Strategy,
    problems: Sequence[Problem],
    codec: Codec,
    key: tuple[object, ...],
    depth: int | None = None,
    on_token: OnToken | None = None,
    interrupt: Callable[[], None] | None = None,
    given: Sequence[Sequence[Turn]] | None = None,
) -> list[Rollout]:
    """Generate one finished rollout per problem, in the order of ``problems``.

    ``key`` seeds the sampling (run seed, step …): the same key gives the same trees. ``depth`` limits the number of
    rounds, for rewards that only need the first ones. ``on_token`` also gets the tokens of a tool's results.
    ``interrupt`` is called after every finished turn and may raise. ``given`` holds the finished first-round turns of
    each problem; the rollouts then start with these, and the strategy joins them.
    """
    grown: list[dict[Path, Turn]] = [{} for _ in problems]
    open_turns = [0] * len(problems)  # per tree: turns that are queued or being generated

    begun: dict[tuple[int, Path], Turn] = {}  # turns that called a tool: what is written so far

    def stamp(tree: int, turn: Turn) -> Turn:
        if strategy.tool is not None:
            turn = replace(turn, sampling=replace(turn.sampling, stop=strategy.tool.closing))
        return replace(turn, tree=tree, stream=stream(*key, problems[tree].id, turn.path))

    def answered(tool: Tool, part: Turn) -> tuple[Turn, list[Turn]]:
        """The turn so far, and the open turn that writes on after a tool's result."""
        place = part.tree, part.path
        turn, rest = tool.joined(begun.pop(place, None), part, codec)
        if rest is None:
            return turn, []
        begun[place], seen = turn, len(turn.completion)
        rest = replace(rest, stream=stream(*key, problems[part.tree].id, part.path, seen))
        given = len(list(takewhile(operator.not_, reversed(turn.mask))))
        if on_token is not None:
            for token in turn.completion[seen - given :]:
                on_token(rest, token)
        return turn, [rest]

    def settled(number: int) -> list[Turn]:
        """The new turns of a tree in which nothing is being generated."""
        tree = grown[number]
        # Sorted by path, so that the join does not depend on which turn finished first.
        pruned, new = strategy.settle(problems[number], sorted(tree.values(), key=_place), codec)
        tree |= {one.path: replace(one, status=Status.PRUNED) for one in pruned}
        return new

    def children(turn: Turn) -> list[Turn]:
        if interrupt is not None:
            interrupt()
        if strategy.tool is not None:
            turn, rest = answered(strategy.tool, turn)
            if rest:
                return rest
        problem, tree = problems[turn.tree], grown[turn.tree]
        tree[turn.path] = turn
        new: list[Turn] = []
        if depth is None or turn.round < depth:
            new = strategy.extend(problem, _lineage(tree, turn), codec)
        open_turns[turn.tree] += len(new) - 1
        if open_turns[turn.tree] == 0 and depth is None:
            new = settled(turn.tree)
            open_turns[turn.tree] = len(new)
        return [stamp(turn.tree, child) for child in new]

    def first(number: int) -> list[Turn]:
        """The first turns of a tree that are generated."""
        if given is None:
            return strategy.open(problems[number], codec)
        grown[number].update((turn.path, replace(turn, tree=number)) for turn in given[number])
        return settled(number)

    roots = [stamp(tree, turn) for tree in range(len(problems)) for turn in first(tree)]
    for root in roots:
        open_turns[root.tree] += 1
    engine.generate(roots, children, on_token)
    return [
        Rollout(problem, tuple(sorted(tree.values(), key=_place)))
        for problem, tree in zip(problems, grown, strict=True)
    ]


def _lineage(tree: Mapping[Path, Turn], turn: Turn) -> list[Turn]:
    """The turns that led to a finished turn, oldest first, up to a prompt that quotes several."""
    lineage = [turn]
    while len(lineage[0].quoted) == 1:
        lineage.insert(0, tree[lineage[0].source])
    return lineage


def numbered(tree: Rollout, number: int) -> Rollout:
    """Set the rollout's index in its batch."""
    return replace(tree, turns=tuple(replace(turn, tree=number) for turn in tree.turns))


def _place(turn: Turn) -> tuple[int, Path]:
    return turn.round, turn.path


class World:
    """The processes of a run. This class is a single process; ``src.parallel`` defines several.

    All execute the same program and call these methods in the same order. Process 0 writes the run directory.
    """

    rank: int = 0
    size: int = 1
    sent: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is process 0."""
        return self.rank == 0

    def agree(self, function: Callable[[], Result]) -> list[Result]:
        """Call ``function`` in every process; return all results by rank. An error in one is raised in all."""
        return [function()]

    def together(self, function: Callable[[], Result]) -> Result:
        """Call ``function`` in every process; return this process's result. An error in one is raised in all."""
        return function()

    def lead(self, function: Callable[[], Result]) -> Result:
        """Call ``function`` in process 0 only, while the others wait. All get its result, or its error."""
        return function()

    def share(
        self, items: Sequence[Item], costs: Sequence[float], function: Callable[[Sequence[Item]], Sequence[Result]]
    ) -> list[Result]:
        """Apply ``function`` (list of items to list of results) to all items, some in each process.

        Returns the results of all items, in order, in every process.
        """
        return list(function(items))

    def own(self, items: Sequence[Item], costs: Sequence[float]) -> list[Item]:
        """Return the items that this process works on."""
        return list(items)

    def accumulate(self, parameters: Sequence[Any], backward: Callable[[], None]) -> None:
        """Call ``backward`` in every process, then replace each parameter's gradient by its sum over processes."""
        backward()


ALONE = World()
"""A single process."""


def totals(parts: Sequence[Mapping[Any, Any]]) -> dict[Any, Any]:
    """Sum the values of each key over the processes."""
    sums: dict[Any, Any] = {}
    for part in parts:
        for name, value in part.items():
            sums[name] = sums[name] + value if name in sums else value
    return sums
