"""Significance tests for the scores of two heads on the same clips, and the correction for several tests.

Conventions
-----------
Clips of one speaker are not independent, so `speaker_permutation` permutes speakers, not clips. All p-values are
two-sided and lie in [0, 1]; NaN means that the data allow no test.

References
----------
- Good P (2005). Permutation, parametric and bootstrap tests of hypotheses. Third edition, Springer, section 3.2.
- Holm S (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6(2).
- Westfall PH, Young SS (1993). Resampling-based multiple testing. Wiley.
- Nadeau C, Bengio Y (2003). Inference for the generalization error. Machine Learning 52.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

LEVEL = 0.95  # confidence level of intervals
ALPHA = 0.05  # significance level of tests
PERMUTATIONS = 20_000  # largest number of permutations; the 2^14 swaps of 14 speakers are fewer
MIN_SPEAKERS = 3  # fewest speakers for an interval or a permutation test
BLOCK = 1 << 22  # signs and statistics of swaps that are in memory at a time
TOLERANCE = 1e-9  # relative difference up to which two sums count as equal


def speaker_permutation(differences: NDArray[Any], permutations: int = PERMUTATIONS, seed: int = 0) -> float:
    """Return the p-value of a paired permutation test, in which the predictions of two heads are swapped by speaker.

    If both heads are equally good, swapping their predictions for a speaker changes nothing but the sign of the
    difference of that speaker (Good 2005, section 3.2). The p-value is the share of swaps whose absolute sum of
    differences is at least the observed one. For the differences 1, 1, 1, two of 8 swaps are: p = 0.25.

    Parameters
    ----------
    differences : (S,) contribution of each speaker to the difference of the two scores; the sum is that difference.
    permutations : largest number of swaps. All 2^S swaps are computed if they are no more than this; otherwise this
        number of swaps is drawn at random, and the observed one is counted with them.
    seed : random seed of the drawn swaps.

    Returns
    -------
    p : p-value, at least 2 / 2^S; NaN for fewer than 3 speakers.
    """
    d = np.asarray(differences, dtype=np.float64)
    scores = np.stack([d, np.zeros(len(d))], axis=1)
    return float(max_t_permutation(scores, permutations, seed).p[0, 1])


@dataclass(frozen=True)
class PairwiseTests:
    """The tests of all pairs of H heads."""

    p: NDArray[np.float64]  # (H, H) p-values, adjusted for the number of pairs; 1 on the diagonal
    single_p: NDArray[np.float64]  # (H, H) p-values of each pair alone
    smallest: NDArray[np.float64]  # (H, H) difference from which each pair would have been significant; may be inf


def max_t_permutation(scores: NDArray[Any], permutations: int = PERMUTATIONS, seed: int = 0) -> PairwiseTests:
    """Test all pairs of heads by permuting their predictions speaker by speaker, adjusted for the number of pairs.

    A swap changes the sign of a speaker's differences in all pairs at once. The statistic of a pair is the absolute sum
    of its differences, divided by the root of the sum of their squares, which no swap changes. Step-down max-T
    (Westfall & Young 1993, algorithm 2.8) compares the pairs, in descending order, with the largest statistic of the
    pairs that remain: with a probability of at least 1 - ALPHA, no pair of equally good heads is significant at ALPHA,
    whatever head is best. Two heads that predict alike have p = 1, and count as one.

    Parameters
    ----------
    scores : (S, H) contribution of each speaker to the score of each head; the sum over speakers is the score.
    permutations : largest number of swaps, as in `speaker_permutation`. They are computed in blocks of BLOCK signs.
    seed : random seed of the drawn swaps.

    Returns
    -------
    tests : all p-values are NaN for fewer than 3 speakers.
    """
    scores = np.asarray(scores, dtype=np.float64)
    first, second = np.triu_indices(scores.shape[1], 1)
    if len(scores) < MIN_SPEAKERS or not len(first):
        return _square(scores.shape[1], first, second, *np.full((3, len(first)), np.nan))
    norms = np.array(
        [np.sqrt(np.square(scores[:, i] - scores[:, j]).sum()) for i, j in zip(first, second, strict=True)]
    )
    scale = np.where(norms > 0, norms, np.inf)
    total = scores.sum(axis=0)
    observed = np.abs(total[first] - total[second]) / scale
    order = np.argsort(-observed, kind="stable")
    limits = observed * (1 - TOLERANCE)
    reached, reached_alone, largest = np.zeros(len(first)), np.zeros(len(first)), []
    for signs in _swaps(len(scores), permutations, seed, step=max(1, BLOCK // (len(scores) + len(first)))):
        swapped = signs @ scores
        statistics = np.abs(swapped[:, first] - swapped[:, second]) / scale
        reached_alone += (statistics >= limits).sum(axis=0)
        # the largest statistic of each pair, in order, and of those after it
        remaining = np.maximum.accumulate(statistics[:, order[::-1]], axis=1)[:, ::-1]
        reached[order] += (remaining >= limits[order]).sum(axis=0)
        largest.append(remaining[:, 0])
    drawn = 0 if _all_swaps(len(scores), permutations) else 1  # the observed swap is one of all, but not of drawn ones
    n = sum(map(len, largest)) + drawn
    adjusted = np.empty(len(first))
    adjusted[order] = np.maximum.accumulate((reached[order] + drawn) / n)
    adjusted[norms == 0] = 1.0
    critical = _critical_value(np.concatenate(largest)) if smallest_p(len(scores), permutations) <= ALPHA else np.inf
    smallest = _smallest_differences(scores, first, second, critical)
    return _square(scores.shape[1], first, second, adjusted, (reached_alone + drawn) / n, smallest)


def smallest_p(n_speakers: int, permutations: int = PERMUTATIONS) -> float:
    """Return the smallest p-value that a permutation test over speakers can have, whatever the scores."""
    return 2 / 2**n_speakers if _all_swaps(n_speakers, permutations) else 1 / (permutations + 1)


def _all_swaps(n: int, permutations: int) -> bool:
    return n < 60 and 2**n <= permutations


def _swaps(n: int, permutations: int, seed: int, step: int) -> Iterator[NDArray[np.float64]]:
    """Yield blocks of at most `step` swaps (m, n) of n speakers as signs: all 2^n swaps, or randomly drawn ones."""
    rng = np.random.default_rng(seed)
    everything = _all_swaps(n, permutations)
    number = 2**n if everything else permutations
    for start in range(0, number, step):
        size = min(step, number - start)
        swaps = (
            np.arange(start, start + size)[:, None] >> np.arange(n) if everything else rng.integers(2, size=(size, n))
        )
        yield np.where(swaps & 1, -1.0, 1.0)


def _critical_value(largest: NDArray[np.float64]) -> float:
    """Return the statistic from which p-values are at most ALPHA, given the largest statistic of each swap (m,)."""
    allowed = int(ALPHA * len(largest))  # the number of swaps that may reach it
    return float(np.sort(largest)[::-1][allowed] * (1 + 2 * TOLERANCE))


def _smallest_differences(
    scores: NDArray[np.float64], first: NDArray[np.int64], second: NDArray[np.int64], critical: float
) -> NDArray[np.float64]:
    """Return for each pair the smallest difference of scores that reaches the critical value.

    The differences of the speakers are shifted by a constant. With residuals r around their mean, the sum D of the
    differences has the statistic D / sqrt(sum r^2 + D^2 / S), which is solved for D.
    """
    differences = scores[:, first] - scores[:, second]
    spread = np.square(differences - differences.mean(axis=0)).sum(axis=0)
    room = 1 - critical**2 / len(scores)
    smallest: NDArray[np.float64] = critical * np.sqrt(spread / room) if room > 0 else np.full(len(first), np.inf)
    return smallest


def _square(
    n: int, first: NDArray[np.int64], second: NDArray[np.int64], p: Any, single_p: Any, smallest: Any
) -> PairwiseTests:
    """Return the tests of pairs as symmetric matrices (n, n)."""
    matrices = []
    for values, diagonal in ((p, 1.0), (single_p, 1.0), (smallest, 0.0)):
        matrix = np.full((n, n), diagonal)
        matrix[first, second] = matrix[second, first] = values
        matrices.append(matrix)
    return PairwiseTests(*matrices)


def resampled_t(differences: NDArray[Any], test_train_ratio: float) -> float:
    """Return the p-value of the corrected resampled t-test over folds and seeds (Nadeau & Bengio 2003).

    The training sets of two folds overlap, so the folds are not independent, as an ordinary t-test would assume. The
    correction replaces the factor 1 / k of the variance by 1 / k + test_train_ratio.

    Parameters
    ----------
    differences : (k,) difference of the scores of the two heads in each fold.
    test_train_ratio : number of test clips divided by the number of training clips of a fold.

    Returns
    -------
    p : p-value; NaN for fewer than 2 folds, 1 if all differences are 0.
    """
    d = np.asarray(differences, dtype=np.float64)
    if len(d) < 2:
        return float("nan")
    standard_error = np.sqrt((1 / len(d) + test_train_ratio) * d.var(ddof=1))
    if not standard_error:
        return 1.0 if not d.mean() else 0.0
    return float(2 * student.sf(abs(d.mean() / standard_error), len(d) - 1))


def holm(p: NDArray[Any]) -> NDArray[np.float64]:
    """Return p-values (m,) corrected for the number of tests (Holm 1979).

    NaN stays NaN and is not counted as a test. For 0.01, 0.04, NaN, 0.03, the corrected values are 0.03, 0.06, NaN,
    0.06.
    """
    p = np.asarray(p, dtype=np.float64)
    valid = np.flatnonzero(~np.isnan(p))
    order = valid[np.argsort(p[valid], kind="stable")]
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return corrected
