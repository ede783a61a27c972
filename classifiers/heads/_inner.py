"""What every head shares: checked training data, and splits inside it that never cut a speaker in two."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, validate_data

Split = tuple[NDArray[np.int64], NDArray[np.int64]]  # train, held out


def training_data(estimator: Any, X: Any, y: Any) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.int64]]:
    """X (n, d) float32, the classes (C,), and y as indices into them (n,). Raises ValueError as scikit-learn does."""
    X, y = validate_data(estimator, X, y, dtype=[np.float32, np.float64])
    check_classification_targets(y)
    classes, indices = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"{type(estimator).__name__} needs at least 2 classes in y; got one class, {classes[0]!r}. "
            "Give clips of another label."
        )
    return X, classes, indices


def unseen_data(estimator: Any, X: Any) -> NDArray[np.float32]:
    """X (n, d) like that of `fit`. Raises NotFittedError or ValueError as scikit-learn does."""
    check_is_fitted(estimator)
    checked: NDArray[np.float32] = validate_data(estimator, X, reset=False, dtype=[np.float32, np.float64])
    return checked


def inner_folds(y: NDArray[np.int64], groups: Any, n_folds: int, seed: int | None) -> list[Split]:
    """Stratified folds of the training data, by speaker where `groups` (n,) is given.

    Fewer folds where there are fewer speakers or clips of a class. Empty where no folds leave every class in every
    training part: the caller then goes without.
    """
    if groups is not None:
        groups = check_array(groups, ensure_2d=False, dtype=None)
        check_consistent_length(y, groups)
    units = y if groups is None else np.unique(np.stack([y, np.unique(groups, return_inverse=True)[1]]), axis=1)[0]
    n_folds = min(n_folds, int(np.bincount(units).min()))
    if n_folds < 2:
        return []
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "least populated class": looked at below
        splitter = kind(n_folds, shuffle=True, random_state=seed)
        folds = [(train, held) for train, held in splitter.split(y, y, groups) if len(held)]
    whole = len(np.unique(y))
    return folds if all(len(np.unique(y[train])) == whole for train, _ in folds) else []
