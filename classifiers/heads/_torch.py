"""The training loop of the torch heads (AdamW with early stopping), and the network over vectors.

Input vectors are standardised; trained weights are returned as numpy arrays. Training uses one thread: for networks
this small, two threads mostly wait for each other, and the order of sums would depend on the number of threads. The
random state and the number of threads of the process are restored afterwards.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.adamw import adamw

from ..data.memmap import Floats, Indices

# The minimum number of steps per epoch. With fewer than about 1,000 clips, an epoch is several passes over the clips,
# so that the learning rate and the patience have the same effect on a small corpus as on RAVDESS (68 steps of 16
# clips).
MIN_STEPS_PER_EPOCH = 60

# The size in bytes of the vectors read at a time, for several batches: a file is read in chunks of some hundred rows,
# and a chunk is still in the processor's cache when its batches are used.
BYTES_PER_READ = 2**21
EVALUATION_BATCH_SIZE = 1024  # held-out rows that go through the network at a time

PLATEAU = 1e-4  # relative decrease below the lowest loss that counts as an improvement

History = dict[str, list[float]]  # learning curves: one value per epoch


class Rows(Protocol):
    """Vectors (n, L, D), or frames (n, L, T, D), that are not in memory: `rows[numbers]` reads selected rows."""

    shape: tuple[int, ...]

    def __getitem__(self, rows: Indices) -> Floats: ...


@dataclass(frozen=True)
class TrainingSettings:
    """The parameters of the training loop."""

    lr: float
    layer_lr: float  # learning rate of the layer scores
    epochs: int  # maximum number of epochs
    batch_size: int
    patience: int  # training stops after this number of epochs without a lower held-out loss
    min_steps: int = MIN_STEPS_PER_EPOCH
    weight_decay: float = 0.01
    evaluation_batch_size: int = EVALUATION_BATCH_SIZE


@dataclass(frozen=True)
class TrainingSet:
    """The data that a network is trained on."""

    X: Floats | Rows  # (n, …)
    y: Indices  # (n,) class indices
    train: Indices  # row numbers of the training rows
    held: Indices  # row numbers held out for early stopping; if empty, all epochs are run
    weights: Floats  # (C,) class weights


@dataclass(frozen=True)
class TrainedWeights:
    """The weights of a trained network as arrays, and its learning curves."""

    coefs: list[Floats]  # (in, out) for each linear layer
    intercepts: list[Floats]  # (out,) for each linear layer
    layer_weights: Floats  # (L,), positive, with sum 1
    history: History = field(default_factory=dict)


class Mixing(nn.Module):
    """Base of the networks that weight layers by the softmax of `layer_scores` (L,)."""

    layer_scores: nn.Parameter


class Network(Mixing):
    """(n, L, D) -> (n, C): a softmax-weighted sum over layers, then a classifier with one hidden layer or none."""

    def __init__(self, n_layers: int, dim: int, n_classes: int, hidden: int | None, dropout: float) -> None:
        super().__init__()
        self.layer_scores = nn.Parameter(torch.zeros(n_layers))  # uniform weights at first
        widths = [dim, *([hidden] if hidden else []), n_classes]
        *hidden_layers, self.last = (nn.Linear(a, b) for a, b in pairwise(widths))
        self.hidden = nn.ModuleList(hidden_layers)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.layer_scores.softmax(0)
        h = x[:, 0] if len(weights) == 1 else torch.einsum("nld,l->nd", x, weights)  # (n, D)
        for layer in self.hidden:
            h = self.dropout(torch.relu(layer(h)))  # (n, hidden)
        logits: torch.Tensor = self.last(h)
        return logits


N = TypeVar("N", bound=Mixing)

_lock = threading.RLock()


def fit_vectors(
    data: TrainingSet, hidden: int | None, dropout: float, settings: TrainingSettings, seed: int
) -> TrainedWeights:
    """Train the network over vectors (n, L, D)."""
    _, n_layers, dim = data.X.shape
    network, history = fit_network(
        lambda: Network(n_layers, dim, len(data.weights), hidden, dropout), data, settings, seed
    )
    layers = [*network.hidden, network.last]
    return TrainedWeights(
        [layer.weight.detach().numpy().T.copy() for layer in layers],
        [layer.bias.detach().numpy().copy() for layer in layers],
        network.layer_scores.detach().softmax(0).numpy().copy(),
        history,
    )


def fit_network(build: Callable[[], N], data: TrainingSet, settings: TrainingSettings, seed: int) -> tuple[N, History]:
    """Build and train a network with early stopping; return it with the weights of the epoch of lowest held-out loss.

    Batches are drawn from all training rows in the same order whether or not X is in memory, so both give the same
    network.
    """
    X = data.X
    with one_thread(seed):
        network = build()
        inputs = torch.from_numpy(X) if isinstance(X, np.ndarray) else _RowReader(X)
        targets, weights = torch.from_numpy(data.y), torch.from_numpy(data.weights)
        train, held = torch.from_numpy(data.train), torch.from_numpy(data.held)
        return network, _run_epochs(network, inputs, targets, weights, train, held, settings)


class _RowReader:
    """Rows that are not in memory, indexed like a tensor.

    Each selection is copied into memory that torch allocates, so that it is aligned as a tensor of all rows would be.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows, self.shape = rows, rows.shape

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.tensor(self.rows[rows.numpy()])


