"""Grow trees: a rounds strategy proposes turns, an engine writes them, all waiting turns of all trees in one batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from src.engines.base import Engine, OnToken
from src.records import Codec, Path, Problem, Rollout, Turn
from src.rounds.base import Strategy


def stream(*key: object) -> int:
    """A 128-bit key for a turn's random numbers, from what identifies it: seed, step, problem and path."""
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
    """One finished tree per problem, in order.

    ``key`` names the occasion (seed, step …): the same key gives the same trees. ``depth`` stops growth after that many
    rounds, for rewards that do not look further ahead. ``interrupt`` is called at every finished turn and may raise.
    """
    grown: list[dict[Path, Turn]] = [{} for _ in problems]

    def stamp(tree: int, turn: Turn) -> Turn:
        return replace(turn, tree=tree, stream=stream(*key, problems[tree].id, turn.path))

    def children(turn: Turn) -> list[Turn]:
        if interrupt is not None:
            interrupt()
        tree = grown[turn.tree]
        tree[turn.path] = turn
        if depth is not None and turn.round >= depth:
            return []
        lineage = [tree[turn.path[:length]] for length in range(1, turn.round + 1)]
        return [stamp(turn.tree, child) for child in strategy.extend(problems[turn.tree], lineage, codec)]

    roots = [stamp(tree, turn) for tree, problem in enumerate(problems) for turn in strategy.open(problem, codec)]
    engine.generate(roots, children, on_token)
    return [
        Rollout(problem, tuple(sorted(tree.values(), key=lambda turn: (turn.round, turn.path))))
        for problem, tree in zip(problems, grown, strict=True)
    ]
