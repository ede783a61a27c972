"""Base of the network heads, without torch: scaling, held-out speakers for early stopping, and prediction.

The learned state of a fitted head is numpy arrays, so a head predicts without torch and is saved as numbers.
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
from ._base import HeadBase, Split, check_layers, inner_folds, rows_to_fit, training_rows, unseen_blocks


class Standardised:
    """The standardised rows of X, computed by `head._standardise` each time that rows are selected."""

    def __init__(self, head: NeuralHead, X: Matrix) -> None:
        self.head, self.X = head, X
        self.shape = len(X), *head._standardise(np.asarray(X[:1])).shape[1:]

    def __getitem__(self, rows: Indices) -> Floats:
        """Return (rows, L, D), or (rows, L, T, D) for a head over frames."""
        return self.head._standardise(np.asarray(self.X[rows]))


class NeuralHead(HeadBase):
    """Base of the heads that `_torch.fit_network` trains. Subclasses have these parameters in their `__init__`.

    The base of the heads over frames, `_frames.FrameHead`, overrides how X is checked, scaled, learned and predicted.
    """

    __metadata_request__fit = {"groups": True, "copy_of": True, "dev": True}  # noqa: RUF012 - read by scikit-learn

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

    def fit(self, X: Any, y: Any, groups: Any = None, copy_of: Any = None, dev: Any = None) -> NeuralHead:
        """Fit on X (n, n_layers * dim) and y (n,).

        `groups` (n,) are the speakers, some of whom are held out for early stopping. `copy_of` (n,) is for each
        augmented copy the row of its original, -1 otherwise; copies are not held out. `dev` (n,) marks development
        rows: they are held out instead of speakers, and only the others are trained on, even if `validation` is 0.
        """
        X, self.classes_, indices = training_rows(self, X, y, self._check_block)
        seed = int(check_random_state(self.random_state).randint(2**31))
        train, held = self._split(indices, groups, seed, copy_of, dev)
        self.scaler_ = self._fit_scaler(X, train)
        labels = self.classes_[indices[rows_to_fit(indices, dev, copy_of)]]
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=labels)
        self.history_ = self._learn(self._network_input(X), indices, train, held, weights.astype(np.float32), seed)
        self.n_iter_ = len(self.history_["train_loss"])
        return self

    def _check_block(self, X: Floats) -> None:
        """Raise ValueError if the head cannot read a block of rows."""
        check_layers(X.shape[1], self.n_layers)

    def _fit_scaler(self, X: Matrix, rows: Indices) -> Any:
        """Return a scaler fitted to selected rows of X (n, d)."""
        scaler = StandardScaler()
        for block in blocks(X, rows):
            scaler.partial_fit(block)
        return scaler

    def _network_input(self, X: Matrix) -> Floats | Standardised:
        return Standardised(self, X) if isinstance(X, MappedRows) else self._standardise(X)

    def _learn(
        self, X: Floats | Standardised, y: Indices, train: Indices, held: Indices, weights: Floats, seed: int
    ) -> dict[str, list[float]]:
        """Train the network, store its weights, and return its learning curves."""
        from ._torch import TrainingSet, TrainingSettings, fit_vectors

        settings = TrainingSettings(self.lr, self.layer_lr, self.epochs, self.batch_size, self.patience)
        trained = fit_vectors(TrainingSet(X, y, train, held, weights), self.hidden, self.dropout, settings, seed)
        self.coefs_, self.intercepts_ = trained.coefs, trained.intercepts
        self.layer_weights_ = trained.layer_weights
        return trained.history

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities (n, C), with columns in the order of `classes_`."""
        return np.concatenate([self._predict_block(block) for block in unseen_blocks(self, X)])

    def _predict_block(self, X: Floats) -> NDArray[np.float64]:
        h = np.einsum("nld,l->nd", self._standardise(X), self.layer_weights_)  # (n, dim)
        for weight, bias in zip(self.coefs_[:-1], self.intercepts_[:-1], strict=True):
            h = np.maximum(h @ weight + bias, 0)
        logits = h @ self.coefs_[-1] + self.intercepts_[-1]
        proba: NDArray[np.float64] = softmax(logits.astype(np.float64), axis=1)
        return proba

    def _standardise(self, X: Floats) -> Floats:
        """Return X as (n, L, D), scaled by the means and deviations of the training rows."""
        scaled = self.scaler_.transform(X).astype(np.float32, copy=False)
        layers: Floats = np.ascontiguousarray(scaled).reshape(len(scaled), self.n_layers, -1)
        return layers

    def _split(self, y: NDArray[np.int64], groups: Any, seed: int, copy_of: Any = None, dev: Any = None) -> Split:
        """Return training rows, and rows held out for early stopping: the development rows, if there are any.

        No rows are held out if `validation` is 0 or the training data allow no inner folds.
        """
        folds = inner_folds(y, groups, round(1 / self.validation), seed, copy_of, dev) if self.validation else []
        return folds[0] if folds else (np.arange(len(y))[rows_to_fit(y, dev, copy_of)], np.arange(0))
