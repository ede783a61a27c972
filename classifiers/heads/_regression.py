"""Multinomial logistic regression, and the choice of its penalty inside the training data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ..data.memmap import Floats
from ._base import Split, calibration_folds, rows_to_fit
from ._scikit import CALIBRATION_FOLDS, SEED, scores_of
from ._strength import Strength, best_strength, can_choose, held_out, thinned

CS = (0.003, 0.01, 0.03, 0.1)  # inverse penalties that are compared; embeddings have about as many dimensions as clips
USUAL = 0.01
STRENGTH = Strength("C", CS, USUAL)

# The optimum of a logistic regression does not depend on the order of sums, so it is the same on every processor; where
# an optimiser stops before it does. With this tolerance, probabilities on RAVDESS (`mfcc`) are within 1e-6 of the
# optimum; with L-BFGS and its default of 1e-4, they were within 2e-3.
TOLERANCE = 1e-6
MAX_ITER = 1000  # maximum number of iterations of Newton's method, which needs about 15

# Penalties are compared before the optimum is reached: their losses then differ from those of the optimum by less than
# 0.005, at a quarter of the time.
ROUGH_TOLERANCE = 1e-2
JITTER = 1e-10  # of the mean square of a row, so that rows that depend on each other have a triangular factor


def fit_regression(X: Any, y: NDArray[Any], C: float, class_weight: Any = None) -> Pipeline:
    """Standardise X (n, d), then fit a multinomial logistic regression to its optimum, in float64."""
    regression = LogisticRegression(
        C=C, class_weight=class_weight, solver="newton-cg", tol=TOLERANCE, max_iter=MAX_ITER
    )
    return make_pipeline(StandardScaler(), regression).fit(np.asarray(X, dtype=np.float64), y)


def fit_chosen(
    estimator: Any, X: Floats, y: NDArray[np.int64], groups: Any, copy_of: Any, dev: Any
) -> tuple[Pipeline, dict[str, Any]]:
    """Fit the regression of an estimator that has `C`, `class_weight` and `classes_`, on X (n, d) and indices y (n,).

    Return the regression, and what `chosen_` has to say. `C` is chosen on inner folds if it is "chosen".
    """
    folds: list[Split] = []
    if STRENGTH.is_open(estimator):
        folds = calibration_folds(y, groups, CALIBRATION_FOLDS, SEED, copy_of, dev)
    candidates = STRENGTH.candidates(estimator, can_choose(folds, groups, dev))
    weight = estimator.class_weight
    best = choose_C(X, y, folds, candidates, weight) if len(candidates) > 1 else candidates[0]
    rows = rows_to_fit(y, dev, copy_of)
    regression = fit_regression(X[rows], estimator.classes_[y[rows]], best, weight)
    return regression, STRENGTH.record(estimator, candidates, best)


def choose_C(
    X: Floats, y: NDArray[np.int64], folds: Sequence[Split], candidates: Sequence[float], class_weight: Any = None
) -> float:
    """Return the candidate with the lowest held-out loss on folds of X (n, d) and y (n,), the indices of the labels.

    `candidates` are in ascending order: each fit begins where the one before ended. Folds are `thinned`.
    """
    scores, truth = held_out(_held_out_scores, X, y, thinned(folds, y, SEED), candidates, class_weight)
    return candidates[best_strength(scores, truth)]


def _held_out_scores(
    X: Floats, y: NDArray[np.int64], held: Floats, candidates: Sequence[float], class_weight: Any
) -> NDArray[np.float64]:
    """Return the decision values (candidates, m, C) of `held` (m, d)."""
    scaler = StandardScaler().fit(X)
    rows, others = _fewer_columns(*(scaler.transform(part).astype(np.float64) for part in (X, held)))
    regression = LogisticRegression(
        class_weight=class_weight, solver="newton-cg", tol=ROUGH_TOLERANCE, max_iter=MAX_ITER, warm_start=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.stack([scores_of(regression.set_params(C=C).fit(rows, y), others) for C in candidates])


def _fewer_columns(
    rows: NDArray[np.float64], others: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rows (n, d) and others (m, d) with n columns if d > n; all products with a row stay the same.

    A linear classifier with an L2 penalty depends on the products alone.
    """
    if len(rows) >= rows.shape[1]:
        return rows, others
    products = rows @ rows.T
    jitter = JITTER * (products.trace() / len(rows) or 1.0)
    factor = cholesky(products + jitter * np.eye(len(rows)), lower=True)
    return factor, solve_triangular(factor, rows @ others.T, lower=True).T
