"""Nearest neighbours by angle: no training, and a look at how the vectors lie."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.class_weight import compute_class_weight

from ._base import unseen_data
from ._scikit import ScikitHead
from ._spec import Head


class KNN(ScikitHead):
    """Standardise, then the vote of the clips at the smallest angles (Cover & Hart 1967; scikit-learn).

    A neighbour's vote counts as much as it is near. Class weights multiply votes. With fewer than `n_neighbors` clips
    to learn from, all of them vote.
    """

    def __init__(
        self,
        n_neighbors: int = 15,
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.class_weight = class_weight
        self.random_state = random_state

    def _model(self, y: NDArray[np.int64]) -> KNeighborsClassifier:
        self.votes_ = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[y])
        near = min(self.n_neighbors, len(y))
        return KNeighborsClassifier(near, weights="distance", metric="cosine", algorithm="brute")

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, C), columns in the order of `classes_`."""
        X = unseen_data(self, X)
        scaler, neighbours = self.model_
        # In 32 bits a clip that was learned from lies 1e-7 away from itself, or not, as its company in X decides.
        votes = neighbours.predict_proba(scaler.transform(X).astype(np.float64)) * self.votes_
        proba: NDArray[np.float64] = votes / votes.sum(axis=1, keepdims=True)
        return proba


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> KNN:
    """The head; one pooled vector a clip has neither layers nor frames."""
    return KNN(random_state=random_state)


head = Head(
    "knn",
    "pooled",
    "nearest neighbours by angle",
    "Cover & Hart 1967; scikit-learn, KNeighborsClassifier",
    build,
    {"n_neighbors": (3, 5, 9, 15, 25, 40, 60), "class_weight": (None, "balanced")},
)
