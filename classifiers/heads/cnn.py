"""A 2-D convolutional network over frames as an image: time by MFCCs, or time by dimensions of an embedding."""

from __future__ import annotations

from typing import Any

from ._frames import FrameHead
from ._spec import Head


class CNN(FrameHead):
    """Four convolutional blocks, then a hidden layer of 64 units (E. J. Lok 2019).

    X is (n, n_frames * dim): frames in order of time, with NaN after the last frame of a clip. Each dimension is
    standardised over all frames. A block is 32 filters of 4 x 10 (10 along the longer of the two axes, time and
    dimensions), batch norm, ReLU, 2 x 2 max-pooling and dropout. Padding after the last frame does not change the
    result. The network is trained with Adam, whose learning rate is halved on a plateau; early stopping is that of
    `MLP`.

    If the processor multiplies in bf16, convolutions are trained in bf16, which about halves the time. Predictions are
    always computed in float32.
    """

    def __init__(
        self,
        n_frames: int = 1,
        dropout: float = 0.2,
        lr: float = 1e-3,
        epochs: int = 15,
        batch_size: int = 32,
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


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> CNN:
    """Return the unfitted head over `n_frames` frames of one layer; `n_layers` is ignored."""
    return CNN(n_frames=n_frames, random_state=random_state)


head = Head(
    "cnn",
    "frames",
    "2-D convolutional network over frames, four blocks of 32 filters",
    "E. J. Lok 2019, Audio Emotion part 6",
    build,
    {"lr": (3e-4, 1e-3, 3e-3), "dropout": (0.2, 0.4)},
    seeded=True,
)
