"""Support vector machine with an RBF kernel and calibrated probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import SVC

from ..head import Head
from ._scikit import ScoreHead


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
