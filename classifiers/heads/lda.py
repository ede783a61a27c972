"""Linear discriminant analysis with a shrunk covariance: one matrix inversion, and nothing that must be tuned."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.utils.class_weight import compute_class_weight

from ._scikit import ScoreHead
from ._spec import Head


class LDA(ScoreHead):
    """Standardise, then LDA (Fisher 1936; scikit-learn) with a shrunk covariance matrix.

    `shrinkage` is "auto", the formula of Ledoit & Wolf (2004), or a number in [0, 1]. Class weights multiply the prior
    probabilities of the classes, so "balanced" makes the priors equal. In many dimensions LDA's own probabilities are
    far too close to 0 and 1, so they are replaced by temperature-scaled ones.
    """

    def __init__(
        self,
        shrinkage: float | str = "auto",
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.shrinkage = shrinkage
        self.class_weight = class_weight
        self.random_state = random_state

    def _model(self, y: NDArray[np.int64]) -> LinearDiscriminantAnalysis:
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[y])
        priors = weights * np.bincount(y)
        return LinearDiscriminantAnalysis("lsqr", shrinkage=self.shrinkage, priors=priors / priors.sum())


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> LDA:
    """Return the unfitted head. `n_layers` and `n_frames` are ignored: the head reads one vector per clip."""
    return LDA(random_state=random_state)


head = Head(
    "lda",
    "pooled",
    "linear discriminant analysis, shrunk covariance, temperature-scaled",
    "Ledoit & Wolf 2004; scikit-learn, LinearDiscriminantAnalysis",
    build,
    {"shrinkage": ("auto", 0.03, 0.1, 0.2, 0.4, 0.6, 0.8), "class_weight": (None, "balanced")},
)
