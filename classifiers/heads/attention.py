"""Attention pooling: the network learns to weight the frames of a clip, and takes their weighted mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..data.memmap import Floats
from ._base import unseen_blocks
from ._frames import FrameHead
from ._spec import Head


class Attention(FrameHead):
    """A weighted mean of the frames, then hidden layers of 256 and 128 units.

    X is (n, n_frames * dim): frames in order of time, with NaN after the last frame of a clip. Each dimension is
    standardised over all frames. The weights are the softmax of w·tanh(V h + b) over the frames h of the clip
    (Mirsamadi et al. 2017, Lin et al. 2017). The network is trained with AdamW, whose learning rate is halved on a
    plateau; early stopping is that of `MLP`.
    """

    kind = "attention"
    weight_decay = 0.01

    def __init__(
        self,
        n_frames: int = 1,
        dropout: float = 0.5,
        lr: float = 1e-3,
        epochs: int = 20,
        batch_size: int = 16,
        patience: int = 4,
        validation: float = 0.1,
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.n_frames = n_frames
        self.dropout = dropout
        self.lr = lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.patience = patience
        self.validation = validation
        self.class_weight = class_weight
        self.random_state = random_state

    def frame_weights(self, X: Any) -> Floats:
        """Return the weights (n, n_frames) of the frames, with sum 1 for each clip, and 0 after its last frame."""
        from ._torch_frames import attend_frames

        check_is_fitted(self)
        frames = [self._standardise(block) for block in unseen_blocks(self, X, self._check_block)]
        return attend_frames(self._network_shape(self.n_features_in_), self.weights_, np.concatenate(frames))


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> Attention:
    """Return the unfitted head over `n_frames` frames of one layer; `n_layers` is ignored."""
    return Attention(n_frames=n_frames, random_state=random_state)


head = Head(
    "attention",
    "frames",
    "attention-weighted mean of the frames, then two hidden layers",
    "Mirsamadi et al. 2017; Lin et al. 2017",
    build,
    {"lr": (3e-4, 1e-3, 3e-3), "dropout": (0.3, 0.5)},
    seeded=True,
)
