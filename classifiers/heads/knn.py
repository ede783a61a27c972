"""k-nearest neighbours by cosine distance: no training, so it shows how well the embeddings themselves group labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from ._base import HeadBase, training_data, unseen_data
from ._spec import Head

MAX_CLIPS = 150_000  # the time grows with training clips times test clips: minutes for a fold of so many
MEMORY = 512  # MB of distances that are in memory at a time


class KNN(HeadBase):
    """Standardise, then vote among the `n_neighbors` clips at the smallest cosine distance (Cover & Hart 1967).

    Votes are weighted by the inverse of the distance and multiplied by the class weights. If there are fewer training
    clips than `n_neighbors`, all of them vote.
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

    def fit(self, X: Any, y: Any) -> KNN:
        """Fit on X (n, d) and y (n,)."""
        X, self.classes_, indices = training_data(self, X, y)
        labels = self.classes_[indices]
        self.votes_ = compute_class_weight(self.class_weight, classes=self.classes_, y=labels)
        n_neighbors = min(self.n_neighbors, len(labels))
        neighbours = KNeighborsClassifier(n_neighbors, weights="distance", metric="cosine", algorithm="brute")
        self.model_ = make_pipeline(StandardScaler(), neighbours).fit(X, labels)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities (n, C), with columns in the order of `classes_`."""
        X = unseen_data(self, X)
        scaler, neighbours = self.model_
        # In float32 the distance of a training clip to itself is 0 or 1e-7, depending on the other clips in X; float64
        # makes the prediction independent of them.
        with config_context(working_memory=MEMORY):
            votes = neighbours.predict_proba(scaler.transform(X).astype(np.float64)) * self.votes_
        proba: NDArray[np.float64] = votes / votes.sum(axis=1, keepdims=True)
        return proba


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> KNN:
    """Return the unfitted head. `n_layers` and `n_frames` are ignored: the head reads one vector per clip."""
    return KNN(random_state=random_state)


head = Head(
    "knn",
    "pooled",
    "k-nearest neighbours by cosine distance",
    "Cover & Hart 1967; scikit-learn, KNeighborsClassifier",
    build,
    {"n_neighbors": (3, 5, 9, 15, 25, 40, 60), "class_weight": (None, "balanced")},
    max_clips=MAX_CLIPS,
)
