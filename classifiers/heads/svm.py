"""A support vector machine with an RBF kernel and calibrated probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ..data.memmap import Floats
from ._scikit import ScoreHead, scores_of
from ._spec import Head


class SVM(ScoreHead):
    """Standardise, then SVC with an RBF kernel (scikit-learn, libsvm).

    Probabilities are computed from the decision values with a temperature.
    """

    def __init__(
        self,
        C: float = 3.0,
        gamma: str | float = "scale",
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.C = C
        self.gamma = gamma
        self.class_weight = class_weight
        self.random_state = random_state

    def _model(self, y: NDArray[np.int64]) -> SVC:
        return SVC(C=self.C, gamma=self.gamma, class_weight=self.class_weight)

    def _held_out_scores(self, X: Floats, y: NDArray[np.int64], held: Floats) -> NDArray[np.float64]:
        """Return the same scores as the base class, with a kernel matrix that is computed in advance.

        Matrix products are faster than libsvm, which computes the kernel of each pair of rows separately.
        """
        scaler = StandardScaler().fit(X)
        train, test = (scaler.transform(rows).astype(np.float64) for rows in (X, held))
        named_gammas: dict[Any, float] = {
            "scale": 1 / (train.shape[1] * (train.var() or 1.0)),
            "auto": 1 / train.shape[1],
        }
        gamma: Any = named_gammas.get(self.gamma, self.gamma)
        model = SVC(C=self.C, kernel="precomputed", class_weight=self.class_weight)
        model.fit(rbf_kernel(train, gamma=gamma), self.classes_[y])
        return scores_of(model, rbf_kernel(test, train, gamma=gamma))


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> SVM:
    """Return the unfitted head. `n_layers` and `n_frames` are ignored: the head reads one vector per clip."""
    return SVM(random_state=random_state)


head = Head(
    "svm",
    "pooled",
    "support vector machine with an RBF kernel, temperature-scaled",
    "scikit-learn, SVC",
    build,
    {"C": (0.3, 1.0, 3.0, 10.0, 30.0), "gamma": ("scale", 1e-4, 3e-4, 1e-3, 3e-3), "class_weight": (None, "balanced")},
)
