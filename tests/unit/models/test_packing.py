"""Packing of rows into sequences for a forward pass."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from src.models.packing import layout, micro_batches, packs
from src.types import Row
from tests.helpers.tiny_models import random_rows


def families(seed: int, count: int, size: int) -> list[Row]:
    """``count`` prompts with ``size`` rows each, in random order."""
    rng = random.Random(seed)
    rows = random_rows(seed, [(rng.randint(1, 60), rng.randint(1, 40)) for _ in range(count * size)])
    shared = [replace(row, prompt=rows[index % count].prompt) for index, row in enumerate(rows)]
    rng.shuffle(shared)
    return shared


def length(rows: list[Row], pack: list[int]) -> int:
    return len(rows[pack[0]].prompt) + sum(len(rows[index].completion) for index in pack)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("budget", [1, 17, 64, 100, 333, 5000])
@pytest.mark.parametrize("attention", [0.0, 0.01])
def test_passes_fit_the_budget_and_cover_every_row_once(seed: int, budget: int, attention: float) -> None:
    rows = families(seed, 10, 4)
    found = micro_batches(rows, attention, budget)
    assert sorted(index for batch in found for pack in batch for index in pack) == list(range(40))
    for batch in found:
        assert all(len({rows[index].prompt for index in pack}) == 1 for pack in batch)
        widest = max(length(rows, pack) for pack in batch)
        assert len(batch) * widest <= budget or (len(batch) == 1 and len(batch[0]) == 1)


def test_siblings_share_a_prompt_unless_attention_costs_more() -> None:
    rows = random_rows(0, [(60, 20)] * 8)
    rows = [replace(row, prompt=rows[0].prompt) for row in rows]
    assert packs(rows, 0.0, 10_000) == [list(range(8))]
    # With attention alone k rows cost (60 + 20 k)^2 / k each: 6400, 5000, 4800, 4900 …
    assert packs(rows, 1e9, 10_000) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert packs(rows, 0.0, 110) == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_long_completions_do_not_share_a_prompt() -> None:
    rows = random_rows(0, [(5, 100)] * 4)
    rows = [replace(row, prompt=rows[0].prompt) for row in rows]
    assert packs(rows, 0.5, 10_000) == [[0], [1], [2], [3]]


def test_rows_of_similar_length_are_packed_together() -> None:
    rows = random_rows(0, [(50, 50), (1, 1), (50, 49), (1, 2)])
    assert micro_batches(rows, 0.0, 200) == [[[1], [3]], [[2], [0]]]


def test_the_layout_by_hand() -> None:
    """Prompt (5, 6); completions (7, 8) and (9); padded by the prompt (4,) with (3,)."""
    base = random_rows(0, [(1, 1)])[0]
    first, second = replace(base, prompt=(5, 6), completion=(7, 8)), replace(base, prompt=(5, 6), completion=(9,))
    third = replace(base, prompt=(4,), completion=(3,))
    plan = layout([[first, second], [third]], pad=0)
    assert plan.ids.tolist() == [[5, 6, 7, 8, 9], [4, 3, 0, 0, 0]]
    assert plan.positions.tolist() == [[0, 1, 2, 3, 2], [0, 1, 0, 0, 0]]
    seen = [
        [[column for column, allowed in enumerate(row) if allowed] for row in part[0]] for part in plan.visible.tolist()
    ]
    assert seen[0] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4]]
    assert seen[1][:2] == [[0], [0, 1]]
    assert seen[1][2:] == [[0, 2], [0, 3], [0, 4]]  # padding may attend to anything, but not to nothing
    predicted = list(zip(plan.sequence.tolist(), plan.place.tolist(), plan.targets.tolist(), strict=True))
    assert predicted == [(0, 1, 7), (0, 2, 8), (0, 1, 9), (1, 0, 3)]
    assert list(zip(plan.row.tolist(), plan.step.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0), (2, 0)]
    assert (plan.rows, plan.steps) == (3, 2)
