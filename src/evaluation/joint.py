r"""Joint intervals over training seeds, problems and samples, their variance components, and the power of a comparison.

Model: y_spk = mu + a_s + b_p + c_sp + e_spk, with random seeds s, problems p and samples k (crossed random effects;
Searle, Casella & McCulloch, *Variance Components*, 1992; for evaluations of language models arXiv 2512.21326). All
arrays have the shape [seeds, problems, samples].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from src.evaluation.statistics import ROUNDING, Interval, t_quantile

QUANTILES = 2000
"""Points of the numerical integrals."""

CONFIDENCE = 0.8
"""Of the upper limit of the variance between seeds."""


@dataclass(frozen=True)
class Components:
    """Variances of one answer's score: between training seeds, between problems, of both together, and of sampling.

    Estimates are those of the analysis of variance, with negative ones set to 0. With one sample per problem, the
    variance of sampling is part of ``both`` and is 0 here; ``sampling_known`` is then false, and the components hold
    for this number of samples only. ``seed_limit`` is the one-sided 80 % upper confidence limit of ``seed``: a mean
    square with f degrees of freedom is at most f / (the 20 % quantile of chi-square with f) times its estimate (Searle,
    Casella & McCulloch, 1992, chapter 3).
    """

    seed: float
    problem: float
    both: float
    sampling: float
    sampling_known: bool = True
    seed_limit: float = math.inf

    @property
    def cautious(self) -> Components:
        """The components with the variance between seeds at its upper limit."""
        return replace(self, seed=self.seed_limit)

    def variance(self, seeds: int, problems: int, samples: int) -> float:
        """The variance of a mean over so many seeds, problems and samples of each."""
        cells = seeds * problems
        return self.seed / seeds + self.problem / problems + self.both / cells + self.sampling / (cells * samples)


def components(scores: ArrayLike) -> Components:
    """Estimate the variance components of scores; at least two seeds and two problems."""
    scores = _checked(scores)
    seeds, problems, samples = scores.shape
    of_seed, of_problem, of_both = _mean_squares(scores)
    within = float(scores.var(axis=2, ddof=1).mean()) if samples > 1 else 0.0
    return Components(
        seed=max(0.0, (of_seed - of_both) / (problems * samples)),
        problem=max(0.0, (of_problem - of_both) / (seeds * samples)),
        both=max(0.0, (of_both - within) / samples),
        sampling=within,
        sampling_known=samples > 1,
        seed_limit=max(0.0, (of_seed * _raised(seeds - 1) - of_both) / (problems * samples)),
    )


def _raised(freedom: int) -> float:
    """Factor from a mean square with so many degrees of freedom to the upper limit of its expectation."""
    return float(freedom / stats.chi2.ppf(1 - CONFIDENCE, freedom))


def joint_interval(scores: ArrayLike, lowest: float = 0.0, highest: float = 1.0) -> Interval:
    """Mean score with a 95 % interval over seeds, problems and samples, clipped to [``lowest``, ``highest``].

    The half-width adds two in quadrature: Student's t with seeds - 1 degrees of freedom times the error that varies
    between seeds (also that of seed and problem together, and of sampling), and Student's t with problems - 1 times the
    rest. In simulations, intervals of 2, 3 and 5 seeds cover 96 to 99, 95 to 98 and 95 to 97 %. With the estimated
    variance of seeds alone in place of their mean square, 2 seeds would cover 88 to 97 %.
    """
    scores = _checked(scores)
    of_seed, of_problem, of_both = _mean_squares(scores)
    seeds, problems, _ = scores.shape
    mean = float(scores.mean())
    half = _half(of_seed / scores.size, max(of_problem - of_both, 0.0) / scores.size, seeds, problems)
    return Interval(mean, max(lowest, mean - half), min(highest, mean + half))


def joint_difference(before: ArrayLike, after: ArrayLike) -> Interval:
    """Change in mean score, second minus first, with the 95 % interval of ``joint_interval``; runs of the same seed are
    paired, and the same problems. The numbers of samples may differ."""
    return joint_interval(differences(before, after), -1.0, 1.0)


def joint_p(before: ArrayLike, after: ArrayLike) -> float:
    """The p-value of no difference: the smallest error at which ``joint_difference`` would exclude 0."""
    scores = differences(before, after)
    of_seed, of_problem, of_both = _mean_squares(scores)
    by_seed, by_problem = of_seed / scores.size, max(of_problem - of_both, 0.0) / scores.size
    seeds, problems, _ = scores.shape
    mean = abs(float(scores.mean()))
    if mean < ROUNDING:
        return 1.0
    if math.sqrt(by_seed + by_problem) < ROUNDING:
        return 0.0

    def inside(level: float) -> float:
        return _half(by_seed, by_problem, seeds, problems, level) - mean

    return 1e-12 if inside(1e-12) < 0 else float(optimize.brentq(inside, 1e-12, 1 - 1e-12))


def differences(before: ArrayLike, after: ArrayLike) -> NDArray[np.float64]:
    """The change per seed and problem, [seeds, problems, 1]."""
    first, second = _checked(before), _checked(after)
    if first.shape[:2] != second.shape[:2]:
        raise ValueError(f"{first.shape[:2]} seeds and problems cannot be paired with {second.shape[:2]}")
    change: NDArray[np.float64] = second.mean(axis=2, keepdims=True) - first.mean(axis=2, keepdims=True)
    return change


def paired_components(before: ArrayLike, after: ArrayLike) -> Components:
    """The variance components of the difference of two scores that are paired by seed and problem.

    The samples of two runs are independent, so their variances add; they are told from seed and problem together where
    each has several samples per problem. The variance of sampling is that of one sample of the first run with its share
    of the second's.
    """
    first, second = _checked(before), _checked(after)
    found = components(differences(first, second))
    if min(first.shape[2], second.shape[2]) < 2:
        return found
    noise = [float(one.var(axis=2, ddof=1).mean()) for one in (first, second)]
    shared = sum(variance / one.shape[2] for variance, one in zip(noise, (first, second), strict=True))
    both = max(0.0, found.both - shared)
    return replace(found, both=both, sampling=first.shape[2] * shared, sampling_known=True)


def power(found: Components, effect: float, seeds: int, problems: int, samples: int) -> float:
    """The chance that ``joint_difference`` excludes 0 if the true difference is ``effect`` (noncentral t).

    Degrees of freedom are Satterthwaite's (Biometrics Bulletin 2, 1946), from the parts that come from seeds and from
    problems.
    """
    error, bounds = _rejection(found, seeds, problems, samples)
    return _found(error, bounds, effect)


def detectable(found: Components, seeds: int, problems: int, samples: int, chance: float = 0.8) -> float:
    """The smallest difference that is found with power ``chance``; infinite if no difference up to 1 is."""
    error, bounds = _rejection(found, seeds, problems, samples)  # neither depends on the difference
    return _smallest(error, bounds, chance)


def detectable_here(before: ArrayLike, after: ArrayLike) -> float:
    """The smallest difference that a comparison with these seeds, problems and samples finds in 80 % of repetitions.

    It follows from the spread of the problems' means: answers of two runs may share random numbers, and then differ
    less than independent samples would.
    """
    first, second = (_checked(one).mean(axis=2, keepdims=True) for one in (before, after))
    return detectable(paired_components(first, second), *first.shape)


def detectable_over_problems(changes: Sequence[float], chance: float = 0.8) -> float | None:
    """The smallest mean difference that Student's t over problems, as in ``paired_difference``, finds with power
    ``chance``, from the observed differences of problems. Infinite if no difference up to 1 is found; ``None`` if the
    differences show no spread."""
    if len(changes) < 2 or max(changes) - min(changes) < ROUNDING:
        return None
    error = float(np.std(changes, ddof=1)) / math.sqrt(len(changes))
    return _smallest(error, _bounds(t_quantile(len(changes)), len(changes) - 1), chance)


def _rejection(found: Components, seeds: int, problems: int, samples: int) -> tuple[float, NDArray[np.float64]]:
    """The standard error of a mean difference, and how many of them it must exceed to exclude 0, at evenly spaced
    quantiles of the estimated error."""
    error = math.sqrt(found.variance(seeds, problems, samples))
    if error == 0:
        return 0.0, np.zeros(1)
    by_problem = found.problem / problems
    by_seed = error**2 - by_problem
    freedom = error**4 / (by_seed**2 / (seeds - 1) + by_problem**2 / (problems - 1))
    return error, _bounds(_half(by_seed, by_problem, seeds, problems) / error, freedom)


def _bounds(half: float, freedom: float) -> NDArray[np.float64]:
    """``half`` times the estimated over the true standard error, at evenly spaced quantiles."""
    quantiles = (np.arange(QUANTILES) + 0.5) / QUANTILES
    bounds: NDArray[np.float64] = half * np.sqrt(stats.chi2.ppf(quantiles, freedom) / freedom)
    return bounds


def _found(error: float, bounds: NDArray[np.float64], effect: float) -> float:
    """The chance that a difference ``effect`` with this standard error exceeds the bounds: the noncentral t, by
    quadrature (scipy's own is NaN far from the centre)."""
    if error == 0:
        return float(effect != 0)
    shift = abs(effect) / error
    return float((special.ndtr(shift - bounds) + special.ndtr(-bounds - shift)).mean())


def _smallest(error: float, bounds: NDArray[np.float64], chance: float) -> float:
    """The smallest difference up to 1 that is found with this chance; infinite if there is none."""
    if _found(error, bounds, 1.0) < chance:
        return math.inf
    return float(optimize.brentq(lambda effect: _found(error, bounds, effect) - chance, 0.0, 1.0))


def _checked(scores: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 3 or array.shape[0] < 2 or array.shape[1] < 2 or array.shape[2] < 1:
        raise ValueError(
            f"scores of the shape {array.shape}, where [2 or more seeds, 2 or more problems, samples] is needed"
        )
    return array


def _mean_squares(scores: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean squares between seeds, between problems, and of their interaction."""
    seeds, problems, samples = scores.shape
    cells = scores.mean(axis=2)
    rows, columns, mean = cells.mean(axis=1), cells.mean(axis=0), cells.mean()
    rest = cells - rows[:, None] - columns[None, :] + mean
    return (
        float(problems * samples * ((rows - mean) ** 2).sum() / (seeds - 1)),
        float(seeds * samples * ((columns - mean) ** 2).sum() / (problems - 1)),
        float(samples * (rest**2).sum() / ((seeds - 1) * (problems - 1))),
    )


def _half(by_seed: float, by_problem: float, seeds: int, problems: int, level: float = 0.05) -> float:
    """Half the width of an interval around a mean whose variance comes from seeds and from problems."""
    quantiles = stats.t.ppf(1 - level / 2, seeds - 1), stats.t.ppf(1 - level / 2, problems - 1)
    return float(math.sqrt(quantiles[0] ** 2 * by_seed + quantiles[1] ** 2 * by_problem))
