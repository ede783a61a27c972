"""A wrapper that chooses the parameters of a head within the training data: `--tune`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import ParameterSampler
from sklearn.utils.validation import check_is_fitted

from ._base import Split, fit_with_context, inner_folds, wrapper_data, wrapper_folds
from ._calibrated import Calibrated

FOLDS = 3  # number of inner folds that settings are compared on
PLATEAU = 8  # the search ends after this number of settings in a row without a higher UAR

Setting = dict[str, Any]  # parameter values by name


class Tuned(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Compare settings of an estimator on inner folds, and fit the setting with the highest UAR on all training data.

    The first setting is the estimator's own. Then up to `n_settings - 1` settings are drawn from `space` without
    repetition (random search, Bergstra & Bengio 2012). The search ends early after `PLATEAU` settings in a row without
    an improvement. Inner folds are split by speaker if `groups` is given; if the training data allow no inner folds,
    the estimator keeps its own setting. With development rows, settings are fitted on the training rows and compared on
    the development rows. With `calibrate`, the chosen setting is wrapped in `Calibrated`.

    `chosen_` has the chosen parameters, their UAR and that of the estimator's own setting on the inner folds, and the
    number of settings tried.
    """

    __metadata_request__fit = {"groups": True, "copy_of": True, "dev": True}  # noqa: RUF012 - read by scikit-learn

    def __init__(
        self,
        estimator: Any,
        space: Mapping[str, Sequence[Any]],
        n_settings: int = 20,
        calibrate: bool = False,
        random_state: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.space = space
        self.n_settings = n_settings
        self.calibrate = calibrate
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None, copy_of: Any = None, dev: Any = None) -> Tuned:
        """Fit on X (n, d) and y (n,).

        `groups` (n,) are the speakers. `copy_of` (n,) is for each augmented copy the row of its original, -1 otherwise.
        `dev` (n,) marks development rows: settings are compared on them, and the estimator may stop early by them.
        """
        X, y, self.classes_, indices = wrapper_data(self, X, y)
        context = {"groups": groups, "copy_of": copy_of, "dev": dev}
        splits = wrapper_folds(inner_folds(indices, groups, FOLDS, self.random_state, copy_of, dev), dev)
        best, scores = self._search(X, y, context, splits)
        facts = {"uar": max(scores), "untuned": scores[0], "tried": len(scores)} if scores else {"tried": 0}
        model = clone(self.estimator).set_params(**best)
        self.model_ = fit_with_context(Calibrated(model, self.random_state) if self.calibrate else model, X, y, context)
        chosen = getattr(self.model_, "chosen_", {})
        self.chosen_ = {**chosen, "setting": {**best, **chosen.get("setting", {})}, **facts}
        for name in ("history_", "layer_weights_"):
            if hasattr(self.model_, name):
                setattr(self, name, getattr(self.model_, name))
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities (n, C), with columns in the order of `classes_`."""
        check_is_fitted(self)
        proba: NDArray[np.float64] = self.model_.predict_proba(X)
        return proba

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the predicted labels (n,)."""
        check_is_fitted(self)
        labels: NDArray[Any] = self.model_.predict(X)
        return labels

    def _search(self, X: Any, y: Any, context: Mapping[str, Any], splits: list[Split]) -> tuple[Setting, list[float]]:
        """Return the best setting and the UAR of every setting tried; an empty setting and list without splits."""
        best: Setting = {}
        scores: list[float] = []
        for setting in self._settings() if splits else ():
            scores.append(self._inner_uar(setting, X, y, context, splits))
            if scores[-1] > max(scores[:-1], default=-np.inf):
                best = setting
            elif len(scores) - 1 - int(np.argmax(scores)) >= PLATEAU:
                break
        return best, scores

    def _settings(self) -> Iterator[Setting]:
        """Iterate over the settings to try: the estimator's own, as an empty setting, then others from `space`."""
        own = {name: self.estimator.get_params()[name] for name in self.space}
        yield {}
        size = int(np.prod([len(values) for values in self.space.values()]))
        drawn = ParameterSampler(dict(self.space), min(size, self.n_settings), random_state=self.random_state)
        others = [setting for setting in drawn if setting != own]
        yield from others[: self.n_settings - 1]

    def _inner_uar(self, setting: Setting, X: Any, y: Any, context: Mapping[str, Any], splits: list[Split]) -> float:
        """Return the UAR of a setting over the held-out rows of all splits together."""
        predicted = []
        for train, held in splits:
            estimator = clone(self.estimator).set_params(**setting)
            fitted = fit_with_context(estimator, X[train], y[train], context, train)
            predicted.append(fitted.predict(X[held]))
        truth = np.concatenate([y[held] for _, held in splits])
        return float(balanced_accuracy_score(truth, np.concatenate(predicted)))
