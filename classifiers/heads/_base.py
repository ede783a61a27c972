"""What every head shares: checked training data, and splits inside it that never cut a speaker in two."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.utils import get_tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from ..data.memmap import Floats, MappedRows, Matrix, blocks

Split = tuple[NDArray[np.int64], NDArray[np.int64]]  # train, held out
Check = Callable[[Floats], None]  # of a block of rows; raises ValueError for what a head cannot read
DTYPES = [np.float32, np.float64]  # others are converted to the first


class HeadBase(ClassifierMixin, BaseEstimator):
    """A classifier whose label is the one that `predict_proba` gives the highest probability."""

    classes_: NDArray[Any]

    def predict(self, X: Any) -> NDArray[Any]:
        """(n,) labels."""
        proba = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[proba.argmax(axis=1)]
        return labels

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, C), columns in the order of `classes_`."""
        raise NotImplementedError(f"{type(self).__name__} lacks predict_proba.")


def training_data(estimator: Any, X: Any, y: Any) -> tuple[Floats, NDArray[Any], NDArray[np.int64]]:
    """X (n, d) float32, the classes (C,), and y as indices into them (n,). Raises ValueError as scikit-learn does."""
    X, y = validate_data(estimator, X, y, dtype=DTYPES, ensure_all_finite=_finite(estimator))
    return X, *_classes(estimator, y)


def training_rows(
    estimator: Any, X: Any, y: Any, check: Check = lambda block: None
) -> tuple[Matrix, NDArray[Any], NDArray[np.int64]]:
    """The same for a head that reads X by blocks: rows of a file are looked through, and stay in it.

    `check` is shown every block, and raises ValueError for what this head cannot read.
    """
    if not isinstance(X, MappedRows):
        checked = training_data(estimator, X, y)
        for block in blocks(checked[0]):
            check(block)
        return checked
    validate_data(estimator, X, skip_check_array=True)  # the number of features
    y = validate_data(estimator, y=y)
    check_consistent_length(X, y)
    finite = _finite(estimator)
    for block in blocks(X):
        check(check_array(block, input_name="X", estimator=estimator, ensure_all_finite=finite))
    return X, *_classes(estimator, y)


def labelled(estimator: Any, X: Any, y: Any) -> tuple[Matrix, NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """X, y (n,), the classes (C,) and y as indices into them, for an estimator around another, which looks at X."""
    if not isinstance(X, MappedRows):
        X = check_array(X, dtype=DTYPES, ensure_all_finite=False, input_name="X", estimator=estimator)
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None.")
    y = column_or_1d(y, warn=True)
    check_consistent_length(X, y)
    estimator.n_features_in_ = X.shape[1]
    return X, y, *_classes(estimator, y)


def _finite(estimator: Any) -> bool | str:
    """What scikit-learn is to refuse: infinity always, NaN unless the head reads it as the end of a clip."""
    return "allow-nan" if get_tags(estimator).input_tags.allow_nan else True


def _classes(estimator: Any, y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    check_classification_targets(y)
    classes, indices = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"{type(estimator).__name__} needs at least 2 classes in y; got one class, {classes[0]!r}. "
            "Give clips of another label."
        )
    return classes, indices


def unseen_data(estimator: Any, X: Any) -> Floats:
    """X (n, d) like that of `fit`. Raises NotFittedError or ValueError as scikit-learn does."""
    check_is_fitted(estimator)
    checked: Floats = validate_data(estimator, X, reset=False, dtype=DTYPES, ensure_all_finite=_finite(estimator))
    return checked


def unseen_blocks(estimator: Any, X: Any, check: Check = lambda block: None) -> Iterator[Floats]:
    """The same in blocks of rows; those of a file are read and checked one by one."""
    if isinstance(X, MappedRows):
        read: Iterator[Floats] = (unseen_data(estimator, block) for block in blocks(X))
    else:
        read = blocks(unseen_data(estimator, X))
    for block in read:
        check(block)
        yield block


def inner_folds(y: NDArray[np.int64], groups: Any, n_folds: int, seed: int | None, copy_of: Any = None) -> list[Split]:
    """Stratified folds of the training data, by speaker where `groups` (n,) is given.

    Rows that are copies of others, where `copy_of` (n,) says of which (-1: of none), are trained on with their row and
    are never held out. Fewer folds where there are fewer speakers or clips of a class. Empty where no folds leave every
    class in every training part: the caller then goes without.
    """
    if copy_of is not None:
        return _with_copies(y, groups, n_folds, seed, check_array(copy_of, ensure_2d=False, dtype=np.int64))
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


def fit_told(estimator: Any, X: Any, y: Any, told: Mapping[str, Any], rows: NDArray[np.int64] | None = None) -> Any:
    """Fit, and tell the estimator of `told`, `groups` and `copy_of`, what its `fit` asks for.

    With `rows`, X and y are those rows of more, `told` is of all, and copies of rows that are not among them are none.
    """
    asks = inspect.signature(estimator.fit).parameters
    given = {name: value for name, value in told.items() if name in asks and value is not None}
    if rows is not None:
        given = {name: np.asarray(value)[rows] for name, value in given.items()}
        if "copy_of" in given:
            given["copy_of"] = _renumbered(given["copy_of"], rows)
    return estimator.fit(X, y, **given)


def _renumbered(copy_of: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """What rows are copies of, by their new numbers; -1 stays."""
    place = np.full(max(copy_of.max(), rows.max()) + 2, -1)  # the last is where -1 points to
    place[rows] = np.arange(len(rows))
    place[-1] = -1
    renumbered: NDArray[np.int64] = place[copy_of]
    return renumbered


def _with_copies(
    y: NDArray[np.int64], groups: Any, n_folds: int, seed: int | None, copy_of: NDArray[np.int64]
) -> list[Split]:
    check_consistent_length(y, copy_of)
    own, copies = np.flatnonzero(copy_of < 0), np.flatnonzero(copy_of >= 0)
    folds = inner_folds(y[own], None if groups is None else np.asarray(groups)[own], n_folds, seed)
    return [
        (np.concatenate([own[train], copies[np.isin(copy_of[copies], own[train])]]), own[held]) for train, held in folds
    ]


def check_layers(n_features: int, n_layers: int) -> None:
    """Raises ValueError where the features of X are not `n_layers` times as many dimensions."""
    if n_features % n_layers:
        raise ValueError(f"n_layers={n_layers} does not divide the {n_features} features of X; wanted n_layers * dim.")
