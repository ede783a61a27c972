"""Code that all heads share: validation of X and y, and inner folds that never split the clips of a speaker."""

from __future__ import annotations

import inspect
import math
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

Split = tuple[NDArray[np.int64], NDArray[np.int64]]  # row numbers: training rows, held-out rows
Check = Callable[[Floats], None]  # checks a block of rows; raises ValueError if the head cannot read the block
DTYPES = [np.float32, np.float64]  # accepted dtypes; all others are converted to the first


class HeadBase(ClassifierMixin, BaseEstimator):
    """Base of all heads. `predict` returns the label with the highest probability of `predict_proba`."""

    classes_: NDArray[Any]

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the predicted labels (n,)."""
        proba = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[proba.argmax(axis=1)]
        return labels

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities (n, C), with columns in the order of `classes_`."""
        raise NotImplementedError(f"{type(self).__name__} lacks predict_proba. Define it in the subclass.")


def training_data(estimator: Any, X: Any, y: Any) -> tuple[Floats, NDArray[Any], NDArray[np.int64]]:
    """Return validated X (n, d), the classes (C,), and y as indices of the classes (n,).

    Raises ValueError as scikit-learn does.
    """
    X, y = validate_data(estimator, X, y, dtype=DTYPES, ensure_all_finite=_ensure_all_finite(estimator))
    return X, *_encode_labels(estimator, y)


def training_rows(
    estimator: Any, X: Any, y: Any, check: Check = lambda block: None
) -> tuple[Matrix, NDArray[Any], NDArray[np.int64]]:
    """Return the same as `training_data` for a head that reads X by blocks: `MappedRows` are checked, but not loaded.

    `check` is called with every block, and raises ValueError if the head cannot read the block.
    """
    if not isinstance(X, MappedRows):
        validated = training_data(estimator, X, y)
        for block in blocks(validated[0]):
            check(block)
        return validated
    validate_data(estimator, X, skip_check_array=True)  # sets n_features_in_
    y = validate_data(estimator, y=y)
    check_consistent_length(X, y)
    ensure_all_finite = _ensure_all_finite(estimator)
    for block in blocks(X):
        check(check_array(block, input_name="X", estimator=estimator, ensure_all_finite=ensure_all_finite))
    return X, *_encode_labels(estimator, y)


