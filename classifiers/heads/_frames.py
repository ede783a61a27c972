"""What the heads over frames share: clips of different lengths, scaled by their own frames, read as they are asked for.

X is (n, n_layers * n_frames * dim): layers, then time, then dims. Frames behind a clip's end are NaN, whole and in all
layers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from ..data.memmap import Floats, Indices, Matrix, blocks
from ..data.views import MOST_NUMBERS
from ._base import unseen_blocks
from ._neural import NeuralHead, Standardised


class FrameHead(NeuralHead):
    """Base of the heads that `_torch_frames.fit_frames` fits: a `NeuralHead` whose clips have `n_frames` or fewer.

    A fitted head is `weights_`, arrays by name; it needs torch again to predict.
    """

    kind = "conv"
    n_layers = 1
    layer_lr = 0.0
    weight_decay = 0.0
    steps = 10  # that an epoch has at least

    n_frames: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.n_frames > 1  # a clip has one frame at least
        return tags

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, C), columns in the order of `classes_`."""
        from ._torch_frames import predict_frames

        check_is_fitted(self)
        read = (self._layers(block) for block in unseen_blocks(self, X, self._check))
        return predict_frames(self._shape(self.n_features_in_), self.weights_, read)

    def _check(self, X: Floats) -> None:
        """Raises ValueError for features that make no frames, and NaN elsewhere than behind a clip's end."""
        if X.shape[1] % (self.n_layers * self.n_frames):
            raise ValueError(
                f"n_layers={self.n_layers} times n_frames={self.n_frames} does not divide the {X.shape[1]} features of "
                "X; wanted n_layers * n_frames * dim."
            )
        if X.shape[1] // self.n_layers > MOST_NUMBERS:
            raise ValueError(
                f"n_frames={self.n_frames} makes {X.shape[1] // self.n_layers:,} numbers a clip and layer; at most "
                f"{MOST_NUMBERS:,} are read. Give fewer frames."
            )
        missing = np.isnan(self._unfolded(X))
        beyond = missing[:, 0, :, 0]
        whole = (missing == beyond[:, None, :, None]).all(axis=(1, 2, 3))
        wrong = beyond[:, 0] | ~whole | (beyond[:, :-1] & ~beyond[:, 1:]).any(axis=1)
        if wrong.any():
            raise ValueError(
                f"{wrong.sum()} of {len(X)} rows of X have NaN elsewhere than in whole frames, of all layers, behind "
                "the clip's last; wanted one frame or more, then NaN."
            )

    def _scaler(self, X: Matrix, rows: Indices) -> Any:
        """Means and deviations (L * D,) of the frames that some rows of X have."""
        scaler = StandardScaler()
        for block in blocks(X, rows):
            frames = self._unfolded(block).swapaxes(1, 2)  # (n, T, L, D)
            frames = frames[~np.isnan(frames[:, :, 0, 0])]
            scaler.partial_fit(frames.reshape(len(frames), -1))
        return scaler

    def _inputs(self, X: Matrix) -> Standardised:
        return Standardised(self, X)

    def _layers(self, X: Floats) -> Floats:
        """(n, L, T, D), standardised by the frames of the training rows."""
        mean, scale = (
            a.reshape(self.n_layers, 1, -1).astype(np.float32) for a in (self.scaler_.mean_, self.scaler_.scale_)
        )
        frames = self._unfolded(X).astype(np.float32)
        frames -= mean
        frames /= scale
        return frames

    def _unfolded(self, X: Floats) -> Floats:
        """(n, L, T, D)."""
        return X.reshape(len(X), self.n_layers, self.n_frames, -1)

    def _learn(
        self, X: Floats | Standardised, y: Indices, train: Indices, held: Indices, weights: Floats, seed: int
    ) -> dict[str, list[float]]:
        from ._torch import Sample, TrainingSettings
        from ._torch_frames import AT_ONCE, fit_frames

        recipe = TrainingSettings(
            self.lr, self.layer_lr, self.epochs, self.batch_size, self.patience, self.steps, self.weight_decay, AT_ONCE
        )
        sample = Sample(X, y, train, held, weights)
        self.weights_, history = fit_frames(self._shape(self.n_features_in_), self.dropout, sample, recipe, seed)
        scores = np.exp(self.weights_["layer_scores"] - self.weights_["layer_scores"].max())
        self.layer_weights_ = scores / scores.sum()
        return history

    def _shape(self, width: int) -> Any:
        from ._torch_frames import Shape

        dim = width // (self.n_layers * self.n_frames)
        return Shape(self.kind, self.n_layers, self.n_frames, dim, len(self.classes_))
