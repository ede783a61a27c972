"""A head whose probabilities are scaled by one temperature: `--calibrate`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils.validation import check_is_fitted

from ._base import fit_told, inner_folds, labelled
from ._temperature import temperature

FOLDS = 3  # by speaker, that the temperature is fitted on
LEAST = 1e-12  # probability whose logarithm is taken


class Calibrated(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Fit the estimator on all training data; divide the logarithms of its probabilities by a temperature.

    The temperature is the one with the least log-loss on speakers that are held out in inner folds (Guo et al. 2017).
    It changes no label, only how certain it is. Where the training data allow no inner folds, `temperature_` is 1, and
    None in `chosen_`, which else has what the estimator chose, too.
    """

    __metadata_request__fit = {"groups": True, "copy_of": True}  # noqa: RUF012 - scikit-learn reads it from the class

    def __init__(self, estimator: Any, random_state: int | None = None) -> None:
        self.estimator = estimator
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None, copy_of: Any = None) -> Calibrated:
        """X, y, groups and copy_of as the estimator takes them."""
        X, y, self.classes_, indices = labelled(self, X, y)
        told = {"groups": groups, "copy_of": copy_of}
        logs, truth = [], []
        for train, held in inner_folds(indices, groups, FOLDS, self.random_state, copy_of):
            fitted = fit_told(clone(self.estimator), X[train], y[train], told, train)
            logs.append(_logs(fitted, X[held]))
            truth.append(indices[held])
        self.temperature_ = temperature(np.concatenate(logs), np.concatenate(truth)) if logs else 1.0
        self.model_ = fit_told(clone(self.estimator), X, y, told)
        own = getattr(self.model_, "chosen_", {"setting": {}})
        self.chosen_ = {**own, "temperature": self.temperature_ if logs else None}
        for learned in ("history_", "layer_weights_"):
            if hasattr(self.model_, learned):
                setattr(self, learned, getattr(self.model_, learned))
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, C), columns in the order of `classes_`."""
        check_is_fitted(self)
        proba: NDArray[np.float64] = softmax(_logs(self.model_, X) / self.temperature_, axis=1)
        return proba

    def predict(self, X: Any) -> NDArray[Any]:
        """(n,) labels."""
        check_is_fitted(self)
        labels: NDArray[Any] = self.model_.predict(X)
        return labels


def _logs(fitted: Any, X: Any) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = np.log(np.maximum(fitted.predict_proba(X), LEAST))
    return logs
