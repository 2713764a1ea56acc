"""Generate rollout trees: the strategy proposes turns, and the engine samples the turns of all trees in one batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from src.rounds.base import Strategy
from src.types import Codec, Engine, OnToken, Path, Problem, Rollout, Status, Turn


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
) -> list[Rollout]:
    """Generate one finished rollout tree per problem, in the order of ``problems``.

    ``key`` seeds the sampling (run seed, step …): the same key gives the same trees. ``depth`` limits the number of
    rounds, for rewards that only need the first ones. ``interrupt`` is called after every finished turn and may raise.
    """
    grown: list[dict[Path, Turn]] = [{} for _ in problems]
    open_turns = [0] * len(problems)  # per tree: turns that are queued or being generated

    def stamp(tree: int, turn: Turn) -> Turn:
        return replace(turn, tree=tree, stream=stream(*key, problems[tree].id, turn.path))

    def children(turn: Turn) -> list[Turn]:
        if interrupt is not None:
            interrupt()
        problem, tree = problems[turn.tree], grown[turn.tree]
        tree[turn.path] = turn
        new: list[Turn] = []
        if depth is None or turn.round < depth:
            lineage = [tree[turn.path[:length]] for length in range(1, turn.round + 1)]
            new = strategy.extend(problem, lineage, codec)
        open_turns[turn.tree] += len(new) - 1
        if open_turns[turn.tree] == 0 and depth is None:
            # Sorted by path, so that the search does not depend on which turn finished first.
            pruned, new = strategy.settle(problem, sorted(tree.values(), key=_place), codec)
            tree |= {one.path: replace(one, status=Status.PRUNED) for one in pruned}
            open_turns[turn.tree] = len(new)
        return [stamp(turn.tree, child) for child in new]

    roots = [stamp(tree, turn) for tree, problem in enumerate(problems) for turn in strategy.open(problem, codec)]
    for root in roots:
        open_turns[root.tree] += 1
    engine.generate(roots, children, on_token)
    return [
        Rollout(problem, tuple(sorted(tree.values(), key=_place)))
        for problem, tree in zip(problems, grown, strict=True)
    ]


def numbered(tree: Rollout, number: int) -> Rollout:
    """Set the rollout's index in its batch."""
    return replace(tree, turns=tuple(replace(turn, tree=number) for turn in tree.turns))


def _place(turn: Turn) -> tuple[int, Path]:
    return turn.round, turn.path
