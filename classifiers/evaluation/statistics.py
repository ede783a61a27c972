"""Significance tests for the scores of two heads on the same clips, and the correction for several tests.

Conventions
-----------
Clips of one speaker are not independent, so `speaker_permutation` permutes speakers, not clips. All p-values are
two-sided and lie in [0, 1]; NaN means that the data allow no test.

References
----------
- Good P (2005). Permutation, parametric and bootstrap tests of hypotheses. Third edition, Springer, section 3.2.
- Holm S (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6(2).
- Nadeau C, Bengio Y (2003). Inference for the generalization error. Machine Learning 52.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

LEVEL = 0.95  # confidence level of intervals
RESAMPLES = 2000  # number of bootstrap resamples
PERMUTATIONS = 20_000  # largest number of permutations; the 2^14 swaps of 14 speakers are fewer
MIN_SPEAKERS = 3  # fewest speakers for an interval or a permutation test
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
    n = len(d)
    if n < MIN_SPEAKERS:
        return float("nan")
    if 2**n <= permutations:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        observed = 0  # the observed swap is one of all
    else:
        signs = np.random.default_rng(seed).choice((-1, 1), size=(permutations, n))
        observed = 1
    extreme = np.abs(signs @ d) >= abs(d.sum()) * (1 - TOLERANCE)
    return float((extreme.sum() + observed) / (len(signs) + observed))


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
