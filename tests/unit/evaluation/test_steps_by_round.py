"""The work of each round of a chain, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.steps_by_round import shares, steps


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<reasoning>\n1 + 2 = 3\n</reasoning>\n<answer>\n3\n</answer>", 1),
        ("<reasoning>\n1 + 2 = 3\n3 + 4 = 7\n</reasoning>", 2),
        ("<reasoning>\n1 + 2 = 3\n3 + 4", 1),  # the second line is cut
        ("<reasoning>\n</reasoning>", 0),
        ("3", 0),
    ],
)
def test_complete_lines(text: str, expected: int) -> None:
    assert steps(text) == expected


def test_shares_are_over_the_chains_that_have_the_round() -> None:
    def chain(*lines: int, cut: bool = False) -> dict[str, Any]:
        texts = ["<reasoning>\n" + "x\n" * count + "</reasoning>" for count in lines]
        ends = ["done"] * (len(lines) - 1) + ["truncated" if cut else "done"]
        return {"texts": texts, "statuses": ends, "rounds": len(lines)}

    chains = [chain(1, 2), chain(2, 3), chain(4, cut=True), chain(0, 1)]
    assert shares(chains, 0) == [0.25, 0.25, 0.25, 0.25]
    assert shares(chains, 1) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
