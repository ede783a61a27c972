"""Gradient-boosted trees. They split on one dimension at a time, which embeddings reward less than other tables do."""

from __future__ import annotations

from typing import Any

import numpy as np
from lightgbm import LGBMClassifier
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from ..head import Head
from ._inner import training_data, unseen_data


class LGBM(ClassifierMixin, BaseEstimator):
    """LightGBM (Ke et al. 2017) with a tenth of the dimensions a tree and 63 bins.

    On 1152 x 768 in 8 classes that is ten times as fast as LightGBM's defaults, and more accurate: neighbouring
    dimensions of an embedding say much the same. One thread and fixed sums make it repeatable.
    """

    def __init__(
        self,
        n_estimators: int = 100,
        learning_rate: float = 0.1,
        num_leaves: int = 31,
        colsample_bytree: float = 0.1,
        max_bin: int = 63,
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.colsample_bytree = colsample_bytree
        self.max_bin = max_bin
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> LGBM:
        """X (n, d), y (n,)."""
        X, self.classes_, indices = training_data(self, X, y)
        model = LGBMClassifier(**self.get_params(), n_jobs=1, deterministic=True, force_col_wise=True, verbosity=-1)
        self.model_ = model.fit(X, self.classes_[indices])
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, C), columns in the order of `classes_`."""
        X = unseen_data(self, X)
        proba: NDArray[np.float64] = self.model_.predict_proba(X, validate_features=False)
        return proba

    def predict(self, X: Any) -> NDArray[Any]:
        """(n,) labels."""
        proba = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[proba.argmax(axis=1)]
        return labels


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> LGBM:
    """The head; one pooled vector a clip has neither layers nor frames."""
    return LGBM(random_state=random_state)


head = Head("lgbm", "pooled", "gradient-boosted trees", "Ke et al. 2017, LightGBM", build)
