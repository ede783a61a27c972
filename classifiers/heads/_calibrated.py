"""A wrapper that calibrates the probabilities of a head with one temperature: `--calibrate`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils.validation import check_is_fitted

from ._base import calibration_folds, fit_with_context, has_dev, wrapper_data
from ._temperature import temperature

FOLDS = 3  # number of inner folds that the temperature is fitted on
MIN_PROBABILITY = 1e-12  # smaller probabilities are raised to this value before taking the logarithm


class Calibrated(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Fit the estimator on all training data, and divide the logarithms of its probabilities by a temperature.

    The temperature is the one with the lowest log-loss on held-out speakers of inner folds (Guo et al. 2017), on
    held-out clips if there are only two speakers (see `calibration_folds`), or on development rows. It does not change
    the predicted label, only the confidence. If the training data allow no inner folds, `temperature_` is 1.

    `chosen_` has the parameters that the estimator chose itself, and the temperature: None without inner folds.
    """

    __metadata_request__fit = {"groups": True, "copy_of": True, "dev": True}  # noqa: RUF012 - read by scikit-learn

    def __init__(self, estimator: Any, random_state: int | None = None) -> None:
        self.estimator = estimator
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None, copy_of: Any = None, dev: Any = None) -> Calibrated:
        """Fit on X (n, d) and y (n,).

        `groups` (n,) are the speakers. `copy_of` (n,) is for each augmented copy the row of its original, -1 otherwise.
        `dev` (n,) marks development rows: the temperature is fitted on them, and the estimator on the others.
        """
        X, y, self.classes_, indices = wrapper_data(self, X, y)
        context = {"groups": groups, "copy_of": copy_of, "dev": dev}
        self.model_ = fit_with_context(clone(self.estimator), X, y, context)
        logs, truth = [], []
        for train, held in calibration_folds(indices, groups, FOLDS, self.random_state, copy_of, dev):
            fitted = self.model_  # with development rows, the model itself has not been trained on those held out
            if not has_dev(dev):
                fitted = fit_with_context(clone(self.estimator), X[train], y[train], context, train)
            logs.append(_log_probabilities(fitted, X[held]))
            truth.append(indices[held])
        self.temperature_ = temperature(np.concatenate(logs), np.concatenate(truth)) if logs else 1.0
        chosen = getattr(self.model_, "chosen_", {"setting": {}})
        self.chosen_ = {**chosen, "temperature": self.temperature_ if logs else None}
        for name in ("history_", "layer_weights_"):
            if hasattr(self.model_, name):
                setattr(self, name, getattr(self.model_, name))
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities (n, C), with columns in the order of `classes_`."""
        check_is_fitted(self)
        proba: NDArray[np.float64] = softmax(_log_probabilities(self.model_, X) / self.temperature_, axis=1)
        return proba

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the predicted labels (n,)."""
        check_is_fitted(self)
        labels: NDArray[Any] = self.model_.predict(X)
        return labels


def _log_probabilities(fitted: Any, X: Any) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = np.log(np.maximum(fitted.predict_proba(X), MIN_PROBABILITY))
    return logs
