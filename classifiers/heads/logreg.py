"""Logistic regression on standardised vectors: the baseline for all networks."""

from __future__ import annotations

from typing import Any

from ._base import training_data
from ._scikit import ScikitHead, fit_regression
from ._spec import Head


class LogReg(ScikitHead):
    """Standardise, then multinomial logistic regression with an L2 penalty (scikit-learn, Newton's method).

    The default C is small, a strong penalty, because embeddings have about as many dimensions as an emotional speech
    corpus has clips.
    """

    def __init__(
        self,
        C: float = 0.01,
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> LogReg:
        """Fit on X (n, d) and y (n,)."""
        X, self.classes_, indices = training_data(self, X, y)
        self.model_ = fit_regression(X, self.classes_[indices], self.C, self.class_weight)
        return self


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> LogReg:
    """Return the unfitted head. `n_layers` and `n_frames` are ignored: the head reads one vector per clip."""
    return LogReg(random_state=random_state)


head = Head(
    "logreg",
    "pooled",
    "logistic regression with an L2 penalty",
    "scikit-learn, LogisticRegression",
    build,
    {"C": (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3), "class_weight": (None, "balanced")},
)
