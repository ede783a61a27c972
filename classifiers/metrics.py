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


def confusion(truth: NDArray[Any], predicted: NDArray[Any], labels: tuple[str, ...]) -> NDArray[np.int64]:
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
    clips, certainty, accuracy = reliability(proba, correct, n_bins).T
    return float((clips * np.abs(np.nan_to_num(certainty - accuracy))).sum() / len(correct))


def reliability(proba: NDArray[Any], correct: NDArray[np.bool_], n_bins: int = ECE_BINS) -> Floats:
    """(n_bins, 3): how many clips lie in each bin of `ece`, their mean certainty, the share that is right; or NaN."""
    certainty = np.asarray(proba, dtype=np.float64).max(axis=1)
    bins = np.clip(np.ceil(certainty * n_bins).astype(int) - 1, 0, n_bins - 1)
    clips, sure, right = (np.bincount(bins, weights=w, minlength=n_bins) for w in (None, certainty, correct))
    return np.stack([clips.astype(np.float64), _ratio(sure, clips), _ratio(right, clips)], axis=1)


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


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    whole = np.asarray(whole, dtype=np.float64)
    ratio: Floats = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return ratio


def _mean(scores: Floats) -> Floats:
    """The mean over the last axis, NaN left out."""
    there = ~np.isnan(scores)
    return _ratio(np.where(there, scores, 0).sum(axis=-1), there.sum(axis=-1))
