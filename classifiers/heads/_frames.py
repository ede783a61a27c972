"""Base of the heads over frames, for clips of different lengths.

X is (n, n_layers * n_frames * dim): layers, then frames in order of time, then dimensions. After the last frame of a
clip, all values are NaN, in all layers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from ..data.memmap import Floats, Indices, Matrix, blocks
from ..data.views import MAX_VALUES_PER_LAYER
from ._base import check_layers, unseen_blocks
from ._neural import NeuralHead, Standardised


class FrameHead(NeuralHead):
    """Base of the heads that `_torch_frames.fit_frames` trains: a `NeuralHead` for clips of up to `n_frames` frames.

    The learned state of a fitted head is `weights_`, arrays by name. Prediction needs torch.
    """

    kind = "conv"
    n_layers = 1
    layer_lr = 0.0
    weight_decay = 0.0
    steps = 10  # minimum number of steps per epoch

    n_frames: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.n_frames > 1  # with one frame there is no padding: a clip has at least one
        return tags

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities (n, C), with columns in the order of `classes_`."""
        from ._torch_frames import predict_frames

        check_is_fitted(self)
        frames = (self._standardise(block) for block in unseen_blocks(self, X, self._check_block))
        return predict_frames(self._network_shape(self.n_features_in_), self.weights_, frames)

    def _check_block(self, X: Floats) -> None:
        """Raise ValueError if a block of rows has a wrong width, or NaN that is not padding after a clip's last frame.

        Padding consists of whole frames, the same in all layers. For `n_frames` = 3 and dim = 1, [1, NaN, NaN] is a
        clip of one frame; [NaN, NaN, NaN] has no frame and [1, NaN, 1] a gap, so both are refused.
        """
        check_layers(X.shape[1], self.n_layers, self.n_frames)
        if X.shape[1] // self.n_layers > MAX_VALUES_PER_LAYER:
            raise ValueError(
                f"n_frames={self.n_frames} gives {X.shape[1] // self.n_layers:,} values per clip and layer; wanted at "
                f"most {MAX_VALUES_PER_LAYER:,}. Use fewer frames."
            )
        missing = np.isnan(self._unfold(X))
        padding = missing[:, 0, :, 0]  # (n, T)
        whole = (missing == padding[:, None, :, None]).all(axis=(1, 2, 3))
        gaps = (padding[:, :-1] & ~padding[:, 1:]).any(axis=1)
        wrong = padding[:, 0] | ~whole | gaps
        if wrong.any():
            raise ValueError(
                f"{wrong.sum()} of {len(X)} rows of X have NaN elsewhere than in whole frames after the clip's last "
                "frame; wanted at least one frame, then NaN in all layers. Pad clips with whole frames of NaN."
            )

    def _fit_scaler(self, X: Matrix, rows: Indices) -> Any:
        """Return a scaler fitted to the frames, each (L * D,), of selected rows of X, without padding."""
        scaler = StandardScaler()
        for block in blocks(X, rows):
            frames = self._unfold(block).swapaxes(1, 2)  # (n, T, L, D)
            frames = frames[~np.isnan(frames[:, :, 0, 0])]
            scaler.partial_fit(frames.reshape(len(frames), -1))
        return scaler

    def _network_input(self, X: Matrix) -> Standardised:
        return Standardised(self, X)

    def _standardise(self, X: Floats) -> Floats:
        """Return X as (n, L, T, D), scaled by the means and deviations of the training frames."""
        mean, scale = (
            a.reshape(self.n_layers, 1, -1).astype(np.float32) for a in (self.scaler_.mean_, self.scaler_.scale_)
        )
        frames = self._unfold(X).astype(np.float32)
        frames -= mean
        frames /= scale
        return frames

    def _unfold(self, X: Floats) -> Floats:
        """Return X as (n, L, T, D)."""
        return X.reshape(len(X), self.n_layers, self.n_frames, -1)

    def _learn(
        self, X: Floats | Standardised, y: Indices, train: Indices, held: Indices, weights: Floats, seed: int
    ) -> dict[str, list[float]]:
        from ._torch import TrainingSet, TrainingSettings
        from ._torch_frames import CLIPS_AT_ONCE, fit_frames

        settings = TrainingSettings(
            self.lr,
            self.layer_lr,
            self.epochs,
            self.batch_size,
            self.patience,
            self.steps,
            self.weight_decay,
            CLIPS_AT_ONCE,
        )
        data, shape = TrainingSet(X, y, train, held, weights), self._network_shape(self.n_features_in_)
        self.weights_, history = fit_frames(shape, self.dropout, data, settings, seed)
        scores = np.exp(self.weights_["layer_scores"] - self.weights_["layer_scores"].max())
        self.layer_weights_ = scores / scores.sum()
        return history

    def _network_shape(self, n_features: int) -> Any:
        from ._torch_frames import Shape

        dim = n_features // (self.n_layers * self.n_frames)
        return Shape(self.kind, self.n_layers, self.n_frames, dim, len(self.classes_))
