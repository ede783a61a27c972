"""Base of the heads that wrap a scikit-learn classifier without probabilities: `svm`, `lda` and `ridge`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.pipeline import Pipeline

from ..data.memmap import Floats
from ._base import HeadBase, Split, calibration_folds, rows_to_fit, training_data, unseen_data
from ._strength import Strength, best_strength, can_choose, held_out
from ._temperature import temperature

CALIBRATION_FOLDS = 3
# The folds of a temperature are the same for every seed. Other folds give other temperatures, which moved the UAR of
# `stack`, which averages the probabilities of such heads, by 0.005 over five seeds.
SEED = 0


class ScoreHead(HeadBase):
    """Standardise X, then fit a classifier that has decision values but no probabilities.

    The parameter that `strength` names is chosen on inner folds if it is "chosen", see `_strength`. `chosen_` has the
    value, and the number of those compared: 0 if the inner folds do not keep speakers apart.

    Probabilities are the softmax of the decision values divided by one temperature (Guo et al. 2017). The temperature
    is fitted on the held-out decision values of inner folds, which are split by speaker if `groups` is given and has
    more than two speakers (see `calibration_folds`), or on development rows. If the training data allow no inner folds,
    `temperature_` is 1. A temperature never changes which label is most likely.
    """

    __metadata_request__fit = {"groups": True, "copy_of": True, "dev": True}  # noqa: RUF012 - read by scikit-learn

    strength: ClassVar[Strength]

    def fit(self, X: Any, y: Any, groups: Any = None, copy_of: Any = None, dev: Any = None) -> ScoreHead:
        """Fit on X (n, d) and y (n,).

        `groups` (n,) are the speakers. `copy_of` (n,) is for each augmented copy the row of its original, -1 otherwise.
        `dev` (n,) marks development rows: strength and temperature are chosen on them, and the head is fitted on the
        others.
        """
        X, self.classes_, indices = training_data(self, X, y)
        rows = rows_to_fit(indices, dev, copy_of)
        self._prepare(len(indices[rows]))
        folds = calibration_folds(indices, groups, CALIBRATION_FOLDS, SEED, copy_of, dev)
        candidates = self.strength.candidates(self, can_choose(folds, groups, dev))
        value, self.temperature_ = self._choose(X, indices, folds, candidates) if folds else (candidates[0], 1.0)
        self.chosen_ = self.strength.record(self, candidates, value)
        self.model_ = self._fit_model(X[rows], indices[rows], value)
        return self

    def _prepare(self, n_rows: int) -> None:
        """Choose how to fit, given the number of rows that the model is fitted on; inner folds fit in the same way."""

    def _choose(
        self, X: Floats, y: NDArray[np.int64], folds: Sequence[Split], candidates: Sequence[Any]
    ) -> tuple[Any, float]:
        """Return the best of the strengths, and its temperature, on the held-out rows of folds of X (n, d)."""
        scores, truth = held_out(self._held_out_scores, X, y, folds, candidates)
        best = best_strength(scores, truth) if len(candidates) > 1 else 0
        return candidates[best], temperature(scores[best], truth)

    def _fit_model(self, X: Floats, y: NDArray[np.int64], strength: Any) -> Pipeline:
        """Return the scaler and the classifier, fitted on X (n, d) and indices y (n,)."""
        raise NotImplementedError(
            f"{type(self).__name__} lacks _fit_model. Define it in the subclass: it returns the fitted pipeline."
        )

    def _held_out_scores(
        self, X: Floats, y: NDArray[np.int64], held: Floats, strengths: Sequence[Any]
    ) -> NDArray[np.float64]:
        """Return the decision values (strengths, m, C) of `held` (m, d), if fitted on X (n, d) and indices y (n,)."""
        return np.stack([scores_of(self._fit_model(X, y, strength), held) for strength in strengths])

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities (n, C), with columns in the order of `classes_`."""
        X = unseen_data(self, X)
        proba: NDArray[np.float64] = softmax(scores_of(self.model_, X) / self.temperature_, axis=1)
        return proba


def coefficient_shares(coef: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of each standardised feature (d,) in the squares of coefficients (C, d), (1, d) for two labels.

    Constants that are the same for all labels do not count, since they change no probability. If features did not
    depend on each other, it would be their share in the variance of the decision values.
    """
    rows = np.atleast_2d(coef)
    squares: NDArray[np.float64] = np.square(rows - rows.mean(axis=0) if len(rows) > 1 else rows).sum(axis=0)
    return np.asarray(squares / (squares.sum() or 1.0))


def scores_of(model: Any, X: Any) -> NDArray[np.float64]:
    """Return decision values (n, C).

    For two classes, scikit-learn returns one value s per row, which becomes the two values -s / 2 and s / 2.
    """
    scores: NDArray[np.float64] = model.decision_function(X)
    return scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1) / 2
