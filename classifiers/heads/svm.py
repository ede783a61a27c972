"""Support vector machine with an RBF kernel and calibrated probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ..head import Head
from ._inner import inner_folds, training_data, unseen_data

CALIBRATION_FOLDS = 3


class SVM(ClassifierMixin, BaseEstimator):
    """Standardise, then SVC with an RBF kernel (scikit-learn, libsvm).

    Probabilities are the softmax of the decision values over one temperature (Guo et al. 2017), fitted on decision
    values from inner folds, by speaker where `groups` are given. Where the training data allow no inner folds,
    `temperature_` is 1. A temperature never changes which label is likeliest.
    """

    __metadata_request__fit = {"groups": True, "copy_of": True}  # noqa: RUF012 - scikit-learn reads it from the class

    def __init__(
        self,
        C: float = 3.0,
        gamma: str | float = "scale",
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.C = C
        self.gamma = gamma
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None, copy_of: Any = None) -> SVM:
        """X (n, d), y (n,), groups (n,): the speakers, copy_of (n,): the row that a row is a copy of, or -1."""
        X, self.classes_, indices = training_data(self, X, y)
        labels = self.classes_[indices]
        svc = make_pipeline(StandardScaler(), SVC(C=self.C, gamma=self.gamma, class_weight=self.class_weight))
        scores, truth = [], []
        for train, held in inner_folds(indices, groups, CALIBRATION_FOLDS, self.random_state, copy_of):
            scores.append(_scores(clone(svc).fit(X[train], labels[train]), X[held]))
            truth.append(indices[held])
        self.temperature_ = _temperature(np.concatenate(scores), np.concatenate(truth)) if scores else 1.0
        self.model_ = svc.fit(X, labels)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, C), columns in the order of `classes_`."""
        X = unseen_data(self, X)
        proba: NDArray[np.float64] = softmax(_scores(self.model_, X) / self.temperature_, axis=1)
        return proba

    def predict(self, X: Any) -> NDArray[Any]:
        """(n,) labels."""
        proba = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[proba.argmax(axis=1)]
        return labels


def _scores(svc: Any, X: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, C) decision values; two classes share one value between them."""
    scores: NDArray[np.float64] = svc.decision_function(X)
    return scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1) / 2


def _temperature(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """The temperature, between 1/100 and 100, at which the softmax of the scores has the least log-loss."""

    def loss(log_t: float) -> float:
        return -float(log_softmax(scores / np.exp(log_t), axis=1)[np.arange(len(truth)), truth].mean())

    bound = np.log(100)
    return float(np.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x))


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> SVM:
    """The head; one pooled vector a clip has neither layers nor frames."""
    return SVM(random_state=random_state)


head = Head("svm", "pooled", "support vector machine, RBF kernel, temperature-scaled", "scikit-learn, SVC", build)
