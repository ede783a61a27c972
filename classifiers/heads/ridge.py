"""Ridge regression onto one target a label: a linear classifier in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifier

from ._scikit import ScoreHead
from ._spec import Head


class Ridge(ScoreHead):
    """Standardise, then regress on +1 and -1 with an L2 penalty (scikit-learn); probabilities by a temperature."""

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
    """The head; one pooled vector a clip has neither layers nor frames."""
    return Ridge(random_state=random_state)


head = Head(
    "ridge",
    "pooled",
    "ridge regression onto labels, class weights, temperature-scaled",
    "Hoerl & Kennard 1970; scikit-learn, RidgeClassifier",
    build,
    {"alpha": (30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0), "class_weight": (None, "balanced")},
)
