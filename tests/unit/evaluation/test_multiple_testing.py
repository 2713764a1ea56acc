"""Holm's adjustment, and the band over many looks: published figures, brute force and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from src.evaluation.multiple_testing import band, clopper_pearson, holm, look_level


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # R: p.adjust(…, "holm")
    assert holm([]) == []
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([0.3]) == [0.3]


def test_holm_rejects_as_the_closed_test_of_bonferroni() -> None:
    """A hypothesis is rejected where every intersection that holds it is rejected by Bonferroni's test."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = list(rng.random(4) ** 3)
        for index, adjusted in enumerate(holm(values)):
            sets = [
                chosen for size in range(1, 5) for chosen in itertools.combinations(range(4), size) if index in chosen
            ]
            assert adjusted == pytest.approx(
                max(min(1.0, len(chosen) * min(values[one] for one in chosen)) for chosen in sets)
            )


def test_holm_makes_few_false_rejections() -> None:
    rng = np.random.default_rng(1)
    wrong = sum(min(holm(list(rng.random(6)))) <= 0.05 for _ in range(2000))
    assert wrong / 2000 <= 0.062


def test_clopper_pearson_gives_published_intervals() -> None:
    assert clopper_pearson(0, 30).high == pytest.approx(1 - 0.025 ** (1 / 30))
    found = clopper_pearson(10, 30)
    assert (found.low, found.high) == pytest.approx((0.1729, 0.5281), abs=1e-4)
    assert clopper_pearson(30, 30).low == pytest.approx(0.025 ** (1 / 30))


def test_the_looks_spend_five_percent_together() -> None:
    assert sum(look_level(look) for look in range(1, 10_000)) == pytest.approx(0.05, abs=1e-5)
    assert all(look_level(look) > look_level(look + 1) for look in range(1, 50))


def test_a_band_of_verdicts_is_exact_and_widens_with_the_looks() -> None:
    first, tenth = (band([1.0] * 12 + [0.0] * 20, look) for look in (1, 10))
    assert first == clopper_pearson(12, 32, 0.025)
    assert tenth.low < first.low < first.estimate < first.high < tenth.high


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_band_of_other_scores_is_chernoffs(value: float) -> None:
    found = band([value] * 20 + [0.5], 2)
    rate, allowed = (20 * value + 0.5) / 21, math.log(2 / look_level(2)) / 21
    for end in (found.low, found.high):
        divergence = rate * math.log(rate / end) + (1 - rate) * math.log((1 - rate) / (1 - end))
        assert divergence == pytest.approx(allowed, rel=1e-6)
    assert 0 < found.low < rate < found.high < 1


@pytest.mark.parametrize("looks", [5, 20])
def test_all_looks_of_a_curve_are_inside_the_band_together(looks: int) -> None:
    """Accuracy rises while the same problems are asked again and again."""
    rng, missed = np.random.default_rng(2), 0
    for _ in range(100):
        ease = rng.normal(size=60)
        for look in range(1, looks + 1):
            level = -1 + 2 * look / looks
            truth = stats.norm.cdf(level / math.sqrt(2))
            found = band((rng.normal(size=60) < ease + level).astype(float).tolist(), look)
            if not found.low <= truth <= found.high:
                missed += 1
                break
    assert missed / 100 <= 0.06
