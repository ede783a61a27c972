"""Metrics of classification, calibration and selective classification, as pure functions of arrays.

Conventions
-----------
A confusion matrix M has the shape (…, C, C) for C labels: M[i, j] is the number of clips of label i that were predicted
as label j. Leading axes hold independent matrices, and every score of a matrix has the shape (…).

Probabilities `proba` have the shape (n, C) for n clips; each row sums to 1. The confidence of a prediction is the
probability of its most probable label. `correct` (n,) is True where the predicted label is the true one.

Scores lie in [0, 1], and 1 is best, with these exceptions: the Brier score lies in [0, 2], and for ECE, Brier score,
risk and AURC 0 is best.

A label without a clip has no recall and no F1 (NaN), and is left out of UAR and macro-F1. A label that is never
predicted has precision 0. The scores of an empty matrix are NaN.

Metrics
-------
- Confusion matrix: `confusion`, `recalls`, `precisions`, `f1s`, `uar`, `war`, `macro_f1`
- Calibration: `ece`, `reliability`, `brier`; `bin_sums`, `ece_of` and `brier_terms` are their parts, for resampling
- Selective classification: `risk_coverage`, `aurc`

References
----------
- Brier GW (1950). Verification of forecasts expressed in terms of probability. Monthly Weather Review 78(1).
- El-Yaniv R, Wiener Y (2010). On the foundations of noise-free selective classification. JMLR 11.
- Geifman Y, Uziel G, El-Yaniv R (2019). Bias-reduced uncertainty estimation for deep neural classifiers. ICLR.
- Guo C, Pleiss G, Sun Y, Weinberger KQ (2017). On calibration of modern neural networks. ICML.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ECE_BINS = 15


def confusion(truth: NDArray[Any], predicted: NDArray[Any], labels: tuple[Any, ...]) -> NDArray[np.int64]:
    """Return the confusion matrix (C, C) of true and predicted labels (n,), in the order of `labels`.

    Raises ValueError if a true or predicted label is not in `labels`.
    """
    index = {label: number for number, label in enumerate(labels)}
    unknown = sorted((set(truth.tolist()) | set(predicted.tolist())) - set(labels))
    if unknown:
        raise ValueError(f"labels {unknown} are not among {list(labels)}.")
    matrix = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(matrix, ([index[label] for label in truth.tolist()], [index[label] for label in predicted.tolist()]), 1)
    return matrix


def recalls(matrix: NDArray[Any]) -> Floats:
    """Return the recall of each label (…, C); NaN for a label without a clip."""
    return _ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1))


def precisions(matrix: NDArray[Any]) -> Floats:
    """Return the precision of each label (…, C); 0 for a label that is never predicted."""
    return np.nan_to_num(_ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-2)))


def f1s(matrix: NDArray[Any]) -> Floats:
    """Return F1, the harmonic mean of precision and recall, of each label (…, C); NaN for a label without a clip."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    scores = _ratio(2 * hits, matrix.sum(axis=-1) + matrix.sum(axis=-2))
    return np.where(matrix.sum(axis=-1) > 0, scores, np.nan)


def uar(matrix: NDArray[Any]) -> Floats:
    """Return the unweighted average recall (…), also called UA or balanced accuracy. Its chance level is 1 / C."""
    return _nan_mean(recalls(matrix))


def war(matrix: NDArray[Any]) -> Floats:
    """Return the weighted average recall (…), also called WA or accuracy."""
    return _ratio(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum(axis=(-2, -1)))


def macro_f1(matrix: NDArray[Any]) -> Floats:
    """Return macro-F1 (…): the mean of F1 over the labels that have clips."""
    return _nan_mean(f1s(matrix))


def ece(proba: NDArray[Any], correct: NDArray[np.bool_], n_bins: int = ECE_BINS) -> float:
    """Return the expected calibration error, in [0, 1]; 0 is best (Guo et al. 2017).

    The error is the absolute difference of mean confidence and accuracy within a bin, averaged over the bins with the
    number of clips as weight.

    Parameters
    ----------
    proba : (n, C) probabilities.
    correct : (n,) whether each prediction is correct.
    n_bins : number of bins of equal width; the b-th bin holds confidences in ((b - 1) / n_bins, b / n_bins].
    """
    return float(ece_of(bin_sums(proba, correct, n_bins=n_bins)[0]))


def ece_of(sums: NDArray[Any]) -> Floats:
    """Return the expected calibration error (…) of the sums (…, n_bins, 3) that `bin_sums` returns.

    The sums of several groups of clips can be added first: the result is then the error over all of their clips.
    """
    gaps = np.abs(sums[..., 1] - sums[..., 2]).sum(axis=-1)
    return _ratio(gaps, sums[..., 0].sum(axis=-1))


