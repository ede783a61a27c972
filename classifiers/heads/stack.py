"""Several heads as one: the mean of their probabilities, or a logistic regression over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ._base import HeadBase, fit_told, inner_folds, training_data, unseen_data
from ._spec import Head

FOLDS = 4  # that out-of-fold probabilities come from
LEAST = 1e-6  # probability whose logarithm is taken
C = 0.01  # of the regression over members, whose columns say much the same


class Stack(HeadBase):
    """Fit every member on the same clips; then `final` puts their probabilities together.

    `vote` is their mean (Kittler et al. 1998, the sum rule) and costs nothing more. `logistic` regresses labels on the
    logarithms of probabilities that each member gives of speakers it was not fitted on (Wolpert 1992), from inner
    folds; where the training data allow none, it is a vote. `class_weight` is handed to the members.
    """

    __metadata_request__fit = {"groups": True, "copy_of": True}  # noqa: RUF012 - scikit-learn reads it from the class

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

    def fit(self, X: Any, y: Any, groups: Any = None, copy_of: Any = None) -> Stack:
        """X (n, d), y (n,), groups (n,): the speakers, copy_of (n,): the row that a row is a copy of, or -1."""
        if self.final not in ("vote", "logistic"):
            raise ValueError(f"got final={self.final!r}; wanted 'vote' or 'logistic'.")
        X, self.classes_, indices = training_data(self, X, y)
        told = {"groups": groups, "copy_of": copy_of}
        splits = inner_folds(indices, groups, FOLDS, self.random_state, copy_of) if self.final == "logistic" else []
        outside, truth = [], []
        for train, held in splits:
            outside.append(_columns(self._fitted(X, indices, told, train), X[held]))
            truth.append(indices[held])
        self.final_ = _regression(np.concatenate(outside), np.concatenate(truth)) if splits else None
        self.members_ = self._fitted(X, indices, told, np.arange(len(indices)))
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, C), columns in the order of `classes_`."""
        X = unseen_data(self, X)
        if self.final_ is None:
            votes: NDArray[np.float64] = np.mean([member.predict_proba(X) for member in self.members_], axis=0)
            return votes
        proba: NDArray[np.float64] = self.final_.predict_proba(_columns(self.members_, X))
        return proba

    def _fitted(self, X: Any, y: NDArray[np.int64], told: dict[str, Any], rows: NDArray[np.int64]) -> list[Any]:
        """The members, fitted on some rows, with labels as they are spelled."""
        from . import head

        members = [head(name, random_state=self.random_state) for name in self.members]
        for member in members:
            weight = member.class_weight if self.class_weight is None else self.class_weight
            fit_told(member.set_params(class_weight=weight), X[rows], self.classes_[y[rows]], told, rows)
        return members


def _columns(members: Sequence[Any], X: Any) -> NDArray[np.float64]:
    """(n, members * C) logarithms of probabilities."""
    logs: NDArray[np.float64] = np.log(np.maximum(np.hstack([m.predict_proba(X) for m in members]), LEAST))
    return logs


def _regression(columns: NDArray[np.float64], truth: NDArray[np.int64]) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000)).fit(columns, truth)


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> Stack:
    """The head; one pooled vector a clip has neither layers nor frames."""
    return Stack(random_state=random_state)


head = Head(
    "stack",
    "pooled",
    "five heads as one: the mean of their probabilities",
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
