"""Linear discriminant analysis with a shrunk covariance: one matrix inversion, nothing to tune."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.utils.class_weight import compute_class_weight

from ._scikit import ScoreHead
from ._spec import Head


class LDA(ScoreHead):
    """Standardise, then LDA (Fisher 1936; scikit-learn) with the covariance shrunk as Ledoit & Wolf (2004) say.

    `shrinkage` in [0, 1] sets it by hand. Class weights are weights of the prior: `balanced` makes all equal.
    LDA's own probabilities are far too certain in many dimensions: a temperature mends them.
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
    """The head; one pooled vector a clip has neither layers nor frames."""
    return LDA(random_state=random_state)


head = Head(
    "lda",
    "pooled",
    "linear discriminants, shrunk covariance, temperature-scaled",
    "Ledoit & Wolf 2004; scikit-learn, LinearDiscriminantAnalysis",
    build,
    {"shrinkage": ("auto", 0.03, 0.1, 0.2, 0.4, 0.6, 0.8), "class_weight": (None, "balanced")},
)
