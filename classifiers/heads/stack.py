"""An ensemble of heads: the mean of their probabilities, or a logistic regression on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._base import HeadBase, Split, fit_with_context, inner_folds, training_data, unseen_data, wrapper_folds
from ._regression import fit_regression
from ._spec import Head

FOLDS = 4  # number of inner folds that the logistic regression is fitted on
MIN_PROBABILITY = 1e-6  # smaller probabilities are raised to this value before taking the logarithm
C = 0.01  # inverse penalty of the regression; strong, because the probabilities of the members are correlated


class Stack(HeadBase):
    """Fit every member on the same clips, and combine their probabilities.

    With `final="vote"`, the result is the mean of the probabilities (the sum rule of Kittler et al. 1998), which needs
    no further fit. With `final="logistic"`, it is that of a logistic regression on the logarithms of the probabilities
    (Wolpert 1992). The regression is fitted on held-out speakers of inner folds, or on development rows; if the
    training data allow no inner folds, or the development rows lack a label, the result is a vote. `class_weight` is
    passed to the members; None leaves theirs unchanged. `chosen_` has what the members chose.
    """

    __metadata_request__fit = {"groups": True, "copy_of": True, "dev": True}  # noqa: RUF012 - read by scikit-learn

    def __init__(
        self,
        members: Sequence[str] = ("logreg", "svm", "lda", "ridge", "lgbm"),
        final: str = "vote",
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.members = members
        self.final = final
        self.class_weight = class_weight
        self.random_state = random_state

    @property
    def averages(self) -> tuple[str, ...]:
        """The names of the heads that, fitted on their own, give these probabilities as their mean; none if none do.

        A comparison fits these heads once, for themselves and for this one.
        """
        return tuple(self.members) if self.final == "vote" and self.class_weight is None else ()

    def fit(self, X: Any, y: Any, groups: Any = None, copy_of: Any = None, dev: Any = None) -> Stack:
        """Fit on X (n, d) and y (n,).

        `groups` (n,) are the speakers. `copy_of` (n,) is for each augmented copy the row of its original, -1 otherwise.
        `dev` (n,) marks development rows: the regression is fitted on them, if they have every label, and the
        members on the others.
        """
        if self.final not in ("vote", "logistic"):
            raise ValueError(f"got final={self.final!r}; wanted 'vote' or 'logistic'. Pass one of the two.")
        X, self.classes_, indices = training_data(self, X, y)
        context = {"groups": groups, "copy_of": copy_of, "dev": dev}
        splits = self._splits(indices, groups, copy_of, dev) if self.final == "logistic" else []
        held_out, truth = [], []
        for train, held in splits:
            held_out.append(_log_probabilities(self._fit_members(X, indices, context, train), X[held]))
            truth.append(indices[held])
        self.final_ = fit_regression(np.concatenate(held_out), np.concatenate(truth), C) if splits else None
        self.members_ = self._fit_members(X, indices, context, np.arange(len(indices)))
        chosen = {n: getattr(member, "chosen_", {}) for n, member in zip(self.members, self.members_, strict=True)}
        self.chosen_ = {"setting": settings_of_members(chosen)}
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities (n, C), with columns in the order of `classes_`."""
        X = unseen_data(self, X)
        if self.final_ is None:
            mean: NDArray[np.float64] = np.mean([member.predict_proba(X) for member in self.members_], axis=0)
            return mean
        proba: NDArray[np.float64] = self.final_.predict_proba(_log_probabilities(self.members_, X))
        return proba

    def _splits(self, y: NDArray[np.int64], groups: Any, copy_of: Any, dev: Any) -> list[Split]:
        """Return the folds for the regression; none if their held-out rows together lack a class."""
        splits = wrapper_folds(inner_folds(y, groups, FOLDS, self.random_state, copy_of, dev), dev)
        found = {int(label) for _, held in splits for label in y[held]}
        return splits if len(found) == len(self.classes_) else []

    def _fit_members(self, X: Any, y: NDArray[np.int64], context: dict[str, Any], rows: NDArray[np.int64]) -> list[Any]:
        """Return the members, fitted on selected rows, with `classes_` as labels instead of the indices y."""
        from . import head

        members = [head(name, random_state=self.random_state) for name in self.members]
        for member in members:
            weight = member.class_weight if self.class_weight is None else self.class_weight
            fit_with_context(member.set_params(class_weight=weight), X[rows], self.classes_[y[rows]], context, rows)
        return members


def settings_of_members(chosen: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what members chose, such as `ridge__alpha`, given the `chosen_` of each by its name."""
    return {
        f"{name}__{parameter}": value
        for name, one in chosen.items()
        for parameter, value in one.get("setting", {}).items()
    }


def _log_probabilities(members: Sequence[Any], X: Any) -> NDArray[np.float64]:
    """Return the logarithms of the probabilities of all members side by side, (n, members * C)."""
    proba = np.hstack([member.predict_proba(X) for member in members])
    logs: NDArray[np.float64] = np.log(np.maximum(proba, MIN_PROBABILITY))
    return logs


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> Stack:
    """Return the unfitted head. `n_layers` and `n_frames` are ignored: the head reads one vector per clip."""
    return Stack(random_state=random_state)


head = Head(
    "stack",
    "pooled",
    "mean of the probabilities of five other heads",
    "Kittler et al. 1998; Wolpert 1992",
    build,
    {
        "final": ("vote", "logistic"),
        "members": (
            ("logreg", "svm", "lda", "ridge", "lgbm"),
            ("svm", "lda", "lgbm"),
            ("logreg", "svm", "lda", "ridge"),
        ),
    },
)
