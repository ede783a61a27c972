"""Ridge regression with one target per label: a linear classifier with a closed-form solution."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifier

from ._scikit import ScoreHead
from ._spec import Head


class Ridge(ScoreHead):
    """Standardise, then linear regression on targets +1 and -1 with an L2 penalty (scikit-learn).

    Probabilities are computed from the decision values with a temperature.
    """

    def __init__(
        self,
        alpha: float = 3000.0,
        class_weight: Any = "balanced",
        random_state: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.class_weight = class_weight
        self.random_state = random_state

    def _model(self, y: NDArray[np.int64]) -> RidgeClassifier:
        return RidgeClassifier(self.alpha, class_weight=self.class_weight)


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> Ridge:
    """Return the unfitted head. `n_layers` and `n_frames` are ignored: the head reads one vector per clip."""
    return Ridge(random_state=random_state)


head = Head(
    "ridge",
    "pooled",
    "ridge classifier, balanced class weights, temperature-scaled",
    "Hoerl & Kennard 1970; scikit-learn, RidgeClassifier",
    build,
    {"alpha": (30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0), "class_weight": (None, "balanced")},
)
