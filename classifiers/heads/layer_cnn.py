"""A learned, softmax-weighted average of the frames of all stored layers, then a 2-D convolutional network."""

from __future__ import annotations

from typing import Any

from ._frames import FrameHead
from ._spec import Head


class LayerCNN(FrameHead):
    """A weighted average of the standardised layers, frame by frame, then the network of `CNN`.

    X is (n, n_layers * n_frames * dim): layers, then frames, then dimensions, with NaN after the last frame of a clip
    in all layers. The weights `layer_weights_` (n_layers,) are positive and sum to 1. They start uniform, and are
    trained with the learning rate `layer_lr`.
    """

    def __init__(
        self,
        n_layers: int = 1,
        n_frames: int = 1,
        dropout: float = 0.2,
        lr: float = 1e-3,
        layer_lr: float = 1e-2,
        epochs: int = 15,
        batch_size: int = 32,
        patience: int = 4,
        validation: float = 0.1,
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.n_layers = n_layers
        self.n_frames = n_frames
        self.dropout = dropout
        self.lr = lr
        self.layer_lr = layer_lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.patience = patience
        self.validation = validation
        self.class_weight = class_weight
        self.random_state = random_state


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> LayerCNN:
    """Return the unfitted head over `n_frames` frames of `n_layers` layers."""
    return LayerCNN(n_layers=n_layers, n_frames=n_frames, random_state=random_state)


head = Head(
    "layer_cnn",
    "frames:all",
    "learned average of all layers, then the network of 'cnn'",
    "Yang et al. 2021; E. J. Lok 2019",
    build,
    {"lr": (3e-4, 1e-3, 3e-3), "dropout": (0.2, 0.4)},
    seeded=True,
)
