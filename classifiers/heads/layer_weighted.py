"""A learned, softmax-weighted average of the encoder's layers, then the network of `MLP` or a linear classifier."""

from __future__ import annotations

from typing import Any

from ._neural import NeuralHead
from ._spec import Head


class LayerWeighted(NeuralHead):
    """A weighted average of the standardised layers, then one hidden layer, or a linear classifier if `hidden` is None.

    X is (n, n_layers * dim), layers in order. The weights `layer_weights_` (n_layers,) are positive and sum to 1. They
    start uniform, and are trained with the learning rate `layer_lr`. The weighted average is that of SUPERB (Yang et
    al. 2021); everything else is as in `MLP`.
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
    """Return the unfitted head over the time means of `n_layers` layers; `n_frames` is ignored."""
    return LayerWeighted(n_layers=n_layers, random_state=random_state)


head = Head(
    "layer_weighted",
    "layers",
    "learned average of all layers, then the network of 'mlp'",
    "Yang et al. 2021",
    build,
    {
        "lr": (3e-5, 1e-4, 3e-4, 1e-3),
        "layer_lr": (1e-3, 1e-2, 1e-1),
        "dropout": (0.1, 0.3, 0.5),
        "hidden": (None, 256),
    },
    seeded=True,
    same_with_one_layer="mlp",
)
