"""Scores as pure functions.

Conventions. A confusion matrix M is (…, C, C): M[i, j] counts clips of label i that were predicted as j; leading axes
are independent matrices. Scores lie in [0, 1] and more is better, but for ECE, the Brier score and risk. Recall is over
the labels that occur: a label without a clip has no recall and does not count in UAR or macro-F1. A label that is never
predicted has precision 0. An empty matrix has score NaN. A clip's certainty is the probability of its likeliest label.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ECE_BINS = 15


def confusion(truth: NDArray[Any], predicted: NDArray[Any], labels: tuple[Any, ...]) -> NDArray[np.int64]:
    """(C, C) counts, rows and columns in the order of `labels`. Raises ValueError for a label that is not there."""
    place = {label: number for number, label in enumerate(labels)}
    strange = sorted((set(truth.tolist()) | set(predicted.tolist())) - set(labels))
    if strange:
        raise ValueError(f"labels {strange} are not among {list(labels)}.")
    matrix = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(matrix, ([place[t] for t in truth.tolist()], [place[p] for p in predicted.tolist()]), 1)
    return matrix


def recalls(matrix: NDArray[Any]) -> Floats:
    """(…, C): the recall of each label; NaN for one without a clip."""
    return _ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1))


def precisions(matrix: NDArray[Any]) -> Floats:
    """(…, C): the precision of each label; 0 for one that is never predicted."""
    return np.nan_to_num(_ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-2)))


def f1s(matrix: NDArray[Any]) -> Floats:
    """(…, C): the harmonic mean of precision and recall of each label; NaN for one without a clip."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    scores = _ratio(2 * hits, matrix.sum(axis=-1) + matrix.sum(axis=-2))
    return np.where(matrix.sum(axis=-1) > 0, scores, np.nan)


def uar(matrix: NDArray[Any]) -> Floats:
    """Unweighted average recall, also called UA or balanced accuracy; chance is 1 / C."""
    return _mean(recalls(matrix))


def war(matrix: NDArray[Any]) -> Floats:
    """Weighted average recall, also called WA or accuracy."""
    return _ratio(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum(axis=(-2, -1)))


def macro_f1(matrix: NDArray[Any]) -> Floats:
    """The mean of the labels' F1."""
    return _mean(f1s(matrix))


def ece(proba: NDArray[Any], correct: NDArray[np.bool_], n_bins: int = ECE_BINS) -> float:
    """Expected calibration error (Guo et al. 2017): how far certainty lies from accuracy, on average.

    proba (n, C); correct (n,). Certainty is cut into `n_bins` equal bins, open to the left.
    """
    return float(ece_of(bin_sums(proba, correct, n_bins=n_bins)[0]))


def ece_of(sums: NDArray[Any]) -> Floats:
    """(…): the ECE of what `bin_sums` counts, (…, n_bins, 3); sums over several groups may be added before."""
    gaps = np.abs(sums[..., 1] - sums[..., 2]).sum(axis=-1)
    return _ratio(gaps, sums[..., 0].sum(axis=-1))


def bin_sums(
    proba: NDArray[Any], correct: NDArray[np.bool_], group: NDArray[np.int64] | None = None, n_bins: int = ECE_BINS
) -> Floats:
    """(G, n_bins, 3): the clips in each bin of `ece`, the sum of their certainties, how many are right.

    group (n,): which of the groups 0 … G - 1 each clip belongs to; all to one by default.
    """
    certainty = np.asarray(proba, dtype=np.float64).max(axis=1)
    bins = np.clip(np.ceil(certainty * n_bins).astype(int) - 1, 0, n_bins - 1)
    group = np.zeros(len(bins), dtype=np.int64) if group is None else group
    n_groups = int(group.max(initial=-1)) + 1
    cells = group * n_bins + bins
    sums = [np.bincount(cells, weights=w, minlength=n_groups * n_bins) for w in (None, certainty, correct)]
    return np.stack(sums, axis=1).astype(np.float64).reshape(n_groups, n_bins, 3)


def reliability(proba: NDArray[Any], correct: NDArray[np.bool_], n_bins: int = ECE_BINS) -> Floats:
    """(n_bins, 3): how many clips lie in each bin of `ece`, their mean certainty, the share that is right; or NaN."""
    clips, sure, right = bin_sums(proba, correct, n_bins=n_bins)[0].T
    return np.stack([clips, _ratio(sure, clips), _ratio(right, clips)], axis=1)


def brier(proba: NDArray[Any], truth: NDArray[np.int64]) -> float:
    """The mean squared distance of the probabilities from the truth, in [0, 2]; 0 is best (Brier 1950).

    proba (n, C); truth (n,): the column of each clip's label.
    """
    return float(brier_terms(proba, truth).mean())


def brier_terms(proba: NDArray[Any], truth: NDArray[np.int64]) -> Floats:
    """(n,): what each clip adds to the mean that `brier` is."""
    wanted = np.eye(proba.shape[1])[truth]
    squares: Floats = np.square(np.asarray(proba, dtype=np.float64) - wanted).sum(axis=1)
    return squares


def risk_coverage(proba: NDArray[Any], correct: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """What abstaining buys (El-Yaniv & Wiener 2010): thresholds (m,), and coverage (m,) and risk (m,) at each.

    Clips whose certainty is at least the threshold are answered: coverage is their share of all, risk the share of them
    that is wrong. Thresholds are the certainties that occur, highest first, so the last coverage is 1.
    """
    certainty = np.asarray(proba, dtype=np.float64).max(axis=1)
    order = np.argsort(-certainty, kind="stable")
    last = np.flatnonzero(np.diff(certainty[order], append=-np.inf))  # of clips that are equally certain
    answered = last + 1.0
    wrong = np.cumsum(~np.asarray(correct)[order])[last]
    return certainty[order][last], answered / len(certainty), wrong / answered


def aurc(proba: NDArray[Any], correct: NDArray[np.bool_], times: NDArray[Any] | None = None) -> Floats:
    """(…): the area under the curve of `risk_coverage`, in [0, 1]; 0 is best (Geifman, Uziel & El-Yaniv 2019).

    It is the mean, over the clips, of the risk at each one's own certainty as the threshold: a step function, in which
    clips that are equally certain share a step. times (…, n): how often each clip counts; once by default.
    """
    certainty = np.asarray(proba, dtype=np.float64).max(axis=1)
    order = np.argsort(-certainty, kind="stable")
    first = np.flatnonzero(np.diff(certainty[order], prepend=np.inf))  # of clips that are equally certain
    counts = np.ones(len(order)) if times is None else times[..., order]
    clips = np.add.reduceat(counts, first, axis=-1)
    wrong = np.add.reduceat(counts * ~np.asarray(correct)[order], first, axis=-1)
    answered = clips.cumsum(axis=-1)
    risk = np.nan_to_num(_ratio(wrong.cumsum(axis=-1), answered))  # before the first clip that counts: none
    return _ratio((clips * risk).sum(axis=-1), answered[..., -1])


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    whole = np.asarray(whole, dtype=np.float64)
    ratio: Floats = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return ratio


def _mean(scores: Floats) -> Floats:
    """The mean over the last axis, NaN left out."""
    there = ~np.isnan(scores)
    return _ratio(np.where(there, scores, 0).sum(axis=-1), there.sum(axis=-1))
