"""Bases of the heads that wrap a scikit-learn classifier: standardised embeddings in, probabilities out.

A subclass returns its classifier from `_model`. If that classifier has no probabilities, the subclass is a `ScoreHead`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ..data.memmap import Floats
from ._base import HeadBase, calibration_folds, rows_to_fit, training_data, unseen_data
from ._temperature import temperature

CALIBRATION_FOLDS = 3
# The folds of a temperature are the same for every seed. Other folds give other temperatures, which moved the UAR of
# `stack`, which averages the probabilities of such heads, by 0.005 over five seeds.
SEED = 0

# The optimum of a logistic regression does not depend on the order of sums, so it is the same on every processor; where
# an optimiser stops before it does. With this tolerance, probabilities on RAVDESS (`mfcc`) are within 1e-6 of the
# optimum; with L-BFGS and its default of 1e-4, they were within 2e-3.
TOLERANCE = 1e-6
MAX_ITER = 1000  # maximum number of iterations of Newton's method, which needs about 15


def fit_regression(X: Any, y: NDArray[Any], C: float, class_weight: Any = None) -> Pipeline:
    """Standardise X (n, d), then fit a multinomial logistic regression to its optimum, in float64."""
    regression = LogisticRegression(
        C=C, class_weight=class_weight, solver="newton-cg", tol=TOLERANCE, max_iter=MAX_ITER
    )
    return make_pipeline(StandardScaler(), regression).fit(np.asarray(X, dtype=np.float64), y)


class ScikitHead(HeadBase):
    """Standardise X, then fit a scikit-learn classifier that has `predict_proba`."""

    def fit(self, X: Any, y: Any) -> ScikitHead:
        """Fit on X (n, d) and y (n,)."""
        X, self.classes_, indices = training_data(self, X, y)
        self.model_ = make_pipeline(StandardScaler(), self._model(indices)).fit(X, self.classes_[indices])
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities (n, C), with columns in the order of `classes_`."""
        X = unseen_data(self, X)
        proba: NDArray[np.float64] = self.model_.predict_proba(X)
        return proba

    def _model(self, y: NDArray[np.int64]) -> Any:
        """Return the unfitted classifier for labels y (n,), given as indices of `classes_`."""
        raise NotImplementedError(
            f"{type(self).__name__} lacks _model. Define it in the subclass: it returns the classifier to fit."
        )


class ScoreHead(ScikitHead):
    """Standardise X, then fit a scikit-learn classifier that has decision values but no probabilities.

    Probabilities are the softmax of the decision values divided by one temperature (Guo et al. 2017). The temperature
    is fitted on the held-out decision values of inner folds, which are split by speaker if `groups` is given and has
    more than two speakers (see `calibration_folds`), or on development rows. If the training data allow no inner folds,
    `temperature_` is 1. A temperature never changes which label is most likely.
    """

    __metadata_request__fit = {"groups": True, "copy_of": True, "dev": True}  # noqa: RUF012 - read by scikit-learn

    def fit(self, X: Any, y: Any, groups: Any = None, copy_of: Any = None, dev: Any = None) -> ScoreHead:
        """Fit on X (n, d) and y (n,).

        `groups` (n,) are the speakers. `copy_of` (n,) is for each augmented copy the row of its original, -1 otherwise.
        `dev` (n,) marks development rows: the temperature is fitted on them, and the head on the others.
        """
        X, self.classes_, indices = training_data(self, X, y)
        rows = rows_to_fit(indices, dev, copy_of)
        self._prepare(len(indices[rows]))
        scores, truth = [], []
        for train, held in calibration_folds(indices, groups, CALIBRATION_FOLDS, SEED, copy_of, dev):
            scores.append(self._held_out_scores(X[train], indices[train], X[held]))
            truth.append(indices[held])
        self.temperature_ = temperature(np.concatenate(scores), np.concatenate(truth)) if scores else 1.0
        self.model_ = self._fit_model(X[rows], indices[rows])
        return self

    def _prepare(self, n_rows: int) -> None:
        """Choose how to fit, given the number of rows that the model is fitted on; inner folds fit in the same way."""

    def _fit_model(self, X: Floats, y: NDArray[np.int64]) -> Pipeline:
        """Return the scaler and the classifier, fitted on X (n, d) and indices y (n,)."""
        return make_pipeline(StandardScaler(), self._model(y)).fit(X, self.classes_[y])

    def _held_out_scores(self, X: Floats, y: NDArray[np.int64], held: Floats) -> NDArray[np.float64]:
        """Fit on X (n, d) and indices y (n,); return the decision values (m, C) of the held-out rows `held` (m, d)."""
        return scores_of(self._fit_model(X, y), held)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities (n, C), with columns in the order of `classes_`."""
        X = unseen_data(self, X)
        proba: NDArray[np.float64] = softmax(scores_of(self.model_, X) / self.temperature_, axis=1)
        return proba


def scores_of(model: Any, X: Any) -> NDArray[np.float64]:
    """Return decision values (n, C).

    For two classes, scikit-learn returns one value s per row, which becomes the two values -s / 2 and s / 2.
    """
    scores: NDArray[np.float64] = model.decision_function(X)
    return scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1) / 2
