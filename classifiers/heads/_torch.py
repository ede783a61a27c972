"""The fit loop of the torch heads (AdamW, early stopping), and the network over pooled vectors: one hidden layer.

Vectors come in standardised, from an array or from whatever reads some of them; weights go out as numpy arrays. One
thread: on networks this small two threads wait for each other, and the order of sums would depend on their number. The
process's random state is left as it was.
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

# An epoch makes at least this many steps: on fewer than about 1,000 clips it is several passes over them, so that the
# learning rate and the patience mean on a small corpus what they mean on RAVDESS (68 steps of 16 clips).
STEPS_PER_EPOCH = 60

# Bytes of vectors that are taken at once, for as many batches as they make: a file is read some hundred rows at a time,
# and what was taken is still in the processor's cache when its batch comes.
AHEAD = 2**21
MEASURED = 1024  # held-out rows that go through the network at once

PLATEAU = 1e-4  # by which share of the best loss a loss must be better

History = dict[str, list[float]]


class Rows(Protocol):
    """Vectors (n, L, D), or frames (n, L, T, D), that do not lie in memory: `rows[numbers]` reads some."""

    shape: tuple[int, ...]

    def __getitem__(self, rows: Indices) -> Floats: ...


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained."""

    lr: float
    layer_lr: float
    epochs: int
    batch_size: int
    patience: int
    steps: int = STEPS_PER_EPOCH  # that an epoch has at least
    weight_decay: float = 0.01
    measured: int = MEASURED  # held-out rows that go through the network at once


@dataclass(frozen=True)
class Sample:
    """What a network is trained on: rows `train` of X (n, …), classes y (n,), each class with its weight (C,)."""

    X: Floats | Rows
    y: Indices
    train: Indices
    held: Indices  # rows for early stopping; none: every epoch is run
    weights: Floats


@dataclass(frozen=True)
class Fitted:
    """A trained network as numbers."""

    coefs: list[Floats]  # one (in, out) a linear layer
    intercepts: list[Floats]  # one (out,) a linear layer
    layer_weights: Floats  # (L,), positive, sum 1
    history: History = field(default_factory=dict)


class Mixing(nn.Module):
    """A network that weighs layers by the softmax of `layer_scores` (L,)."""

    layer_scores: nn.Parameter


class Network(Mixing):
    """(n, L, D) -> (n, C): a softmax-weighted sum over layers, then one hidden layer, or none."""

    def __init__(self, n_layers: int, dim: int, n_classes: int, hidden: int | None, dropout: float) -> None:
        super().__init__()
        self.layer_scores = nn.Parameter(torch.zeros(n_layers))  # all layers count the same at first
        widths = [dim, *([hidden] if hidden else []), n_classes]
        *hiddens, self.last = (nn.Linear(a, b) for a, b in pairwise(widths))
        self.hidden = nn.ModuleList(hiddens)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.layer_scores.softmax(0)
        h = x[:, 0] if len(weights) == 1 else torch.einsum("nld,l->nd", x, weights)  # (n, D)
        for layer in self.hidden:
            h = self.dropout(torch.relu(layer(h)))  # (n, hidden)
        logits: torch.Tensor = self.last(h)
        return logits


N = TypeVar("N", bound=Mixing)

_alone = threading.RLock()


def fit_vectors(sample: Sample, hidden: int | None, dropout: float, recipe: TrainingSettings, seed: int) -> Fitted:
    """Train the network over vectors (n, L, D)."""
    _, n_layers, dim = sample.X.shape
    network, history = fit_network(
        lambda: Network(n_layers, dim, len(sample.weights), hidden, dropout), sample, recipe, seed
    )
    layers = [*network.hidden, network.last]
    return Fitted(
        [layer.weight.detach().numpy().T.copy() for layer in layers],
        [layer.bias.detach().numpy().copy() for layer in layers],
        network.layer_scores.detach().softmax(0).numpy().copy(),
        history,
    )


def fit_network(build: Callable[[], N], sample: Sample, recipe: TrainingSettings, seed: int) -> tuple[N, History]:
    """Build and train a network; stop early, and go back to the best epoch, by the loss on the held-out rows.

    Rows are drawn over all of X whether it lies in memory or not: the same numbers give the same network.
    """
    X = sample.X
    with one_thread(seed):
        network = build()
        inputs = torch.from_numpy(X) if isinstance(X, np.ndarray) else _Read(X)
        targets, weights = torch.from_numpy(sample.y), torch.from_numpy(sample.weights)
        train, held = torch.from_numpy(sample.train), torch.from_numpy(sample.held)
        return network, _epochs(network, inputs, targets, weights, train, held, recipe)


