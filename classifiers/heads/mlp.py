"""The 768-256-8 network of the frozen wav2vec2 + MLP systems: one hidden layer on one pooled vector."""

from __future__ import annotations

from typing import Any

from ._neural import NeuralHead
from ._spec import Head


class MLP(NeuralHead):
    """Standardise, one hidden layer of 256, ReLU, dropout 0.3; AdamW at 1e-4, halved on a plateau, batches of 16.

    At most 10 epochs, each of 60 steps or more; stops after `patience` epochs without a better loss on `validation` of
    the training data, held out by speaker where `groups` are given, and goes back to the best epoch. `history_` has the
    loss and accuracy of each epoch.
    """

    n_layers = 1
    layer_lr = 0.0

    def __init__(
        self,
        hidden: int = 256,
        dropout: float = 0.3,
        lr: float = 1e-4,
        epochs: int = 10,
        batch_size: int = 16,
        patience: int = 3,
        validation: float = 0.1,
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.lr = lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.patience = patience
        self.validation = validation
        self.class_weight = class_weight
        self.random_state = random_state


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> MLP:
    """The head; one pooled vector a clip has neither layers nor frames."""
    return MLP(random_state=random_state)


head = Head(
    "mlp",
    "pooled",
    "768-256-8 network, early stopping by speaker",
    "the wav2vec2 + MLP system's card",
    build,
    {"lr": (3e-5, 1e-4, 3e-4, 1e-3), "dropout": (0.1, 0.3, 0.5), "hidden": (64, 256, 1024), "epochs": (10, 30)},
)
