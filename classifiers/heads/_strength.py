"""The strength of a regularisation, chosen inside the training data by the loss on held-out speakers.

No constant suits all vectors: the best penalty for 970 numbers a clip is not that for 1566, nor that for 768 others.
Each head with a strength compares a few on its inner folds. The log-loss decides, after the scores of a strength were
divided by their best temperature, and every label weighs the same: the loss varies smoothly with the strength, while
the UAR of a few hundred held-out clips moves by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.utils import resample

from ..data.memmap import Floats
from ._base import Split, has_dev
from ._temperature import temperature

CHOSEN = "chosen"  # value of a parameter that stands for the choice
MAX_ROWS = 4000  # of more training or held-out rows, a random part is used where every strength needs a fit of its own


@dataclass(frozen=True)
class Strength:
    """The parameter of a head that is its strength, and the values that are compared.

    `usual` is the value where nothing can be chosen. If `by_feature`, all values are divided by the number of features.
    `names` are texts that the classifier of the head understands.
    """

    parameter: str
    values: tuple[float, ...]
    usual: float
    by_feature: bool = False
    names: tuple[str, ...] = ()

    def is_open(self, estimator: Any) -> bool:
        """Whether the estimator is to choose the value."""
        own = getattr(estimator, self.parameter)
        return isinstance(own, str) and own == CHOSEN

    def candidates(self, estimator: Any, can_choose: bool) -> tuple[Any, ...]:
        """Return the values to compare for an estimator that knows its `n_features_in_`: one, unless it is to choose.

        Raises ValueError if the parameter is another text than CHOSEN and those in `names`.
        """
        own = getattr(estimator, self.parameter)
        if isinstance(own, str) and own not in (CHOSEN, *self.names):
            wanted = ", ".join(map(repr, (CHOSEN, *self.names)))
            raise ValueError(f"got {self.parameter}={own!r}; wanted {wanted} or a number.")
        if not self.is_open(estimator):
            return (own,)
        share = estimator.n_features_in_ if self.by_feature else 1
        return tuple(value / share for value in (self.values if can_choose else (self.usual,)))

    def record(self, estimator: Any, candidates: Sequence[Any], chosen: Any) -> dict[str, Any]:
        """Return what `chosen_` has to say: the value and the number of those tried, 0 if there was nothing to choose.

        The setting is empty if the value was given.
        """
        if not self.is_open(estimator):
            return {"setting": {}}
        return {"setting": {self.parameter: chosen}, "tried": len(candidates) if len(candidates) > 1 else 0}


def can_choose(folds: Sequence[Split], groups: Any, dev: Any) -> bool:
    """Whether inner folds say how a strength does on new speakers: with development rows, or speakers kept apart.

    Without `groups`, rows count as speakers.
    """
    if has_dev(dev) or groups is None or not folds:
        return bool(folds)
    speakers = np.asarray(groups)
    return not any(np.isin(speakers[held], speakers[train]).any() for train, held in folds)


def held_out(
    score: Callable[..., NDArray[np.float64]], X: Floats, y: NDArray[np.int64], folds: Sequence[Split], *rest: Any
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the scores (strengths, n, C) of the held-out rows of all folds together, and their columns (n,).

    `score(X, y, held, *rest)` fits on X and y, the indices of the labels, and returns the scores of the rows `held`.
    """
    parts = [score(X[train], y[train], X[held], *rest) for train, held in folds]
    return np.concatenate(parts, axis=1), np.concatenate([y[held] for _, held in folds])


def best_strength(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> int:
    """Return the number of the strength whose held-out scores (strengths, n, C) have the lowest loss.

    `truth` (n,) are column numbers. Of equally good strengths, the first is returned.
    """
    return int(np.argmin([_balanced_loss(one, truth) for one in scores]))


def _balanced_loss(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Return the mean over labels of the log-loss of scores (n, C) at their best temperature."""
    losses = -log_softmax(scores / temperature(scores, truth), axis=1)[np.arange(len(truth)), truth]
    return float(np.mean([losses[truth == label].mean() for label in np.unique(truth)]))


def thinned(folds: Sequence[Split], y: NDArray[np.int64], seed: int) -> list[Split]:
    """Return folds of at most about `MAX_ROWS` training and held-out rows each, drawn at random by label.

    Every label keeps a row.
    """
    return [(_some(train, y, seed), _some(held, y, seed)) for train, held in folds]


def _some(rows: NDArray[np.int64], y: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    if len(rows) <= MAX_ROWS:
        return rows
    drawn = resample(rows, replace=False, n_samples=MAX_ROWS, stratify=y[rows], random_state=seed)
    return np.union1d(drawn, rows[np.unique(y[rows], return_index=True)[1]])
