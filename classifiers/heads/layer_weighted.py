"""A learned, softmax-weighted average of the encoder's layers, then the same network or a linear classifier."""

from __future__ import annotations

from typing import Any

from ._neural import NeuralHead
from ._spec import Head


class LayerWeighted(NeuralHead):
    """Standardise, mix the layers with learned weights, then one hidden layer (`hidden=None`: linear).

    X is (n, n_layers * dim), layers in order. `layer_weights_` (n_layers,) is positive and sums to 1; it starts
    uniform and learns at `layer_lr`. The mix is that of SUPERB (Yang et al. 2021); the rest is as in `MLP`.
    """

    def __init__(
        self,
        n_layers: int = 1,
        hidden: int | None = 256,
        dropout: float = 0.3,
        lr: float = 1e-4,
        layer_lr: float = 1e-2,
        epochs: int = 10,
        batch_size: int = 16,
        patience: int = 3,
        validation: float = 0.1,
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.n_layers = n_layers
        self.hidden = hidden
        self.dropout = dropout
        self.lr = lr
        self.layer_lr = layer_lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.patience = patience
        self.validation = validation
        self.class_weight = class_weight
        self.random_state = random_state


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> LayerWeighted:
    """The head over `n_layers` layers of time means."""
    return LayerWeighted(n_layers=n_layers, random_state=random_state)


head = Head(
    "layer_weighted",
    "layers",
    "learned average of all layers, then the same network",
    "Yang et al. 2021",
    build,
    {
        "lr": (3e-5, 1e-4, 3e-4, 1e-3),
        "layer_lr": (1e-3, 1e-2, 1e-1),
        "dropout": (0.1, 0.3, 0.5),
        "hidden": (None, 256),
    },
)
