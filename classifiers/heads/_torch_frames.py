"""The networks over frames: a 2-D CNN and attention pooling, both blind to what stands behind a clip's end.

Frames come in as (n, L, T, D), standardised, with NaN rows beyond a clip's end; weights go out as numpy arrays. Padded
frames take part in nothing: not in a batch's statistics, nor in convolution, pooling, attention or gradients.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from ..data.memmap import Floats
from ._torch import History, Mixing, Sample, TrainingSettings, fit_network, one_thread

Lengths = torch.Tensor | None  # (n,) frames that each clip has; None where all have all

CHANNELS, BLOCKS, UNITS = 32, 4, 64  # of the CNN
SHORT, LONG = 4, 10  # its kernel, along the shorter and the longer axis
ATTENTION, HIDDEN = 128, (256, 128)  # units of the attention, and of the layers behind it
AT_ONCE = 16  # clips that go through a network at once where nothing is learned: 0.4 GB of a CNN over 124 x 768


@dataclass(frozen=True)
class Shape:
    """What a network reads and gives."""

    kind: str  # "conv", "attention"
    n_layers: int
    n_frames: int
    dim: int
    n_classes: int


class FrameNetwork(Mixing):
    """(n, L, T, D) -> (n, C): a softmax-weighted sum over layers, then `body` (clips to vectors) and `tail`."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.layer_scores = nn.Parameter(torch.zeros(shape.n_layers))  # all layers count the same at first
        made = _conv if shape.kind == "conv" else _attention
        self.body, self.tail = made(shape, dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.tail(self.pooled(x))
        return logits

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """(n, features), whatever the number of frames; a clip's do not depend on the padding behind it."""
        pooled: torch.Tensor = self.body(*self._mixed(x))
        return pooled

    def attended(self, x: torch.Tensor) -> torch.Tensor:
        """(n, T): how much each frame counts, of a network that attends."""
        if not isinstance(self.body, Attention):
            raise TypeError(f"got a network of {type(self.body).__name__}; wanted one that attends to frames.")
        return self.body.weights(*self._mixed(x))

    def _mixed(self, x: torch.Tensor) -> tuple[torch.Tensor, Lengths]:
        """(n, T, D), and the frames that each clip has."""
        lengths = _lengths(x)
        if lengths is not None:
            x = x.nan_to_num(nan=0.0)
        if x.shape[1] == 1:
            return x[:, 0], lengths
        return torch.matmul(self.layer_scores.softmax(0), x.flatten(2)).reshape(x[:, 0].shape), lengths


def _lengths(x: torch.Tensor) -> Lengths:
    real = ~x[:, 0, :, 0].isnan()
    return None if real.all() else real.sum(1)


def _beyond(lengths: torch.Tensor, n_frames: int) -> torch.Tensor:
    """(n, T): true behind a clip's end."""
    return torch.arange(n_frames) >= lengths[:, None]


def _conv(shape: Shape, dropout: float) -> tuple[nn.Module, nn.Module]:
    trunk = Trunk(shape, dropout)
    frames, dims = shape.n_frames, shape.dim
    for _ in range(BLOCKS):
        frames, dims = max(1, frames // 2), max(1, dims // 2)
    tail = nn.Sequential(
        nn.Linear(CHANNELS * frames * dims, UNITS),
        nn.Dropout(dropout),
        Normed(UNITS),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(UNITS, shape.n_classes),
    )
    return trunk, tail


def _attention(shape: Shape, dropout: float) -> tuple[nn.Module, nn.Module]:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise((shape.dim, *HIDDEN)):
        layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(dropout)]
    return Attention(shape.dim), nn.Sequential(*layers, nn.Linear(HIDDEN[-1], shape.n_classes))


class Trunk(nn.Module):
    """(n, T, D) -> (n, 32 * T' * D'): four blocks of convolution, norm, pooling, ReLU and dropout."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        kernel = (SHORT, LONG) if shape.n_frames <= shape.dim else (LONG, SHORT)
        self.blocks = nn.ModuleList(Block(n, kernel, dropout) for n in (1, *[CHANNELS] * (BLOCKS - 1)))

    def forward(self, x: torch.Tensor, lengths: Lengths) -> torch.Tensor:
        x = x[:, None].contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x, lengths = block(x, lengths)
        return x.float().flatten(1)


class Block(nn.Module):
    """(n, C, T, D) -> (n, 32, T // 2, D // 2), zero behind a clip's end; an axis of one is not pooled.

    Pooling stands before ReLU, which gives the same on a quarter of the numbers: the largest stays the largest.
    """

    def __init__(self, channels: int, kernel: tuple[int, int], dropout: float) -> None:
        super().__init__()
        # "same" for an even kernel: one zero more behind than in front. The norm takes away whatever a bias would add.
        padding = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2)
        self.conv = nn.Conv2d(channels, CHANNELS, kernel, padding=padding, bias=False)
        self.norm = Normed(CHANNELS)
        self.dropout = nn.Dropout(dropout)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: torch.Tensor, lengths: Lengths) -> tuple[torch.Tensor, Lengths]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.training and _bf16()):
            x = self.conv(F.pad(x, (0, 1, 0, 1)))
        x = _normed(x, lengths, self.norm)
        kernel = min(2, x.shape[2]), min(2, x.shape[3])
        x = F.max_pool2d(x, kernel).relu()
        if lengths is not None:
            lengths = (lengths // kernel[0]).clamp(min=1)
            x = x.masked_fill(_beyond(lengths, x.shape[2])[:, None, :, None], 0)
        return self.dropout(x), lengths


def _normed(x: torch.Tensor, lengths: Lengths, norm: nn.Module) -> torch.Tensor:
    """Batch norm over the frames that clips have, and zero in the others: (n, C, T, D) like x."""
    if lengths is None:
        normed: torch.Tensor = norm(x)
        return normed
    real = ~_beyond(lengths, x.shape[2])
    last = x.permute(0, 2, 3, 1)  # (n, T, D, C)
    frames = norm(last[real].flatten(0, 1)).unflatten(0, (-1, x.shape[3]))
    return torch.zeros_like(last, dtype=frames.dtype).index_put((real,), frames).permute(0, 3, 1, 2)


class Normed(nn.Module):
    """Batch norm over all axes but the second. One number a channel has no deviation: it is normed as in prediction."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        learns = self.training and x.numel() > x.shape[1]
        return F.batch_norm(x, self.mean, self.var, self.weight, self.bias, learns)  # type: ignore[arg-type]


class Attention(nn.Module):
    """(n, T, D) -> (n, D): the frames, weighted by a softmax over those that a clip has of w·tanh(V h + b)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.keys, self.score = nn.Linear(dim, ATTENTION), nn.Linear(ATTENTION, 1, bias=False)

    def forward(self, x: torch.Tensor, lengths: Lengths) -> torch.Tensor:
        return torch.matmul(self.weights(x, lengths)[:, None], x)[:, 0]

    def weights(self, x: torch.Tensor, lengths: Lengths) -> torch.Tensor:
        """(n, T), sum 1; 0 behind a clip's end."""
        scores = self.score(self.keys(x).tanh())[..., 0]
        if lengths is not None:
            scores = scores.masked_fill(_beyond(lengths, x.shape[1]), -torch.inf)
        shares: torch.Tensor = scores.softmax(1)
        return shares


@functools.cache
def _bf16() -> bool:
    """Whether the processor multiplies in bf16: convolutions are learned in it, and are twice as fast."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and bool(torch.cpu._is_avx512_bf16_supported())


def fit_frames(
    shape: Shape, dropout: float, sample: Sample, recipe: TrainingSettings, seed: int
) -> tuple[dict[str, Floats], History]:
    """Train a network on frames (n, L, T, D); its weights by name, and its curves."""
    network, history = fit_network(lambda: FrameNetwork(shape, dropout), sample, recipe, seed)
    return {name: value.numpy().copy() for name, value in network.state_dict().items()}, history


def predict_frames(shape: Shape, weights: dict[str, Floats], blocks: Iterable[Floats]) -> NDArray[np.float64]:
    """(n, C) probabilities of blocks of frames (n, L, T, D). Raises RuntimeError where the weights do not fit.

    What stands behind the convolutions runs in float64, so that a clip's answer does not depend on its company.
    """
    with one_thread(0), torch.no_grad():
        network = _network(shape, weights)
        logits = [network.tail(network.pooled(x).double()) for X in blocks for x in torch.from_numpy(X).split(AT_ONCE)]
        proba: NDArray[np.float64] = torch.cat(logits).softmax(1).numpy()
    return proba


def attend_frames(shape: Shape, weights: dict[str, Floats], X: Floats) -> Floats:
    """(n, T) of frames (n, L, T, D): how much each counts, sum 1; 0 behind a clip's end."""
    with one_thread(0), torch.no_grad():
        counted: Floats = _network(shape, weights).attended(torch.from_numpy(X)).numpy()
    return counted


def _network(shape: Shape, weights: dict[str, Floats]) -> FrameNetwork:
    """The network that these numbers make; none is made up, or given room, before all are known to fit."""
    with torch.device("meta"):
        network = FrameNetwork(shape, 0.0)
    state = {name: torch.tensor(np.asarray(value, np.float32)) for name, value in weights.items()}
    network.load_state_dict(state, strict=True, assign=True)
    network.eval().tail.double()
    return network