def bin_sums(
    proba: NDArray[Any], correct: NDArray[np.bool_], group: NDArray[np.int64] | None = None, n_bins: int = ECE_BINS
) -> Floats:
    """Return the sums over the clips of each group and bin of confidence that determine `ece` and `reliability`.

    Parameters
    ----------
    proba : (n, C) probabilities.
    correct : (n,) whether each prediction is correct.
    group : (n,) index of the group of each clip, 0 … G - 1. None puts all clips into one group.
    n_bins : number of bins, as in `ece`.

    Returns
    -------
    sums : (G, n_bins, 3) number of clips, sum of their confidences, number of correct predictions.
    """
    confidence = np.asarray(proba, dtype=np.float64).max(axis=1)
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    group = np.zeros(len(bins), dtype=np.int64) if group is None else group
    n_groups = int(group.max(initial=-1)) + 1
    cells = group * n_bins + bins
    sums = [np.bincount(cells, weights=w, minlength=n_groups * n_bins) for w in (None, confidence, correct)]
    return np.stack(sums, axis=1).astype(np.float64).reshape(n_groups, n_bins, 3)


def reliability(proba: NDArray[Any], correct: NDArray[np.bool_], n_bins: int = ECE_BINS) -> Floats:
    """Return the number of clips, the mean confidence and the accuracy (n_bins, 3) in each bin of `ece`.

    Mean confidence and accuracy of an empty bin are NaN. The arguments are those of `ece`.
    """
    clips, confidence, hits = bin_sums(proba, correct, n_bins=n_bins)[0].T
    return np.stack([clips, _ratio(confidence, clips), _ratio(hits, clips)], axis=1)


def brier(proba: NDArray[Any], truth: NDArray[np.int64]) -> float:
    """Return the Brier score over all labels, in [0, 2]; 0 is best (Brier 1950).

    The score is the mean squared distance between the probabilities and the one-hot vector of the true label.

    Parameters
    ----------
    proba : (n, C) probabilities.
    truth : (n,) column of the true label of each clip.
    """
    return float(brier_terms(proba, truth).mean())


def brier_terms(proba: NDArray[Any], truth: NDArray[np.int64]) -> Floats:
    """Return the squared distance (n,) of each clip, whose mean is `brier`."""
    one_hot = np.eye(proba.shape[1])[truth]
    squares: Floats = np.square(np.asarray(proba, dtype=np.float64) - one_hot).sum(axis=1)
    return squares


def risk_coverage(proba: NDArray[Any], correct: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Return the risk-coverage curve of a classifier that abstains below a threshold (El-Yaniv & Wiener 2010).

    A clip is accepted if its confidence is at least the threshold. Coverage is the share of all clips that is accepted,
    risk is the error rate on the accepted clips.

    For confidences 0.9, 0.7, 0.7, 0.6 with the second 0.7 and 0.6 wrong, the thresholds are 0.9, 0.7, 0.6, the coverage
    1/4, 3/4, 1, and the risk 0, 1/3, 1/2.

    Parameters
    ----------
    proba : (n, C) probabilities.
    correct : (n,) whether each prediction is correct.

    Returns
    -------
    thresholds : (m,) distinct confidences, in descending order.
    coverage : (m,) coverage at each threshold; the last is 1.
    risk : (m,) risk at each threshold.
    """
    confidence = np.asarray(proba, dtype=np.float64).max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    last_of_ties = np.flatnonzero(np.diff(confidence[order], append=-np.inf))
    accepted = last_of_ties + 1.0
    errors = np.cumsum(~np.asarray(correct)[order])[last_of_ties]
    return confidence[order][last_of_ties], accepted / len(confidence), errors / accepted


def aurc(proba: NDArray[Any], correct: NDArray[np.bool_], times: NDArray[Any] | None = None) -> Floats:
    """Return the area under the risk-coverage curve (…), in [0, 1]; 0 is best (Geifman, Uziel & El-Yaniv 2019).

    The area is the mean, over all clips, of the risk at the threshold that equals the confidence of the clip. The curve
    is therefore a step function, and clips of equal confidence share a step.

    Parameters
    ----------
    proba : (n, C) probabilities.
    correct : (n,) whether each prediction is correct.
    times : (…, n) number of times that each clip counts, such as the counts of a bootstrap resample. None counts each
        clip once.
    """
    confidence = np.asarray(proba, dtype=np.float64).max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    first_of_ties = np.flatnonzero(np.diff(confidence[order], prepend=np.inf))
    counts = np.ones(len(order)) if times is None else times[..., order]
    clips = np.add.reduceat(counts, first_of_ties, axis=-1)
    errors = np.add.reduceat(counts * ~np.asarray(correct)[order], first_of_ties, axis=-1)
    accepted = clips.cumsum(axis=-1)
    risk = np.nan_to_num(_ratio(errors.cumsum(axis=-1), accepted))  # 0 as long as all clips so far count zero times
    return _ratio((clips * risk).sum(axis=-1), accepted[..., -1])


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """Return part / whole; NaN where the whole is 0."""
    whole = np.asarray(whole, dtype=np.float64)
    ratio: Floats = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return ratio


def _nan_mean(scores: Floats) -> Floats:
    """Return the mean over the last axis without NaN; NaN, and no warning, where all scores are NaN."""
    valid = ~np.isnan(scores)
    return _ratio(np.where(valid, scores, 0).sum(axis=-1), valid.sum(axis=-1))
