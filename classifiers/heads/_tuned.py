"""A head that chooses its parameters inside its training data: `--tune`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import ParameterSampler
from sklearn.utils.validation import check_is_fitted

from ._base import Split, fit_told, inner_folds, labelled
from ._calibrated import Calibrated

FOLDS = 3  # by speaker, that settings are compared on
PLATEAU = 8  # settings without a better one after which the search ends


class Tuned(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Try settings in inner folds, by speaker where `groups` are given; fit the one with the highest UAR on all.

    The first setting is the estimator's own, then `n_settings - 1` are drawn from `space` without repetition (random
    search, Bergstra & Bengio 2012), until `PLATEAU` of them in a row were no better. `chosen_` has the parameters, the
    UAR that they and the estimator's own had in the inner folds, and the number of settings tried. Where the training
    data allow no inner folds, the estimator's own stay. With `calibrate`, what was chosen is also `Calibrated`.
    """

    __metadata_request__fit = {"groups": True, "copy_of": True}  # noqa: RUF012 - scikit-learn reads it from the class

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

    def fit(self, X: Any, y: Any, groups: Any = None, copy_of: Any = None) -> Tuned:
        """X, y, groups and copy_of as the estimator takes them."""
        X, y, self.classes_, indices = labelled(self, X, y)
        told = {"groups": groups, "copy_of": copy_of}
        splits = inner_folds(indices, groups, FOLDS, self.random_state, copy_of)
        best, scores = {}, []
        for setting in self._settings() if splits else ():
            scores.append(self._uar(setting, X, y, told, splits))
            if scores[-1] > max(scores[:-1], default=-np.inf):
                best = setting
            elif len(scores) - 1 - int(np.argmax(scores)) >= PLATEAU:
                break
        facts = {"uar": max(scores), "untuned": scores[0], "tried": len(scores)} if scores else {"tried": 0}
        chosen = clone(self.estimator).set_params(**best)
        self.model_ = fit_told(Calibrated(chosen, self.random_state) if self.calibrate else chosen, X, y, told)
        own = getattr(self.model_, "chosen_", {})
        self.chosen_ = {**own, "setting": {**own.get("setting", {}), **best}, **facts}
        for name in ("history_", "layer_weights_"):
            if hasattr(self.model_, name):
                setattr(self, name, getattr(self.model_, name))
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, C), columns in the order of `classes_`."""
        check_is_fitted(self)
        proba: NDArray[np.float64] = self.model_.predict_proba(X)
        return proba

    def predict(self, X: Any) -> NDArray[Any]:
        """(n,) labels."""
        check_is_fitted(self)
        labels: NDArray[Any] = self.model_.predict(X)
        return labels

    def _settings(self) -> Iterator[dict[str, Any]]:
        """The estimator's own, then others."""
        own = {name: self.estimator.get_params()[name] for name in self.space}
        yield {}
        size = int(np.prod([len(values) for values in self.space.values()]))
        drawn = ParameterSampler(dict(self.space), min(size, self.n_settings), random_state=self.random_state)
        others = [setting for setting in drawn if setting != own]
        yield from others[: self.n_settings - 1]

    def _uar(self, setting: dict[str, Any], X: Any, y: Any, told: dict[str, Any], splits: list[Split]) -> float:
        """Over what is held out in all splits together."""
        said = []
        for train, held in splits:
            fitted = fit_told(clone(self.estimator).set_params(**setting), X[train], y[train], told, train)
            said.append(fitted.predict(X[held]))
        truth = np.concatenate([y[held] for _, held in splits])
        return float(balanced_accuracy_score(truth, np.concatenate(said)))
