"""Logistic regression on standardised vectors: the baseline that a network must beat to be worth its trouble."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..head import Head
from ._inner import training_data, unseen_data

MAX_ITER = 1000  # of L-BFGS: far more than these sizes need


class LogReg(ClassifierMixin, BaseEstimator):
    """Standardise, then multinomial logistic regression with an L2 penalty (scikit-learn, L-BFGS).

    C is small because embeddings have about as many dimensions as an emotional speech corpus has clips.
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
        """X (n, d), y (n,)."""
        X, self.classes_, indices = training_data(self, X, y)
        self.model_ = make_pipeline(
            StandardScaler(),
            LogisticRegression(
                C=self.C,
                max_iter=MAX_ITER,
                class_weight=self.class_weight,
                random_state=self.random_state,
            ),
        ).fit(X, self.classes_[indices])
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, C), columns in the order of `classes_`."""
        X = unseen_data(self, X)
        proba: NDArray[np.float64] = self.model_.predict_proba(X)
        return proba

    def predict(self, X: Any) -> NDArray[Any]:
        """(n,) labels."""
        proba = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[proba.argmax(axis=1)]
        return labels


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> LogReg:
    """The head; one pooled vector a clip has neither layers nor frames."""
    return LogReg(random_state=random_state)


head = Head("logreg", "pooled", "logistic regression, L2", "scikit-learn, LogisticRegression", build)
