"""What the network heads share, on scikit-learn's side: scaling, speakers held out for early stopping, prediction.

A fitted head is numpy arrays: it predicts without torch and is saved as numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight

from ..data.memmap import Floats, Indices, MappedRows, Matrix, blocks
from ._base import HeadBase, Split, inner_folds, training_rows, unseen_blocks


class Standardised:
    """What `_layers` gives of an array at once, of some rows as they are asked for."""

    def __init__(self, head: NeuralHead, X: Matrix) -> None:
        self.head, self.X = head, X
        self.shape = len(X), *head._layers(np.asarray(X[:1])).shape[1:]

    def __getitem__(self, rows: Indices) -> Floats:
        """(rows, L, D), or (rows, L, T, D)."""
        return self.head._layers(np.asarray(self.X[rows]))


class NeuralHead(HeadBase):
    """Base of the heads that `_torch.fit_network` fits; subclasses declare these parameters in their `__init__`.

    Those over frames have their own way to check, scale, learn and predict: see `_frames`.
    """

    __metadata_request__fit = {"groups": True, "copy_of": True}  # noqa: RUF012 - scikit-learn reads it from the class

    n_layers: int
    hidden: int | None
    dropout: float
    lr: float
    layer_lr: float
    epochs: int
    batch_size: int
    patience: int
    validation: float
    class_weight: Any
    random_state: Any

    def fit(self, X: Any, y: Any, groups: Any = None, copy_of: Any = None) -> NeuralHead:
        """X (n, n_layers * dim), y (n,), groups (n,): the speakers, some of whom are held out for early stopping.

        `copy_of` (n,) says which row a row is a copy of, -1 for none: copies are not held out.
        """
        X, self.classes_, indices = training_rows(self, X, y, self._check)
        seed = int(check_random_state(self.random_state).randint(2**31))
        train, held = self._split(indices, groups, seed, copy_of)
        self.scaler_ = self._scaler(X, train)
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[indices])
        self.history_ = self._learn(self._inputs(X), indices, train, held, weights.astype(np.float32), seed)
        self.n_iter_ = len(self.history_["train_loss"])
        return self

    def _check(self, X: Floats) -> None:
        """Raises ValueError where the features are not n_layers * dim."""
        if X.shape[1] % self.n_layers:
            raise ValueError(
                f"n_layers={self.n_layers} does not divide the {X.shape[1]} features of X; wanted n_layers * dim."
            )

    def _scaler(self, X: Matrix, rows: Indices) -> Any:
        """Means and deviations of some rows of X (n, d)."""
        scaler = StandardScaler()
        for block in blocks(X, rows):
            scaler.partial_fit(block)
        return scaler

    def _inputs(self, X: Matrix) -> Floats | Standardised:
        return Standardised(self, X) if isinstance(X, MappedRows) else self._layers(X)

    def _learn(
        self, X: Floats | Standardised, y: Indices, train: Indices, held: Indices, weights: Floats, seed: int
    ) -> dict[str, list[float]]:
        """Fit the network, keep what it learned, and give its curves."""
        from ._torch import Sample, TrainingSettings, fit_vectors

        recipe = TrainingSettings(self.lr, self.layer_lr, self.epochs, self.batch_size, self.patience)
        fitted = fit_vectors(Sample(X, y, train, held, weights), self.hidden, self.dropout, recipe, seed)
        self.coefs_, self.intercepts_ = fitted.coefs, fitted.intercepts
        self.layer_weights_ = fitted.layer_weights
        return fitted.history

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, C), columns in the order of `classes_`."""
        return np.concatenate([self._proba(block) for block in unseen_blocks(self, X)])

    def _proba(self, X: Floats) -> NDArray[np.float64]:
        h = np.einsum("nld,l->nd", self._layers(X), self.layer_weights_)  # (n, dim)
        for weight, bias in zip(self.coefs_[:-1], self.intercepts_[:-1], strict=True):
            h = np.maximum(h @ weight + bias, 0)
        logits = h @ self.coefs_[-1] + self.intercepts_[-1]
        proba: NDArray[np.float64] = softmax(logits.astype(np.float64), axis=1)
        return proba

    def _layers(self, X: Floats) -> Floats:
        """(n, L, D), standardised by the training rows."""
        scaled = self.scaler_.transform(X).astype(np.float32, copy=False)
        layers: Floats = np.ascontiguousarray(scaled).reshape(len(scaled), self.n_layers, -1)
        return layers

    def _split(self, y: NDArray[np.int64], groups: Any, seed: int, copy_of: Any = None) -> Split:
        """Training rows, and rows held out for early stopping: none where the data do not allow it."""
        folds = inner_folds(y, groups, round(1 / self.validation), seed, copy_of) if self.validation else []
        return folds[0] if folds else (np.arange(len(y)), np.arange(0))
