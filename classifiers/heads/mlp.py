"""One hidden layer on one vector per clip: the 768-256-8 network of the frozen wav2vec2 + MLP systems."""

from __future__ import annotations

from typing import Any

from ._neural import NeuralHead
from ._spec import Head


class MLP(NeuralHead):
    """Standardise, then one hidden layer of 256 units with ReLU and dropout 0.3.

    The network is trained with AdamW in batches of 16, for at most 10 epochs of at least 60 steps. The learning rate,
    1e-4, is halved on a plateau. A share `validation` of the training data is held out, by speaker if `groups` is
    given: training stops after `patience` epochs without a lower held-out loss, and the weights of the best epoch are
    restored. `history_` has the loss and the accuracy of each epoch.
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
    """Return the unfitted head. `n_layers` and `n_frames` are ignored: the head reads one vector per clip."""
    return MLP(random_state=random_state)


head = Head(
    "mlp",
    "pooled",
    "one hidden layer of 256 units, early stopping by speaker",
    "the wav2vec2 + MLP system's card",
    build,
    {"lr": (3e-5, 1e-4, 3e-4, 1e-3), "dropout": (0.1, 0.3, 0.5), "hidden": (64, 256, 1024), "epochs": (10, 30)},
    seeded=True,
)
