"""The figure of accuracy against tokens per problem: when it is drawn, where points stand, and their intervals."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from src.evaluation.statistics import Interval, wilson
from src.reporting.evaluations import Name
from src.reporting.tables import over_seeds
from src.studies.equal_tokens import at_equal_tokens, counts, voted

VOTE = {"_target_": "src.rounds.search.vote.Vote", "candidates": 4}


def summary(
    samples: int, accuracy: float, tokens: float, search: dict[str, Any] | None = None, problems: str = "these"
) -> dict[str, Any]:
    """Votes of k answers are right k points more often than one answer."""
    return {
        **{"accuracy": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1, "problems": 50, "samples": samples},
        "votes": {str(k): accuracy + (k - 1) / 100 for k in range(1, samples + 1)},
        "tokens_per_answer": tokens,
        "decided_by": {"problems": {"sha256": problems}, "strategy": {"search": search}},
    }


def found(*summaries: dict[str, Any], rounds: int = 3, split: str = "hard", runs: tuple[str, ...] = ("motif",)) -> Any:
    """An evaluation of each run, with one summary for each seed."""
    what = Name("sums", split, rounds)
    return {(run, what): {seed: (Path("run"), one) for seed, one in enumerate(summaries)} for run in runs}


def places(container: Any) -> list[tuple[float, float]]:
    line = container.lines[0]
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def test_votes_stand_at_the_tokens_of_all_their_answers_and_searches_at_their_own() -> None:
    runs = ("motif", "base")
    figure = at_equal_tokens(
        {
            "votes": found(summary(6, 0.2, 30.0), summary(6, 0.3, 50.0), rounds=1, runs=runs),
            "vote-search": found(summary(1, 0.5, 150.0, VOTE), runs=runs),
        }
    )
    assert figure is not None
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["motif, 2 seeds: hard, 50 problems", "base, before training, 2 seeds: hard, 50 problems"]
    for axes in figure.axes:
        votes, search = (places(container) for container in axes.containers)
        assert votes == [pytest.approx(one) for one in ((40, 0.25), (80, 0.26), (160, 0.28), (240, 0.3))]
        assert search == [pytest.approx((150, 0.5))]
        assert axes.get_xscale() == "log"
    assert figure.axes[-1].get_xlabel() == "generated tokens per problem (log scale)"
    (legend,) = figure.legends
    named = [text.get_text() for text in legend.get_texts()]
    assert named == ["votes: 1 round, votes of 1, 2, 4, 6 answers", "vote-search: 3 rounds"]


def test_methods_differ_without_colours() -> None:
    figure = at_equal_tokens({"a": found(summary(2, 0.2, 30.0)), "b": found(summary(4, 0.2, 30.0))})
    assert figure is not None
    lines = [container.lines[0] for container in figure.axes[0].containers]
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == 2


@pytest.mark.parametrize(
    ("other", "drawn"),
    [
        (summary(4, 0.4, 90.0), False),  # e.g. another carry rule: a table says as much
        (summary(8, 0.4, 30.0), True),
        (summary(4, 0.4, 30.0, VOTE), True),
        (summary(8, 0.4, 30.0, VOTE, problems="others"), False),
    ],
)
def test_it_is_drawn_if_one_policy_answers_the_same_problems_by_other_searches_or_samples(
    other: dict[str, Any], drawn: bool
) -> None:
    evaluations = {"chains": found(summary(4, 0.4, 30.0)), "others": found(other)}
    assert (at_equal_tokens(evaluations) is not None) == drawn
    assert at_equal_tokens({**evaluations, "others": found(other, runs=("grpo",))}) is None
    assert at_equal_tokens({**evaluations, "others": found(other, split="easy")}) is None


def test_splits_without_a_search_have_no_column_and_policies_without_an_evaluation_an_empty_panel() -> None:
    figure = at_equal_tokens(
        {
            "chains": found(summary(4, 0.4, 30.0), runs=("motif", "base")),
            "easy chains": found(summary(4, 0.4, 30.0), split="easy"),
            "lengths": found(summary(4, 0.4, 30.0), split="long"),
            "search": found(summary(1, 0.4, 30.0, VOTE)),
            "easy search": found(summary(1, 0.4, 30.0, VOTE), split="easy"),
        }
    )
    assert figure is not None
    assert [axes.get_title(loc="left").partition(": ")[2] for axes in figure.axes if axes.axison] == [
        "hard, 50 problems",
        "easy, 50 problems",
        "hard, 50 problems",
    ]


def test_numbers_of_votes() -> None:
    assert [counts(summary(samples, 0.5, 1.0)) for samples in (1, 4, 12)] == [[1], [1, 2, 4], [1, 2, 4, 8, 12]]
    assert counts({"samples": 4}) == [1], "older summaries have no votes of fewer answers"


def test_votes_have_intervals_over_seeds_or_over_problems() -> None:
    several = [summary(4, accuracy, 30.0) for accuracy in (0.4, 0.5, 0.6)]
    for summaries, count, expected in (
        (several, 4, over_seeds([0.43, 0.53, 0.63], 0, 1)),
        (several[:1], 4, wilson(0.43, 50)),
        ([several[0]] * 3, 4, wilson(0.43, 50)),  # seeds without any spread
        (several[:1], 1, Interval(0.4, 0.3, 0.5)),  # one answer has the interval of accuracies
    ):
        assert astuple(voted(summaries, count)) == pytest.approx(astuple(expected))
