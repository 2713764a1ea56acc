"""Dealing work to processes."""

from __future__ import annotations

import random

import pytest

from src.parallel.dealing import deal


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_every_item_is_dealt_once_and_no_process_gets_much_more_than_another(processes: int) -> None:
    generator = random.Random(processes)
    costs = [generator.uniform(1, 100) for _ in range(40)]
    dealt = deal(costs, processes)
    assert sorted(index for items in dealt for index in items) == list(range(40))
    totals = [sum(costs[index] for index in items) for items in dealt]
    assert max(totals) - min(totals) <= max(costs), "the bound of longest processing time first"
    assert all(items == sorted(items) for items in dealt)


def test_items_without_cost_are_spread_too() -> None:
    assert [len(items) for items in deal([0.0] * 6, 3)] == [2, 2, 2]


def test_with_fewer_items_than_processes_some_get_none() -> None:
    assert deal([5.0], 3) == [[0], [], []]
    assert deal([], 2) == [[], []]
