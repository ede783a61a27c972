"""Statistics that know about speakers: clips of one speaker are not independent, speakers are what is drawn anew."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

LEVEL = 0.95  # of intervals
RESAMPLES = 2000
PERMUTATIONS = 20_000  # 14 speakers' are all made
FEWEST_SPEAKERS = 3
TOLERANCE = 1e-9  # relative, by which equal sums may differ


def speaker_permutation(differences: NDArray[Any], permutations: int = PERMUTATIONS, seed: int = 0) -> float:
    """The two-sided p of a paired permutation test: two heads, swapped speaker by speaker (Good 2005, section 3.2).

    differences (S,): what each speaker adds to the difference of the two scores, so that their sum is that difference,
    and a swap turns a sign. All 2^S swaps are made where they are no more than `permutations`, else so many are drawn.
    Gives NaN for fewer than 3 speakers, of whom nothing can be said.
    """
    d = np.asarray(differences, dtype=np.float64)
    n = len(d)
    if n < FEWEST_SPEAKERS:
        return float("nan")
    if 2**n <= permutations:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        drawn = 0
    else:
        signs = np.random.default_rng(seed).choice((-1, 1), size=(permutations, n))
        drawn = 1  # the swap that was observed is one of those that might have been
    as_far = np.abs(signs @ d) >= abs(d.sum()) * (1 - TOLERANCE)
    return float((as_far.sum() + drawn) / (len(signs) + drawn))


def resampled_t(differences: NDArray[Any], test_share: float) -> float:
    """The two-sided p of the corrected resampled t-test over folds and seeds (Nadeau & Bengio 2003).

    differences (k,): of the two heads' scores, a fold each; `test_share` is the clips tested over the clips trained on.
    Training sets overlap, which an ordinary t-test takes for independent evidence. Gives NaN for fewer than 2 folds; 1
    where all differences are 0.
    """
    d = np.asarray(differences, dtype=np.float64)
    if len(d) < 2:
        return float("nan")
    spread = np.sqrt((1 / len(d) + test_share) * d.var(ddof=1))
    if not spread:
        return 1.0 if not d.mean() else 0.0
    return float(2 * student.sf(abs(d.mean() / spread), len(d) - 1))


def holm(p: NDArray[Any]) -> NDArray[np.float64]:
    """p-values (m,), corrected for their number (Holm 1979); NaN stays NaN and does not count."""
    p = np.asarray(p, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return corrected
