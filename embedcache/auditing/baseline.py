"""What duration and level alone tell about the labels: the UAR of the nearest class mean, on other speakers.

A classifier of emotions has to be better than this. If angry clips are louder and sad clips longer, a head can score
without any other property of the voice, and the score does not hold for recordings with other microphones or pauses.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

MOST_FOLDS = 20  # speakers are divided into at most this many groups
LEAST_RATIO = 1.25  # of a UAR to chance, from which it is reported
STANDARD_ERRORS = 4.0  # by which such a UAR exceeds chance at least

Floats = NDArray[np.float64]
Strings = NDArray[np.str_]


def uar_of_nearest_mean(features: Floats, labels: Strings, speakers: Strings) -> float:
    """Return the UAR of predicting for each clip the label with the nearest mean, among clips of other speakers.

    `features` are (n, d). Distances are divided by the standard deviations within labels. NaN if there are fewer than
    two speakers.
    """
    y = np.unique(labels, return_inverse=True)[1]
    names, number = np.unique(speakers, return_inverse=True)
    if len(names) < 2:
        return math.nan
    group = number % MOST_FOLDS
    predicted = np.empty(len(y), np.int64)
    for test in (group == g for g in range(group.max() + 1)):
        predicted[test] = _nearest(features[~test], y[~test], features[test], int(y.max()) + 1)
    return float(np.mean([np.mean(predicted[y == c] == c) for c in range(y.max() + 1)]))


def _nearest(X: Floats, y: NDArray[np.int64], unseen: Floats, n_labels: int) -> NDArray[np.int64]:
    """Return the label of the nearest class mean of X for each unseen row."""
    counts = np.bincount(y, minlength=n_labels)
    sums = np.stack([np.bincount(y, column, n_labels) for column in X.T], axis=1)
    means = sums / np.maximum(counts, 1)[:, None]
    spread = np.sqrt(((X - means[y]) ** 2).mean(axis=0))
    distances = (((unseen[:, None] - means) / np.where(spread > 0, spread, 1)) ** 2).sum(axis=2)
    distances[:, counts == 0] = np.inf
    nearest: NDArray[np.int64] = distances.argmin(axis=1)
    return nearest


def is_above_chance(uar: float, labels: Strings) -> bool:
    """Whether a UAR is clearly above that of random guessing, given the labels (n,) of the clips."""
    counts = np.unique(labels, return_counts=True)[1]
    chance = 1 / len(counts)
    error = math.sqrt(chance * (1 - chance) * float((1 / counts).mean()) / len(counts))
    return uar >= LEAST_RATIO * chance and uar >= chance + STANDARD_ERRORS * error


def baseline_text(name: str, uar: float, n_labels: int) -> str:
    """Return a sentence without its full stop: `duration alone predicts the label with UAR 0.253, chance 0.125`."""
    predicts = "predict" if " and " in name else "predicts"
    return f"{name} alone {predicts} the label with UAR {uar:.3f}, chance {1 / n_labels:.3f}"
