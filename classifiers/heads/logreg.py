"""Logistic regression on standardised vectors: the baseline for all networks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._base import HeadBase, training_data, unseen_data
from ._regression import STRENGTH, fit_chosen
from ._scikit import coefficient_shares
from ._spec import Head
from ._strength import CHOSEN


class LogReg(HeadBase):
    """Standardise, then multinomial logistic regression with an L2 penalty (scikit-learn, Newton's method).

    The inverse penalty `C` is chosen on inner folds that keep speakers apart, or on development rows. `chosen_` has the
    value, and the number of those compared: 0 without such folds.
    """

    __metadata_request__fit = {"groups": True, "copy_of": True, "dev": True}  # noqa: RUF012 - read by scikit-learn

    strength = STRENGTH

    def __init__(
        self,
        C: float | str = CHOSEN,
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None, copy_of: Any = None, dev: Any = None) -> LogReg:
        """Fit on X (n, d) and y (n,).

        `groups` (n,) are the speakers. `copy_of` (n,) is for each augmented copy the row of its original, -1 otherwise.
        `dev` (n,) marks development rows: `C` is chosen on them, and the head is fitted on the others.
        """
        X, self.classes_, indices = training_data(self, X, y)
        self.model_, self.chosen_ = fit_chosen(self, X, indices, groups, copy_of, dev)
        return self

    @property
    def feature_shares_(self) -> NDArray[np.float64]:
        """How much each feature weighs (d,), see `coefficient_shares`."""
        return coefficient_shares(self.model_[-1].coef_)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities (n, C), with columns in the order of `classes_`."""
        X = unseen_data(self, X)
        proba: NDArray[np.float64] = self.model_.predict_proba(X)
        return proba


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> LogReg:
    """Return the unfitted head. `n_layers` and `n_frames` are ignored: the head reads one vector per clip."""
    return LogReg(random_state=random_state)


head = Head(
    "logreg",
    "pooled",
    "logistic regression with an L2 penalty",
    "scikit-learn, LogisticRegression",
    build,
    {"C": (CHOSEN, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3), "class_weight": (None, "balanced")},
)