class _Read:
    """Rows as a tensor of them all would give them: what torch allocates, and so aligns, itself."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.shape = rows, rows.shape

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.tensor(self.rows[rows.numpy()])


def _epochs(
    network: Mixing,
    X: torch.Tensor | _Read,
    y: torch.Tensor,
    weights: torch.Tensor,
    train: torch.Tensor,
    held: torch.Tensor,
    recipe: TrainingSettings,
) -> History:
    optimizer = _optimizer(network, recipe)
    history: History = {}
    best, best_loss, waited = copy.deepcopy(network.state_dict()), np.inf, 0
    for _ in range(recipe.epochs):
        _note(history, "train", *_epoch(network, optimizer, X, y, weights, train, recipe))
        if not len(held):
            continue
        loss, accuracy = _measure(network, X, y, weights, held, recipe.measured)
        _note(history, "val", loss, accuracy)
        optimizer.measured(loss)
        if loss < best_loss:
            best, best_loss, waited = copy.deepcopy(network.state_dict()), loss, 0
        elif (waited := waited + 1) >= recipe.patience:
            break
    if len(held):
        network.load_state_dict(best)
    return history


def _epoch(
    network: Mixing,
    optimizer: AdamW,
    X: torch.Tensor | _Read,
    y: torch.Tensor,
    weights: torch.Tensor,
    train: torch.Tensor,
    recipe: TrainingSettings,
) -> tuple[float, float]:
    """One pass, or several, over the training rows in a new order; the mean loss and accuracy, with dropout on."""
    network.train()
    losses, hits = 0.0, 0
    passes = max(1, -(-recipe.steps * recipe.batch_size // len(train)))
    order = torch.cat([train[torch.randperm(len(train))] for _ in range(passes)])
    for batch, x in _batches(X, order, recipe.batch_size):
        logits = network(x)
        loss = cross_entropy(logits, y[batch], weights)
        loss.backward()
        optimizer.step()
        losses += float(loss.detach()) * len(batch)
        hits += int((logits.argmax(1) == y[batch]).sum())
    return losses / len(order), hits / len(order)


def _batches(X: torch.Tensor | _Read, order: torch.Tensor, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The rows of each batch and their vectors (size, …)."""
    at_once = max(1, AHEAD // (4 * size * math.prod(X.shape[1:])))
    for rows in torch.split(order, at_once * size):
        yield from zip(rows.split(size), X[rows].split(size), strict=True)


@torch.no_grad()
def _measure(
    network: Mixing, X: torch.Tensor | _Read, y: torch.Tensor, weights: torch.Tensor, held: torch.Tensor, at_once: int
) -> tuple[float, float]:
    network.eval()
    logits = torch.cat([network(x) for _, x in _batches(X, held, at_once)])
    truth = y[held]
    return float(cross_entropy(logits, truth, weights)), float((logits.argmax(1) == truth).float().mean())


class AdamW:
    """torch's fused AdamW for groups of (parameters, rate, decay); rates are halved where the loss stays on a plateau.

    torch's own `Optimizer` gives the same numbers, but loads torch's compiler when it is first made: 1.5 s a process.
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
        """Move every parameter that has a gradient, and forget the gradients."""
        for (params, rate, decay), *state in zip(self.groups, self.means, self.squares, self.steps, strict=True):
            moved = [n for n, p in enumerate(params) if p.grad is not None]
            chosen = [[column[n] for n in moved] for column in (params, *state)]
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

    def measured(self, loss: float) -> None:
        """Hear an epoch's loss: after two in a row that are no better than the best, rates are halved."""
        self.bad += 1
        if loss < self.best * (1 - PLATEAU):
            self.best, self.bad = loss, 0
        if self.bad > 1:
            self.scale, self.bad = self.scale / 2, 0


def _optimizer(network: Mixing, recipe: TrainingSettings) -> AdamW:
    """AdamW; the layers' scores, thirteen numbers that all data share, move at a rate of their own, undecayed."""
    weights: list[torch.Tensor] = [p for p in network.parameters() if p is not network.layer_scores]
    return AdamW([(weights, recipe.lr, recipe.weight_decay), ([network.layer_scores], recipe.layer_lr, 0.0)])


def _note(history: History, part: str, loss: float, accuracy: float) -> None:
    history.setdefault(f"{part}_loss", []).append(loss)
    history.setdefault(f"{part}_accuracy", []).append(accuracy)


@contextmanager
def one_thread(seed: int) -> Iterator[None]:
    """torch on one thread and from one seed, and afterwards as it was; one at a time, for both are the process's."""
    with _alone, torch.random.fork_rng(devices=[]):
        threads = torch.get_num_threads()
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
