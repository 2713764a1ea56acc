"""Dealing work to processes, so that every process gets about the same cost."""

from __future__ import annotations

from collections.abc import Sequence


def deal(costs: Sequence[float], processes: int) -> list[list[int]]:
    """Assign items to processes: the most expensive first, each to the process with the least cost so far.

    Returns the indices of each process's items in ascending order. The result depends on the arguments only, so every
    process computes the same one. (Longest processing time first: Graham, SIAM J. Appl. Math. 17, 1969.)
    """
    totals = [(0.0, 0)] * processes  # cost and number of items, so that items without cost are spread too
    dealt: list[list[int]] = [[] for _ in range(processes)]
    for index in sorted(range(len(costs)), key=lambda place: -costs[place]):
        least = min(range(processes), key=lambda process: totals[process])
        dealt[least].append(index)
        totals[least] = (totals[least][0] + costs[index], totals[least][1] + 1)
    return [sorted(items) for items in dealt]
