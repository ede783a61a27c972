"""Ridge regression with one target per label: a linear classifier with a closed-form solution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from ..data.memmap import Floats
from ._scikit import ScoreHead, coefficient_shares
from ._solutions import penalised_solutions
from ._spec import Head
from ._strength import CHOSEN, Strength

ALPHAS = (30_000.0, 10_000.0, 3000.0, 1000.0, 300.0, 100.0, 30.0)
USUAL = 1000.0  # the one that inner folds of RAVDESS and EMO-DB choose most often


class Ridge(ScoreHead):
    """Standardise, then linear regression on targets +1 and -1 with an L2 penalty (scikit-learn).

    The penalty `alpha` is chosen on inner folds.
    Probabilities are computed from the decision values with a temperature.
    """

    strength = Strength("alpha", ALPHAS, USUAL)

    def __init__(
        self,
        alpha: float | str = CHOSEN,
        class_weight: Any = "balanced",
        random_state: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.class_weight = class_weight
        self.random_state = random_state

    @property
    def feature_shares_(self) -> NDArray[np.float64]:
        """How much each feature weighs (d,), see `coefficient_shares`."""
        return coefficient_shares(self.model_[-1].coef_)

    def _fit_model(self, X: Floats, y: NDArray[np.int64], strength: Any) -> Pipeline:
        ridge = RidgeClassifier(strength, class_weight=self.class_weight)
        return make_pipeline(StandardScaler(), ridge).fit(X, self.classes_[y])

    def _held_out_scores(
        self, X: Floats, y: NDArray[np.int64], held: Floats, strengths: Sequence[Any]
    ) -> NDArray[np.float64]:
        """Return the scores of the base class, from one product of the rows."""
        scaler = StandardScaler().fit(X)
        rows, others = (scaler.transform(part).astype(np.float64) for part in (X, held))
        weights = compute_sample_weight(self.class_weight, self.classes_[y])
        targets = np.where(np.arange(len(self.classes_)) == y[:, None], 1.0, -1.0)
        centre, intercept = (np.average(part, axis=0, weights=weights) for part in (rows, targets))
        root = np.sqrt(weights)[:, None]
        weighted = root * (rows - centre)
        solutions = penalised_solutions(weighted, weighted.T @ (root * (targets - intercept)), strengths)
        scores = np.stack([(others - centre) @ coef + intercept for coef in solutions])
        return scores if len(self.classes_) > 2 else scores / 2  # as `scores_of` has the one value of scikit-learn


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> Ridge:
    """Return the unfitted head. `n_layers` and `n_frames` are ignored: the head reads one vector per clip."""
    return Ridge(random_state=random_state)


head = Head(
    "ridge",
    "pooled",
    "ridge classifier, balanced class weights, temperature-scaled",
    "Hoerl & Kennard 1970; scikit-learn, RidgeClassifier",
    build,
    {"alpha": (CHOSEN, *ALPHAS), "class_weight": (None, "balanced")},
)
