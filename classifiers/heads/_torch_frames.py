"""The networks over frames: a 2-D CNN and attention pooling. Padding does not change their results.

Frames are (n, L, T, D), standardised, with NaN after the last frame of a clip; trained weights are returned as numpy
arrays. Padding is masked everywhere: in batch statistics, convolution, pooling, attention and gradients.
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
from ._torch import History, Mixing, TrainingSet, TrainingSettings, fit_network, one_thread

Lengths = torch.Tensor | None  # (n,) number of frames of each clip; None if no clip has padding

CHANNELS, BLOCKS, UNITS = 32, 4, 64  # of the CNN
SHORT, LONG = (
    4,
    10,
)  # kernel size of the CNN along the shorter and along the longer of the two axes, time and dimensions
ATTENTION, HIDDEN = 128, (256, 128)  # units of the attention, and of the hidden layers after it
CLIPS_AT_ONCE = 16  # clips that go through a network at a time outside training: 0.4 GB for a CNN over 124 x 768


@dataclass(frozen=True)
class Shape:
    """The kind and the sizes of a network over frames."""

    kind: str  # "conv" or "attention"
    n_layers: int
    n_frames: int
    dim: int
    n_classes: int


class FrameNetwork(Mixing):
    """(n, L, T, D) -> (n, C): a softmax-weighted sum over layers, then `body` and `tail`.

    `body` turns a clip into one vector, and `tail` classifies the vector.
    """

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.layer_scores = nn.Parameter(torch.zeros(shape.n_layers))  # uniform weights at first
        make_parts = _make_conv if shape.kind == "conv" else _make_attention
        self.body, self.tail = make_parts(shape, dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.tail(self.pooled(x))
        return logits

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """Return one vector (features,) per clip, which does not depend on the padding after the clip."""
        pooled: torch.Tensor = self.body(*self._mix_layers(x))
        return pooled

    def attention_weights(self, x: torch.Tensor) -> torch.Tensor:
        """Return the weight (n, T) of each frame, for a network with attention."""
        if not isinstance(self.body, Attention):
            raise TypeError(
                f"got a network with the body {type(self.body).__name__}; wanted Attention. Use the head 'attention'."
            )
        return self.body.weights(*self._mix_layers(x))

    def _mix_layers(self, x: torch.Tensor) -> tuple[torch.Tensor, Lengths]:
        """Return the weighted sum over layers (n, T, D), with padding set to zero, and the lengths of the clips."""
        lengths = _count_frames(x)
        if lengths is not None:
            x = x.nan_to_num(nan=0.0)
        if x.shape[1] == 1:
            return x[:, 0], lengths
        return torch.matmul(self.layer_scores.softmax(0), x.flatten(2)).reshape(x[:, 0].shape), lengths


def _count_frames(x: torch.Tensor) -> Lengths:
    real = ~x[:, 0, :, 0].isnan()
    return None if real.all() else real.sum(1)


def _padding(lengths: torch.Tensor, n_frames: int) -> torch.Tensor:
    """Return a mask (n, T) that is true after the last frame of a clip.

    For lengths [1, 3] and three frames: [[False, True, True], [False, False, False]].
    """
    return torch.arange(n_frames) >= lengths[:, None]


def _make_conv(shape: Shape, dropout: float) -> tuple[nn.Module, nn.Module]:
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


def _make_attention(shape: Shape, dropout: float) -> tuple[nn.Module, nn.Module]:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise((shape.dim, *HIDDEN)):
        layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(dropout)]
    return Attention(shape.dim), nn.Sequential(*layers, nn.Linear(HIDDEN[-1], shape.n_classes))


class Trunk(nn.Module):
    """(n, T, D) -> (n, 32 * T' * D'): four blocks of convolution, norm, pooling, ReLU and dropout.

    Each block halves both axes, rounded down but not below 1: 124 frames of 768 dimensions become T' = 7 and D' = 48.
    """

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
    """(n, C, T, D) -> (n, 32, T // 2, D // 2), with zeros after the last frame of a clip.

    An axis of length 1 is not pooled. Pooling comes before ReLU: the result is the same, because ReLU keeps the order
    of values, and ReLU then has a quarter of the values.
    """

    def __init__(self, channels: int, kernel: tuple[int, int], dropout: float) -> None:
        super().__init__()
        # Padding "same" for an even kernel: `forward` adds one more zero at the end of each axis than at its start.
        # There is no bias, because the norm would remove it.
        padding = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2)
        self.conv = nn.Conv2d(channels, CHANNELS, kernel, padding=padding, bias=False)
        self.norm = Normed(CHANNELS)
        self.dropout = nn.Dropout(dropout)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: torch.Tensor, lengths: Lengths) -> tuple[torch.Tensor, Lengths]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.training and _bf16()):
            x = self.conv(F.pad(x, (0, 1, 0, 1)))
        x = _normalise(x, lengths, self.norm)
        kernel = min(2, x.shape[2]), min(2, x.shape[3])
        x = F.max_pool2d(x, kernel).relu()
        if lengths is not None:
            lengths = (lengths // kernel[0]).clamp(min=1)
            x = x.masked_fill(_padding(lengths, x.shape[2])[:, None, :, None], 0)
        return self.dropout(x), lengths


def _normalise(x: torch.Tensor, lengths: Lengths, norm: nn.Module) -> torch.Tensor:
    """Apply batch norm to the frames of x (n, C, T, D) that are not padding, and set padding to zero."""
    if lengths is None:
        normed: torch.Tensor = norm(x)
        return normed
    real = ~_padding(lengths, x.shape[2])
    channels_last = x.permute(0, 2, 3, 1)  # (n, T, D, C)
    frames = norm(channels_last[real].flatten(0, 1)).unflatten(0, (-1, x.shape[3]))
    return torch.zeros_like(channels_last, dtype=frames.dtype).index_put((real,), frames).permute(0, 3, 1, 2)


class Normed(nn.Module):
    """Batch norm over all axes except the second.

    A training batch with a single value per channel has no deviation; it is normalised with the running statistics, as
    in prediction.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        use_batch = self.training and x.numel() > x.shape[1]
        return F.batch_norm(x, self.mean, self.var, self.weight, self.bias, use_batch)  # type: ignore[arg-type]


class Attention(nn.Module):
    """(n, T, D) -> (n, D): the mean of the frames, weighted by a softmax of w·tanh(V h + b) without padding."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.keys, self.score = nn.Linear(dim, ATTENTION), nn.Linear(ATTENTION, 1, bias=False)

    def forward(self, x: torch.Tensor, lengths: Lengths) -> torch.Tensor:
        return torch.matmul(self.weights(x, lengths)[:, None], x)[:, 0]

    def weights(self, x: torch.Tensor, lengths: Lengths) -> torch.Tensor:
        """Return the weights (n, T) of the frames, with sum 1 over T, and 0 for padding."""
        scores = self.score(self.keys(x).tanh())[..., 0]
        if lengths is not None:
            scores = scores.masked_fill(_padding(lengths, x.shape[1]), -torch.inf)
        shares: torch.Tensor = scores.softmax(1)
        return shares


@functools.cache
def _bf16() -> bool:
    """Whether the processor multiplies in bf16. Convolutions are then trained in bf16, which is twice as fast."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and bool(torch.cpu._is_avx512_bf16_supported())


def fit_frames(
    shape: Shape, dropout: float, data: TrainingSet, settings: TrainingSettings, seed: int
) -> tuple[dict[str, Floats], History]:
    """Train a network on frames (n, L, T, D); return its weights by name, and its learning curves."""
    network, history = fit_network(lambda: FrameNetwork(shape, dropout), data, settings, seed)
    return {name: value.numpy().copy() for name, value in network.state_dict().items()}, history


def predict_frames(shape: Shape, weights: dict[str, Floats], blocks: Iterable[Floats]) -> NDArray[np.float64]:
    """Return the probabilities (n, C) of blocks of frames (n, L, T, D).

    The tail runs in float64, so that the prediction for a clip does not depend on the other clips of its batch. Raises
    RuntimeError if the weights do not have the names and sizes of a network of this shape.
    """
    with one_thread(0), torch.no_grad():
        network = _load_network(shape, weights)
        batches = (batch for X in blocks for batch in torch.from_numpy(X).split(CLIPS_AT_ONCE))
        logits = [network.tail(network.pooled(batch).double()) for batch in batches]
        proba: NDArray[np.float64] = torch.cat(logits).softmax(1).numpy()
    return proba


def attend_frames(shape: Shape, weights: dict[str, Floats], X: Floats) -> Floats:
    """Return the attention weights (n, T) of frames X (n, L, T, D), with sum 1 over T, and 0 for padding."""
    with one_thread(0), torch.no_grad():
        shares: Floats = _load_network(shape, weights).attention_weights(torch.from_numpy(X)).numpy()
    return shares


def _load_network(shape: Shape, weights: dict[str, Floats]) -> FrameNetwork:
    """Return the network with these weights.

    The network is first built on the device "meta", without memory for its weights, so that weights of other sizes are
    refused before memory is allocated.
    """
    with torch.device("meta"):
        network = FrameNetwork(shape, 0.0)
    state = {name: torch.tensor(np.asarray(value, np.float32)) for name, value in weights.items()}
    network.load_state_dict(state, strict=True, assign=True)
    network.eval().tail.double()
    return network
