"""Attention pooling: the network learns which frames of a clip count, and averages those."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..data.memmap import Floats
from ._base import unseen_blocks
from ._frames import FrameHead
from ._spec import Head


class Attention(FrameHead):
    """Standardise each dimension over all frames, weigh the frames by w·tanh(V h), sum, then 256 and 128 units.

    X is (n, n_frames * dim), frames in order, NaN behind a clip's end. The weights are a softmax over the frames that a
    clip has (Mirsamadi et al. 2017, Lin et al. 2017). AdamW, halved on a plateau; early stopping as in `MLP`.
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
        """(n, n_frames): how much each frame counts, sum 1; 0 behind a clip's end."""
        from ._torch_frames import attend_frames

        check_is_fitted(self)
        read = [self._layers(block) for block in unseen_blocks(self, X, self._check)]
        return attend_frames(self._shape(self.n_features_in_), self.weights_, np.concatenate(read))


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> Attention:
    """The head over `n_frames` frames of one layer."""
    return Attention(n_frames=n_frames, random_state=random_state)


head = Head(
    "attention",
    "frames",
    "attention pooling over frames, then 256-128",
    "Mirsamadi et al. 2017; Lin et al. 2017",
    build,
    {"lr": (3e-4, 1e-3, 3e-3), "dropout": (0.3, 0.5)},
)
