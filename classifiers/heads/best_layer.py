"""Logistic regression on the layer that is best on held-out speakers of the training data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score

from ._base import HeadBase, Split, check_layers, inner_folds, training_data, unseen_data
from ._regression import STRENGTH, fit_chosen, fit_regression
from ._spec import Head
from ._strength import CHOSEN

FOLDS = 3  # number of inner folds that layers are compared on


class BestLayer(HeadBase):
    """Logistic regression on the standardised layer with the highest UAR on inner folds, or on development rows.

    X is (n, n_layers * dim), layers in order. `layer_` is the chosen layer, and `layer_uar_` (n_layers,) the UAR of
    each layer. If the training data allow no inner folds, the last layer is chosen and all UARs are NaN. Probing
    studies compare layers in the same way (Pasad et al. 2021); here the test speakers have no part in the choice.

    `C` is chosen on the chosen layer as by `logreg`; layers are compared with its usual one.
    """

    __metadata_request__fit = {"groups": True, "copy_of": True, "dev": True}  # noqa: RUF012 - read by scikit-learn

    strength = STRENGTH

    def __init__(
        self,
        n_layers: int = 1,
        C: float | str = CHOSEN,
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.n_layers = n_layers
        self.C = C
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None, copy_of: Any = None, dev: Any = None) -> BestLayer:
        """Fit on X (n, n_layers * dim) and y (n,).

        `groups` (n,) are the speakers. `copy_of` (n,) is for each augmented copy the row of its original, -1 otherwise.
        `dev` (n,) marks development rows: layers are compared on them, and all are fitted on the others.
        """
        X, self.classes_, indices = training_data(self, X, y)
        check_layers(X.shape[1], self.n_layers)
        splits: list[Split] = []
        if self.n_layers > 1:
            splits = inner_folds(indices, groups, FOLDS, self.random_state, copy_of, dev)
        self.layer_uar_ = np.array([self._uar(layer, X, indices, splits) for layer in range(self.n_layers)])
        self.layer_ = int(self.layer_uar_.argmax()) if splits else self.n_layers - 1
        layer = self._layer(X, self.layer_)
        self.model_, chosen = fit_chosen(self, layer, indices, groups, copy_of, dev)
        uar = {"uar": float(self.layer_uar_.max()), "untuned": float(self.layer_uar_[-1])} if splits else {}
        tried = self.n_layers if splits else chosen.get("tried", 0)
        self.chosen_ = {"setting": {"layer": self.layer_, **chosen["setting"]}, **uar, "tried": tried}
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities (n, C), with columns in the order of `classes_`."""
        X = unseen_data(self, X)
        proba: NDArray[np.float64] = self.model_.predict_proba(self._layer(X, self.layer_))
        return proba

    def _uar(self, layer: int, X: NDArray[Any], y: NDArray[np.int64], splits: list[Split]) -> float:
        """Return the UAR of a layer over the held-out rows of all splits together; NaN without splits."""
        if not splits:
            return float("nan")
        features = self._layer(X, layer)
        predicted = [self._fitted(features[train], y[train]).predict(features[held]) for train, held in splits]
        truth = np.concatenate([y[held] for _, held in splits])
        return float(balanced_accuracy_score(truth, np.concatenate(predicted)))

    def _layer(self, X: NDArray[Any], layer: int) -> NDArray[Any]:
        """Return the columns of one layer: with `n_layers` = 3 and 6 columns, layer 1 is columns 2 and 3."""
        dim = X.shape[1] // self.n_layers
        return X[:, layer * dim : (layer + 1) * dim]

    def _fitted(self, X: NDArray[Any], y: NDArray[Any]) -> Any:
        (usual,) = STRENGTH.candidates(self, can_choose=False)
        return fit_regression(X, y, usual, self.class_weight)


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> BestLayer:
    """Return the unfitted head over the time means of `n_layers` layers; `n_frames` is ignored."""
    return BestLayer(n_layers=n_layers, random_state=random_state)


head = Head(
    "best_layer",
    "layers",
    "logistic regression on the layer with the highest inner-fold UAR",
    "Pasad et al. 2021",
    build,
    {"C": (CHOSEN, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3), "class_weight": (None, "balanced")},
    seeded=True,
    same_with_one_layer="logreg",
)
