"""Support vector machine with an RBF kernel and calibrated probabilities."""

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
    """Standardise, then SVC with an RBF kernel (scikit-learn, libsvm); probabilities by a temperature."""

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

    def _outside(self, X: Floats, y: NDArray[np.int64], unseen: Floats) -> NDArray[np.float64]:
        """The same numbers from a kernel that matrix products make: libsvm sums up every pair by itself."""
        scaler = StandardScaler().fit(X)
        seen, new = (scaler.transform(rows).astype(np.float64) for rows in (X, unseen))
        named: dict[Any, float] = {"scale": 1 / (seen.shape[1] * (seen.var() or 1.0)), "auto": 1 / seen.shape[1]}
        gamma: Any = named.get(self.gamma, self.gamma)
        model = SVC(C=self.C, kernel="precomputed", class_weight=self.class_weight)
        model.fit(rbf_kernel(seen, gamma=gamma), self.classes_[y])
        return scores_of(model, rbf_kernel(new, seen, gamma=gamma))


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> SVM:
    """The head; one pooled vector a clip has neither layers nor frames."""
    return SVM(random_state=random_state)


head = Head(
    "svm",
    "pooled",
    "support vector machine, RBF kernel, temperature-scaled",
    "scikit-learn, SVC",
    build,
    {"C": (0.3, 1.0, 3.0, 10.0, 30.0), "gamma": ("scale", 1e-4, 3e-4, 1e-3, 3e-3), "class_weight": (None, "balanced")},
)
