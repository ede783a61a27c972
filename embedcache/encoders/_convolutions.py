"""The convolutions of wav2vec 2.0 and HuBERT over a pack: waveforms in, one row of C numbers per 20 ms out.

Three exact tricks, each explained where it stands: slots (`Layout`), overlapping rows (`Convolution`), and the folded
group norm with split operands (`FirstConvolution`).

Shapes: n clips, S samples and T frames of one clip, t frames of some convolution, C = 512 channels, k taps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ._linear import Linear, Norm, product
from ._pooling import runs

TILE = 64  # slots (1.28 s) whose convolutions run together on a CPU: their widest tensor, 8 MB, stays in its cache
Count = TypeVar("Count", int, Tensor)
Weights = tuple[Tensor, Tensor | None]  # kernels (n, k, C) and biases (n, 1, C) of some clips


@dataclass(frozen=True)
class Layout:
    """Where clips lie in a pack.

    Slots: a clip starts at a multiple of the network's hop (320 samples) and takes one slot more than it has frames.
    A multiple of the hop is a whole number of frames in each of the seven convolutions, so these run over the pack as
    if it were one recording. The last slot of a clip takes the windows that would look into the next one; its frame
    is thrown away. One such slot is enough where a frame sees at most two hops (400 samples of 640): see `fits_slots`.
    """

    frames: tuple[int, ...]  # T of each clip
    starts: tuple[int, ...]  # first slot of each clip
    slots: int

    @classmethod
    def of(cls, frames: Sequence[int]) -> Layout:
        ends = np.cumsum([count + 1 for count in frames]).tolist()
        return cls(tuple(frames), (0, *ends[:-1]), ends[-1])

    def valid(self) -> Tensor:
        """The slots whose frame belongs to a clip, (sum of T,)."""
        return torch.cat([torch.arange(start, start + n) for start, n in zip(self.starts, self.frames, strict=True)])


@dataclass(frozen=True)
class Convolution:
    """One convolution over time: a matrix product over rows that overlap.

    Frames are rows of C numbers. The window of output frame t is the k input rows from s*t on, which lie side by side
    in memory: one row of k*C numbers. The next output's row starts s*C numbers later, inside the first one; a view
    with these strides is the whole im2col matrix, and on a CPU nothing is copied.
    """

    linear: Linear  # (C, k*C)
    norm: Norm | None
    kernel: int
    stride: int

    def __call__(self, x: Tensor) -> Tensor:  # (t, C) -> ((t - k) // s + 1, C)
        count, width = (len(x) - self.kernel) // self.stride + 1, x.shape[1]
        y = self.linear(x.as_strided((count, self.kernel * width), (self.stride * width, 1)))
        return y if self.norm is None else F.gelu(self.norm(y)).to(x.dtype)


@dataclass(frozen=True)
class FirstConvolution:
    """The convolution that reads the waveform; its group norm, where there is one, is folded into its kernel.

    The folded group norm: the norm takes each channel's mean and variance over the clip. A channel is linear in the
    windows w of 10 samples, y = k.w, so its mean is k.E[w] and its variance k'.Cov[w].k: ten means and a covariance of
    10 x 10, in float64, instead of two passes over the widest tensor of the network. Normalising is then a kernel of
    the clip's own, k * gamma / sd, and a bias.
    """

    kernel: Tensor  # (C, k), float64 where a norm is folded in
    bias: Tensor | None  # (C,); a group norm removes it
    group: tuple[Tensor, Tensor, float] | None  # gamma (C,), beta (C,), eps
    norm: Norm | None  # a layer norm over channels instead
    stride: int
    dtype: torch.dtype

    @property
    def width(self) -> int:
        return self.kernel.shape[1]

    def weights(self, waves: Tensor) -> Weights:  # (n, S) -> (n, k, C), (n, 1, C)
        """The kernel and bias of each of some clips of one length, float32."""
        if self.group is None:
            bias = None if self.bias is None else self.bias.expand(len(waves), 1, -1)
            return self.kernel.t().expand(len(waves), -1, -1), bias
        gamma, beta, eps = self.group
        windows = waves.double().unfold(1, self.width, self.stride)  # (n, t, k)
        mean = windows.mean(1)  # (n, k)
        covariance = windows.transpose(1, 2) @ windows / windows.shape[1] - mean[:, :, None] * mean[:, None]
        variance = ((self.kernel @ covariance) * self.kernel).sum(2).clamp_(min=0)  # (n, C)
        scale = gamma / torch.sqrt(variance + eps)
        kernels = self.kernel.t() * scale[:, None]
        biases = beta - (mean @ self.kernel.t()) * scale
        return kernels.float(), biases[:, None].float()

    def __call__(self, windows: Tensor, kernels: Tensor, biases: Tensor | None) -> Tensor:
        """(n, t, k) windows of n clips, each with its own kernel (n, k, C) and bias -> (n * t, C)."""
        if self.dtype != torch.float32:
            windows, kernels = self._split(windows, kernels)
            biases = None if biases is None else biases.to(self.dtype)
        y = self._products(windows, kernels, biases).flatten(0, 1)
        return y if self.norm is None else F.gelu(self.norm(y)).to(self.dtype)

    def _products(self, windows: Tensor, kernels: Tensor, biases: Tensor | None) -> Tensor:
        gelu = self.norm is None
        if len(windows) == 1:
            bias = None if biases is None else biases[0, 0]
            return product(windows[0].contiguous(), kernels[0].t().contiguous(), bias, gelu)[None]
        y = windows @ kernels if biases is None else torch.baddbmm(biases, windows, kernels)
        return torch.ops.aten.gelu_(y) if gelu else y

    def _split(self, windows: Tensor, kernels: Tensor) -> tuple[Tensor, Tensor]:
        """Split operands: a high-pass kernel lives on small differences of samples, which rounding would drown.

        With each factor as high + low, in 8 bits each, high*high + low*high + high*low has 16 bits and is still one
        product, three times as wide: 30 columns, where the kernel's 10 would be padded to 32 anyway.
        """
        high, kernels_high = windows.to(self.dtype), kernels.to(self.dtype)
        low, kernels_low = (windows - high).to(self.dtype), (kernels - kernels_high).to(self.dtype)
        return torch.cat([high, low, high], 2), torch.cat([kernels_high, kernels_high, kernels_low], 1)


@dataclass(frozen=True)
class FrontEnd:
    """All the convolutions."""

    first: FirstConvolution
    others: tuple[Convolution, ...]
    tile: int | None  # slots that run together; None: all, for a GPU

    @classmethod
    def of(cls, extractor: Any, strides: Sequence[int], like: Tensor) -> FrontEnd:
        """The weights of transformers' feature extractor, in the dtype and on the device of `like`."""
        first, *others = extractor.conv_layers
        return cls(
            first=_first(first, strides[0], like),
            others=tuple(_convolution(layer, s, like) for layer, s in zip(others, strides[1:], strict=True)),
            tile=TILE if like.device.type == "cpu" else None,
        )

    @property
    def steps(self) -> list[tuple[int, int]]:
        """(kernel, stride) of each convolution, first to last."""
        return [(self.first.width, self.first.stride), *((c.kernel, c.stride) for c in self.others)]

    @property
    def hop(self) -> int:
        """Samples between two frames: 320."""
        return math.prod(stride for _, stride in self.steps)

    def samples(self, frames: int) -> int:
        """Samples that give so many frames: 400 for one, 320 for each one more."""
        return inputs_of(frames, self.steps)

    def frames(self, waves: Sequence[Tensor]) -> list[int]:
        """T of each clip."""
        return [(len(wave) - self.samples(1)) // self.hop + 1 for wave in waves]

    def __call__(self, waves: Sequence[Tensor], layout: Layout) -> Tensor:
        """(slots, C): the convolutions over the whole pack, a tile at a time."""
        if self.first.group is not None:  # which takes a constant away: without it the folded bias is small
            waves = [wave - wave.mean() for wave in waves]
        pack = waves[0].new_zeros(self.samples(layout.slots) + self.hop)
        for wave, start, n in zip(waves, layout.starts, layout.frames, strict=True):
            used = wave[: self.samples(n)]
            pack[start * self.hop : start * self.hop + len(used)] = used
        # Only clips of one length, sample for sample, have their statistics taken together.
        same = [torch.stack(list(waves[a:b])) for a, b in runs([len(wave) for wave in waves])]
        weights = [self.first.weights(group) for group in same]
        if self.tile is None:
            return self._chain(self._first_of_all(pack, layout, [len(group) for group in same], weights))
        each = [(k[i : i + 1], None if b is None else b[i : i + 1]) for k, b in weights for i in range(len(k))]
        begins = range(0, layout.slots, self.tile)
        tiles = [(begin, min(self.tile, layout.slots - begin)) for begin in begins]
        return torch.cat([self._chain(self._first_of_tile(pack, *tile, layout, each)) for tile in tiles])

    def _chain(self, x: Tensor) -> Tensor:
        for convolution in self.others:
            x = convolution(x)
        return x

    def _windows(self, pack: Tensor, begin: int, clips: int, each: int) -> Tensor:
        """(clips, each, k): windows of clips that lie side by side from window `begin` on, `each` of them a clip."""
        width, stride = self.steps[0]
        return pack.as_strided((clips, each, width), (each * stride, stride, 1), begin * stride)

    def _first_of_tile(
        self, pack: Tensor, begin: int, slots: int, layout: Layout, weights: Sequence[Weights]
    ) -> Tensor:
        """The first convolution's frames from which `slots` frames of the last come, each with its clip's kernel."""
        per_slot = self.hop // self.first.stride
        low, high = begin * per_slot, begin * per_slot + inputs_of(slots, self.steps[1:])
        bounds = [start * per_slot for start in layout.starts]
        ends = [*bounds[1:], max(high, layout.slots * per_slot)]
        parts = []
        for begins, end, weight in zip(bounds, ends, weights, strict=True):
            a, b = max(begins, low), min(end, high)
            if a < b:
                parts.append(self.first(self._windows(pack, a, 1, b - a), *weight))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _first_of_all(self, pack: Tensor, layout: Layout, counts: Sequence[int], weights: Sequence[Weights]) -> Tensor:
        """The same for the whole pack: clips of one length in one batched product."""
        per_slot = self.hop // self.first.stride
        parts, clip = [], 0
        for count, weight in zip(counts, weights, strict=True):
            each = (layout.frames[clip] + 1) * per_slot
            parts.append(self.first(self._windows(pack, layout.starts[clip] * per_slot, count, each), *weight))
            clip += count
        tail = inputs_of(layout.slots, self.steps[1:]) - layout.slots * per_slot
        return torch.cat([*parts, parts[0].new_zeros(tail, parts[0].shape[1])])


def inputs_of(outputs: int, steps: Sequence[tuple[int, int]]) -> int:
    """How many inputs a chain of (kernel, stride) turns into `outputs`."""
    for kernel, stride in reversed(steps):
        outputs = (outputs - 1) * stride + kernel
    return outputs


def receptive_field(config: Any) -> int:
    """Samples that one frame of a network sees; 1 where its config tells of no convolutions."""
    return inputs_of(1, list(zip(getattr(config, "conv_kernel", ()), getattr(config, "conv_stride", ()), strict=True)))


def frames_of(config: Any, samples: Count, convolutions: int | None = None) -> Count:
    """How many frames a network's first few convolutions, or all, make of so many samples."""
    for kernel, stride in list(zip(config.conv_kernel, config.conv_stride, strict=True))[:convolutions]:
        samples = (samples - kernel) // stride + 1
    return samples


def fits_slots(config: Any) -> bool:
    """Whether a network's frame sees at most two hops of samples."""
    return receptive_field(config) <= 2 * math.prod(map(int, getattr(config, "conv_stride", ())))


def optional_norm(part: Any, device: torch.device) -> Norm | None:
    norm = getattr(part, "layer_norm", None)
    return None if norm is None else Norm.of(norm, device)


def _first(layer: Any, stride: int, like: Tensor) -> FirstConvolution:
    kernel, bias = layer.conv.weight.detach()[:, 0].to(like.device), layer.conv.bias
    norm = getattr(layer, "layer_norm", None)
    if isinstance(norm, torch.nn.GroupNorm):
        group = (norm.weight.detach().double().to(like.device), norm.bias.detach().double().to(like.device), norm.eps)
        return FirstConvolution(kernel.double(), None, group, None, stride, like.dtype)
    bias = None if bias is None else bias.detach().float().to(like.device)
    return FirstConvolution(kernel.float(), bias, None, Norm.of(norm, like.device), stride, like.dtype)


def _convolution(layer: Any, stride: int, like: Tensor) -> Convolution:
    weight = layer.conv.weight.detach()  # (C, C, k)
    kernel = weight.shape[2]
    norm = optional_norm(layer, like.device)
    flat = weight.transpose(1, 2).flatten(1)  # (C, k*C)
    return Convolution(Linear.prepare(flat, layer.conv.bias, like, gelu=norm is None), norm, kernel, stride)