def _run_epochs(
    network: Mixing,
    X: torch.Tensor | _RowReader,
    y: torch.Tensor,
    weights: torch.Tensor,
    train: torch.Tensor,
    held: torch.Tensor,
    settings: TrainingSettings,
) -> History:
    optimizer = _make_optimizer(network, settings)
    history: History = {}
    best, best_loss, waited = copy.deepcopy(network.state_dict()), np.inf, 0
    for _ in range(settings.epochs):
        _append(history, "train", *_run_epoch(network, optimizer, X, y, weights, train, settings))
        if not len(held):
            continue
        loss, accuracy = _evaluate(network, X, y, weights, held, settings.evaluation_batch_size)
        _append(history, "val", loss, accuracy)
        optimizer.adapt_rates(loss)
        if loss < best_loss:
            best, best_loss, waited = copy.deepcopy(network.state_dict()), loss, 0
        elif (waited := waited + 1) >= settings.patience:
            break
    if len(held):
        network.load_state_dict(best)
    return history


def _run_epoch(
    network: Mixing,
    optimizer: AdamW,
    X: torch.Tensor | _RowReader,
    y: torch.Tensor,
    weights: torch.Tensor,
    train: torch.Tensor,
    settings: TrainingSettings,
) -> tuple[float, float]:
    """Train for one or more passes over the training rows in new random orders.

    For example, 60 steps of 16 rows need two passes over 500 training rows. Returns the mean loss and the accuracy,
    both measured with dropout.
    """
    network.train()
    loss_sum, hits = 0.0, 0
    passes = max(1, -(-settings.min_steps * settings.batch_size // len(train)))  # rounded up
    order = torch.cat([train[torch.randperm(len(train))] for _ in range(passes)])
    for batch, x in _batches(X, order, settings.batch_size):
        logits = network(x)
        loss = cross_entropy(logits, y[batch], weights)
        loss.backward()
        optimizer.step()
        loss_sum += float(loss.detach()) * len(batch)
        hits += int((logits.argmax(1) == y[batch]).sum())
    return loss_sum / len(order), hits / len(order)


def _batches(
    X: torch.Tensor | _RowReader, order: torch.Tensor, size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Iterate over batches of `size` rows in the given order: the row numbers, and their vectors (size, …).

    Vectors are read for several batches at a time. For example, a batch of 16 rows of 13 * 768 float32 values has
    638,976 bytes, so `BYTES_PER_READ` = 2**21 reads three batches, 48 rows, at a time.
    """
    batches_per_read = max(1, BYTES_PER_READ // (4 * size * math.prod(X.shape[1:])))
    for rows in torch.split(order, batches_per_read * size):
        yield from zip(rows.split(size), X[rows].split(size), strict=True)


@torch.no_grad()
def _evaluate(
    network: Mixing,
    X: torch.Tensor | _RowReader,
    y: torch.Tensor,
    weights: torch.Tensor,
    held: torch.Tensor,
    batch_size: int,
) -> tuple[float, float]:
    """Return the weighted loss and the accuracy on the held-out rows."""
    network.eval()
    logits = torch.cat([network(x) for _, x in _batches(X, held, batch_size)])
    truth = y[held]
    return float(cross_entropy(logits, truth, weights)), float((logits.argmax(1) == truth).float().mean())


class AdamW:
    """torch's fused AdamW for groups of (parameters, learning rate, weight decay), with rates that halve on a plateau.

    torch's own `Optimizer` class gives the same numbers, but its first instance loads torch's compiler, which takes
    1.5 s in each process.
    """

    def __init__(self, groups: Sequence[tuple[list[torch.Tensor], float, float]]) -> None:
        self.groups = groups
        self.means, self.squares, self.steps = (
            [[make(p) for p in params] for params, _, _ in groups]
            for make in (torch.zeros_like, torch.zeros_like, lambda p: torch.tensor(0.0))
        )
        self.best, self.bad, self.scale = np.inf, 0, 1.0

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient, and clear the gradients."""
        for (params, rate, decay), *state in zip(self.groups, self.means, self.squares, self.steps, strict=True):
            updated = [n for n, p in enumerate(params) if p.grad is not None]
            chosen = [[column[n] for n in updated] for column in (params, *state)]
            adamw(
                chosen[0],
                [p.grad for p in chosen[0] if p.grad is not None],
                chosen[1],
                chosen[2],
                [],
                chosen[3],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=rate * self.scale,
                weight_decay=decay,
                eps=1e-8,
                maximize=False,
            )
            for p in params:
                p.grad = None

    def adapt_rates(self, loss: float) -> None:
        """Halve the learning rates after two epochs in a row without improvement; `loss` is that of the last epoch."""
        self.bad += 1
        if loss < self.best * (1 - PLATEAU):
            self.best, self.bad = loss, 0
        if self.bad > 1:
            self.scale, self.bad = self.scale / 2, 0


def _make_optimizer(network: Mixing, settings: TrainingSettings) -> AdamW:
    """Return AdamW with two groups: the weights, and the layer scores with their own rate and without weight decay.

    The layer scores are few (13 for a base model) and shared by all data, which is why they can learn faster.
    """
    weights: list[torch.Tensor] = [p for p in network.parameters() if p is not network.layer_scores]
    return AdamW([(weights, settings.lr, settings.weight_decay), ([network.layer_scores], settings.layer_lr, 0.0)])


def _append(history: History, part: str, loss: float, accuracy: float) -> None:
    history.setdefault(f"{part}_loss", []).append(loss)
    history.setdefault(f"{part}_accuracy", []).append(accuracy)


@contextmanager
def one_thread(seed: int) -> Iterator[None]:
    """Run torch on one thread and from one seed, and restore both afterwards.

    Both are global to the process, so a lock lets only one thread of the process enter at a time.
    """
    with _lock, torch.random.fork_rng(devices=[]):
        threads = torch.get_num_threads()
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
