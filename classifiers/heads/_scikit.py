"""What the heads around a scikit-learn classifier share: standardised vectors in, probabilities out.

A subclass says in `_model` which classifier it is. Where that one has no probabilities, the subclass is a `ScoreHead`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..data.memmap import Floats
from ._base import HeadBase, inner_folds, training_data, unseen_data
from ._temperature import temperature

CALIBRATION_FOLDS = 3


class ScikitHead(HeadBase):
    """Standardise, then a scikit-learn classifier that has `predict_proba`."""

    def fit(self, X: Any, y: Any) -> ScikitHead:
        """X (n, d), y (n,)."""
        X, self.classes_, indices = training_data(self, X, y)
        self.model_ = make_pipeline(StandardScaler(), self._model(indices)).fit(X, self.classes_[indices])
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, C), columns in the order of `classes_`."""
        X = unseen_data(self, X)
        proba: NDArray[np.float64] = self.model_.predict_proba(X)
        return proba

    def _model(self, y: NDArray[np.int64]) -> Any:
        """The unfitted classifier for labels y (n,), as indices of `classes_`."""
        raise NotImplementedError(f"{type(self).__name__} lacks _model: the classifier that it fits.")


class ScoreHead(ScikitHead):
    """The same around a classifier that has decision values alone.

    Probabilities are their softmax over one temperature (Guo et al. 2017), fitted on decision values from inner folds,
    by speaker where `groups` are given. Where the training data allow no inner folds, `temperature_` is 1. A
    temperature never changes which label is likeliest.
    """

    __metadata_request__fit = {"groups": True, "copy_of": True}  # noqa: RUF012 - scikit-learn reads it from the class
    random_state: Any

    def fit(self, X: Any, y: Any, groups: Any = None, copy_of: Any = None) -> ScoreHead:
        """X (n, d), y (n,), groups (n,): the speakers, copy_of (n,): the row that a row is a copy of, or -1."""
        X, self.classes_, indices = training_data(self, X, y)
        labels = self.classes_[indices]
        scores, truth = [], []
        for train, held in inner_folds(indices, groups, CALIBRATION_FOLDS, self.random_state, copy_of):
            scores.append(self._outside(X[train], indices[train], X[held]))
            truth.append(indices[held])
        self.temperature_ = temperature(np.concatenate(scores), np.concatenate(truth)) if scores else 1.0
        self.model_ = make_pipeline(StandardScaler(), self._model(indices)).fit(X, labels)
        return self

    def _outside(self, X: Floats, y: NDArray[np.int64], unseen: Floats) -> NDArray[np.float64]:
        """(m, C) decision values of rows (m, d) that the classifier, fitted on X and indices y, has not seen."""
        model = make_pipeline(StandardScaler(), self._model(y)).fit(X, self.classes_[y])
        return scores_of(model, unseen)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, C), columns in the order of `classes_`."""
        X = unseen_data(self, X)
        proba: NDArray[np.float64] = softmax(scores_of(self.model_, X) / self.temperature_, axis=1)
        return proba


def scores_of(model: Any, X: Any) -> NDArray[np.float64]:
    """(n, C) decision values; two classes share one value between them."""
    scores: NDArray[np.float64] = model.decision_function(X)
    return scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1) / 2