def wrapper_data(estimator: Any, X: Any, y: Any) -> tuple[Matrix, NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Return X, y (n,), the classes (C,) and y as indices of the classes, for an estimator that wraps another one.

    The values of X are not checked here, because the wrapped estimator checks them.
    """
    if not isinstance(X, MappedRows):
        X = check_array(X, dtype=DTYPES, ensure_all_finite=False, input_name="X", estimator=estimator)
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None.")
    y = column_or_1d(y, warn=True)
    check_consistent_length(X, y)
    estimator.n_features_in_ = X.shape[1]
    return X, y, *_encode_labels(estimator, y)


def _ensure_all_finite(estimator: Any) -> bool | str:
    """Return scikit-learn's setting that refuses infinity, and NaN unless NaN marks the end of a clip."""
    return "allow-nan" if get_tags(estimator).input_tags.allow_nan else True


def _encode_labels(estimator: Any, y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    check_classification_targets(y)
    classes, indices = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"{type(estimator).__name__} needs at least 2 classes in y; got one class, {classes[0]!r}. "
            "Add clips with another label."
        )
    return classes, indices


def unseen_data(estimator: Any, X: Any) -> Floats:
    """Return validated X (n, d) for a prediction.

    Raises NotFittedError or ValueError as scikit-learn does.
    """
    check_is_fitted(estimator)
    ensure_all_finite = _ensure_all_finite(estimator)
    validated: Floats = validate_data(estimator, X, reset=False, dtype=DTYPES, ensure_all_finite=ensure_all_finite)
    return validated


def unseen_blocks(estimator: Any, X: Any, check: Check = lambda block: None) -> Iterator[Floats]:
    """Iterate over the blocks of X, validated as by `unseen_data`; `MappedRows` are read one block at a time."""
    if isinstance(X, MappedRows):
        validated: Iterator[Floats] = (unseen_data(estimator, block) for block in blocks(X))
    else:
        validated = blocks(unseen_data(estimator, X))
    for block in validated:
        check(block)
        yield block


def has_dev(dev: Any) -> bool:
    """Whether `dev` (n,), the mask of the development rows, marks any row. None marks none."""
    return dev is not None and bool(np.any(dev))


def dev_split(y: NDArray[np.int64], dev: Any, copy_of: Any = None) -> Split:
    """Return the training rows, with their copies, and the development rows.

    Copies of development rows are in neither. Raises ValueError unless every class of y has a training row.
    """
    is_dev = check_array(dev, ensure_2d=False, dtype=bool)
    copies = np.full(len(y), -1) if copy_of is None else check_array(copy_of, ensure_2d=False, dtype=np.int64)
    check_consistent_length(y, is_dev, copies)
    held = np.flatnonzero(is_dev & (copies < 0))
    train = np.flatnonzero(~_marks_clip_or_copy(is_dev, copies))
    if lacking := len(np.unique(y)) - len(np.unique(y[train])):
        raise ValueError(
            f"got development rows with {lacking} classes that no training row has; wanted every class in training. "
            "Leave these rows out, or add training rows."
        )
    return train, held


def rows_to_fit(y: NDArray[np.int64], dev: Any, copy_of: Any = None) -> NDArray[np.int64] | slice:
    """Return the training rows, as an index: those of `dev_split`, or a slice of all rows if `dev` marks none."""
    return dev_split(y, dev, copy_of)[0] if has_dev(dev) else slice(None)


def wrapper_folds(folds: list[Split], dev: Any) -> list[Split]:
    """Return the inner folds for an estimator that passes `dev` on to the estimators that it fits.

    With development rows there is one fold: the inner estimator is fitted on all rows, of which it trains on the
    training rows alone, and the development rows are held out.
    """
    return [(np.arange(len(dev)), held) for _, held in folds] if has_dev(dev) else folds


def inner_folds(
    y: NDArray[np.int64], groups: Any, n_folds: int, seed: int | None, copy_of: Any = None, dev: Any = None
) -> list[Split]:
    """Return stratified folds of the training data, as pairs of training rows and held-out rows.

    If `dev` (n,) marks development rows, these are held out in the only fold, see `dev_split`.

    `groups` (n,) are the speakers: all rows of a speaker are on the same side of a split. None splits by row.
    `copy_of` (n,) gives for each augmented copy the row of its original, and -1 for an original. Copies are trained on
    together with their original, and are never held out.

    There are fewer than `n_folds` folds if a class has fewer speakers (or rows, without `groups`). The list is empty if
    no folds have every class in every training part: the caller then has to do without inner folds.
    """
    if has_dev(dev):
        return [dev_split(y, dev, copy_of)]
    if copy_of is not None:
        return _folds_with_copies(y, groups, n_folds, seed, check_array(copy_of, ensure_2d=False, dtype=np.int64))
    if groups is not None:
        groups = check_array(groups, ensure_2d=False, dtype=None)
        check_consistent_length(y, groups)
    n_folds = min(n_folds, _smallest_class(y, groups))
    if n_folds < 2:
        return []
    splitter_class = StratifiedKFold if groups is None else StratifiedGroupKFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "least populated class": the return statement checks for it
        splitter = splitter_class(n_folds, shuffle=True, random_state=seed)
        folds = [(train, held) for train, held in splitter.split(y, y, groups) if len(held)]
    n_classes = len(np.unique(y))
    return folds if all(len(np.unique(y[train])) == n_classes for train, _ in folds) else []


def calibration_folds(
    y: NDArray[np.int64], groups: Any, n_folds: int, seed: int | None, copy_of: Any = None, dev: Any = None
) -> list[Split]:
    """Return the inner folds for a temperature: those of `inner_folds`, if each trains on several speakers.

    A head that was fitted on one speaker is far worse on the next than a head that was fitted on two: the temperature
    of the one would make the other far too unsure. With two training speakers, the folds are therefore split by clip,
    and the temperature holds for these speakers. With one, the list is empty.
    """
    folds = inner_folds(y, groups, n_folds, seed, copy_of, dev)
    if has_dev(dev) or groups is None or all(len(np.unique(np.asarray(groups)[train])) > 1 for train, _ in folds):
        return folds
    return inner_folds(y, None, n_folds, seed, copy_of)


def _smallest_class(y: NDArray[np.int64], groups: Any) -> int:
    """Return the number of groups, or of rows without groups, of the class that has the fewest.

    For y = [0, 0, 0, 1, 1] and groups = [a, a, b, a, a], class 0 has two groups and class 1 has one: returns 1.
    """
    if groups is None:
        return int(np.bincount(y).min())
    pairs = np.unique(np.stack([y, np.unique(groups, return_inverse=True)[1]]), axis=1)  # distinct (class, group)
    return int(np.bincount(pairs[0]).min())


def _folds_with_copies(
    y: NDArray[np.int64], groups: Any, n_folds: int, seed: int | None, copy_of: NDArray[np.int64]
) -> list[Split]:
    """Return the folds of the originals, with the copies of the training rows added to the training rows.

    For `copy_of` = [-1, -1, -1, 0, 2], rows 3 and 4 are copies. The fold ([0, 1], [2]) of the originals becomes
    ([0, 1, 3], [2]).
    """
    check_consistent_length(y, copy_of)
    originals, copies = np.flatnonzero(copy_of < 0), np.flatnonzero(copy_of >= 0)
    groups = None if groups is None else np.asarray(groups)[originals]
    folds = []
    for train, held in inner_folds(y[originals], groups, n_folds, seed):
        train_copies = copies[np.isin(copy_of[copies], originals[train])]
        folds.append((np.concatenate([originals[train], train_copies]), originals[held]))
    return folds


def fit_with_context(
    estimator: Any, X: Any, y: Any, context: Mapping[str, Any], rows: NDArray[np.int64] | None = None
) -> Any:
    """Fit an estimator, passing the parts of `context` that its `fit` has parameters for.

    `context` holds `groups` (the speakers), `copy_of` (see `inner_folds`) and `dev` (the mask of the development rows);
    a value of None is not passed. An estimator whose `fit` lacks `dev` is fitted on the training rows alone.

    If X and y are a selection of a larger training set, `rows` are the row numbers of the selection. The values of
    `context` are those of the larger training set, and are selected here; a copy whose original is not selected counts
    as an original.
    """
    parameters = inspect.signature(estimator.fit).parameters
    if "dev" not in parameters and has_dev(context.get("dev")):
        rows = np.arange(len(context["dev"])) if rows is None else rows
        training = np.flatnonzero(~_marks_clip_or_copy(context["dev"], context.get("copy_of"))[rows])
        X, y, rows = X[training], y[training], rows[training]
    passed = {name: value for name, value in context.items() if name in parameters and value is not None}
    if rows is not None:
        passed = {name: np.asarray(value)[rows] for name, value in passed.items()}
        if "copy_of" in passed:
            passed["copy_of"] = _renumbered(passed["copy_of"], rows)
    return estimator.fit(X, y, **passed)


def _marks_clip_or_copy(dev: Any, copy_of: Any) -> NDArray[np.bool_]:
    """Return which rows (n,) are development rows or copies of such rows."""
    is_dev = np.asarray(dev, bool)
    return is_dev if copy_of is None else np.where(np.asarray(copy_of) < 0, is_dev, is_dev[copy_of])


def _renumbered(copy_of: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `copy_of` of selected rows in the numbering of the selection; -1 stays -1.

    If rows 1, 3 and 4 are selected, row 3 being a copy of row 1 and row 4 a copy of row 2, then row 1 is row 0 of the
    selection, and row 2 is not selected:

    >>> _renumbered(np.array([-1, 1, 2]), rows=np.array([1, 3, 4]))
    array([-1,  0, -1])
    """
    new_rows = np.full(max(copy_of.max(), rows.max()) + 2, -1)  # one more than row numbers: index -1 is its last
    new_rows[rows] = np.arange(len(rows))
    renumbered: NDArray[np.int64] = new_rows[copy_of]
    return renumbered


def check_layers(n_features: int, n_layers: int, n_frames: int | None = None) -> None:
    """Raise ValueError if `n_features`, the number of columns of X, is not a multiple of `n_layers`.

    For heads over frames, which pass `n_frames`, it must be a multiple of `n_layers * n_frames`.
    """
    shape = {"n_layers": n_layers} if n_frames is None else {"n_layers": n_layers, "n_frames": n_frames}
    if n_features % math.prod(shape.values()):
        given = " times ".join(f"{name}={value}" for name, value in shape.items())
        wanted = " * ".join([*shape, "dim"])
        raise ValueError(
            f"{given} does not divide the {n_features} features of X; wanted {wanted}. "
            f"Set {' and '.join(shape)} to match X."
        )
