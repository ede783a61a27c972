"""The convolutional front end of wav2vec 2.0 and HuBERT, for several clips in one buffer.

Seven convolutions over time turn a waveform at 16 kHz into one row of C = 512 numbers every 20 ms:

    kernels  10, 3, 3, 3, 3, 2, 2
    strides   5, 2, 2, 2, 2, 2, 2

The product of the strides is the *hop*: 320 samples from one frame to the next. One frame sees 400 samples. A clip of
1,000 samples therefore has T = (1000 - 400) // 320 + 1 = 2 frames, computed from its first 400 + 320 = 720 samples.

The clips of a pack are laid end to end in one buffer and convolved together. Three techniques make this fast; each is
exact in real arithmetic:

- *Slots* keep a frame from mixing two clips: see `Layout`.
- *Overlapping rows* turn a convolution into a matrix product without a copy: see `Convolution`.
- *A folded group norm* replaces two passes over the widest tensor of the network: see `FirstConvolution`.

Read `Layout` first, then `FrontEnd.__call__`, which runs all convolutions.

Letters in the shapes: n clips, S samples of a clip, T frames of a clip, t frames after some convolution, C channels,
k taps of a kernel, s its stride.
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

from .linear import Linear, Norm, product
from .pooling import equal_spans

TILE = 64  # slots (1.28 s) convolved together on a CPU: their widest tensor has 8 MB, which stays in the cache
Count = TypeVar("Count", int, Tensor)
ClipWeights = tuple[Tensor, Tensor | None]  # kernels (n, k, C) and biases (n, 1, C) of n clips
Steps = Sequence[tuple[int, int]]  # (kernel, stride) of each convolution of a chain, first to last


@dataclass(frozen=True)
class Layout:
    """The places of the clips in a pack, counted in slots of one hop (320 samples).

    Each clip starts at a whole slot and takes T + 1 slots, one more than it has frames. Two clips of 2 and 3 frames:

        slot     0    1    2    3    4    5    6
        frame    a0   a1   -    b0   b1   b2   -

        frames = (2, 3)    starts = (0, 3)    slots = 7    valid() = [0, 1, 3, 4, 5]

    In samples, clip a lies at 0 to 719 and clip b at 960 to 1999; zeros fill the rest. The frame of slot 2 sees the
    samples 640 to 1039, that is the end of a and the beginning of b. It belongs to neither clip and is dropped, as is
    that of slot 6. The frame of slot 1 sees the samples 320 to 719, all of them a's.

    A hop is a whole number of frames of each of the seven convolutions, so the convolutions can run over the pack as if
    it were one recording. One spare slot is enough where a frame sees at most two hops (here 400 of 640 samples), which
    `fits_slots` checks.
    """

    frames: tuple[int, ...]  # T of each clip
    starts: tuple[int, ...]  # first slot of each clip
    slots: int  # number of slots of the pack

    @classmethod
    def of(cls, frames: Sequence[int]) -> Layout:
        """Return the layout of clips with these numbers of frames."""
        ends = np.cumsum([count + 1 for count in frames]).tolist()
        return cls(tuple(frames), (0, *ends[:-1]), ends[-1])

    def valid(self) -> Tensor:
        """Return the slots whose frame belongs to a clip, (sum of T,)."""
        spans = zip(self.starts, self.frames, strict=True)
        return torch.cat([torch.arange(start, start + count) for start, count in spans])


@dataclass(frozen=True)
class FrontEnd:
    """All convolutions, from waveforms to one row of C numbers for each slot of a pack."""

    first: FirstConvolution
    others: tuple[Convolution, ...]
    tile: int | None  # number of slots convolved together; None convolves the whole pack at once, as a GPU does

    @classmethod
    def of(cls, extractor: Any, strides: Sequence[int], like: Tensor) -> FrontEnd:
        """Take the weights of transformers' feature extractor, in the dtype and on the device of `like`."""
        first, *others = extractor.conv_layers
        return cls(
            first=_prepare_first(first, strides[0], like),
            others=tuple(_prepare(layer, stride, like) for layer, stride in zip(others, strides[1:], strict=True)),
            tile=TILE if like.device.type == "cpu" else None,
        )

    @property
    def steps(self) -> list[tuple[int, int]]:
        """(kernel, stride) of each convolution, first to last."""
        return [(self.first.width, self.first.stride), *((conv.kernel, conv.stride) for conv in self.others)]

    @property
    def hop(self) -> int:
        """Number of samples from one frame to the next: 320."""
        return math.prod(stride for _, stride in self.steps)

    @property
    def windows_per_slot(self) -> int:
        """Number of windows of the first convolution that begin in one slot: 320 / 5 = 64."""
        return self.hop // self.first.stride

    def samples_for(self, frames: int) -> int:
        """Return the number of samples from which `frames` frames are computed: 400 for 1, 720 for 2, 1040 for 3."""
        return input_length(frames, self.steps)

    def count_frames(self, waves: Sequence[Tensor]) -> list[int]:
        """Return T of each waveform."""
        return [(len(wave) - self.samples_for(1)) // self.hop + 1 for wave in waves]

    def __call__(self, waves: Sequence[Tensor], layout: Layout) -> Tensor:  # n x (S,) -> (slots, C)
        """Return one row for each slot of the pack, including the slots that belong to no clip."""
        if self.first.group_norm is not None:
            # A group norm removes a constant offset anyway. Without the offset, the folded bias is small.
            waves = [wave - wave.mean() for wave in waves]
        pack = self._fill_pack(waves, layout)
        # Statistics are computed together only for clips of exactly the same number of samples.
        groups = [torch.stack(list(waves[begin:end])) for begin, end in equal_spans([len(wave) for wave in waves])]
        weights = [self.first.clip_weights(group) for group in groups]
        if self.tile is None:
            return self._chain(self._first_of_pack(pack, layout, [len(group) for group in groups], weights))
        return self._convolve_tiles(pack, layout, _split_clips(weights), self.tile)

    def _fill_pack(self, waves: Sequence[Tensor], layout: Layout) -> Tensor:  # -> (samples of the pack,)
        """Lay the waveforms into one buffer of zeros, each at the first sample of its first slot.

        The samples after a clip's last frame are left out. The buffer ends with a hop of zeros, so that the windows of
        the last slot stay inside the buffer.
        """
        pack = waves[0].new_zeros(self.samples_for(layout.slots) + self.hop)
        for wave, start, count in zip(waves, layout.starts, layout.frames, strict=True):
            used = wave[: self.samples_for(count)]
            pack[start * self.hop : start * self.hop + len(used)] = used
        return pack

    def _convolve_tiles(self, pack: Tensor, layout: Layout, weights: Sequence[ClipWeights], tile: int) -> Tensor:
        """Convolve the pack in tiles of `tile` slots and return (slots, C); `weights` has one entry for each clip."""
        outputs = []
        for begin in range(0, layout.slots, tile):
            slots = min(tile, layout.slots - begin)
            outputs.append(self._chain(self._first_of_tile(pack, begin, slots, layout, weights)))
        return torch.cat(outputs)

    def _first_of_tile(
        self, pack: Tensor, begin: int, slots: int, layout: Layout, weights: Sequence[ClipWeights]
    ) -> Tensor:  # -> (t, C)
        """Return the first convolution's frames that the `slots` slots from `begin` on need.

        A window of the first convolution gives one of its frames; 64 windows begin in a slot. The other convolutions
        need 79 windows for one slot and 64 for each further one: 64 * slots + 15. Every window is multiplied with the
        kernel of the clip in whose slots it begins.

        Example: the clips of 2 and 3 frames in `Layout`, tiles of 4 slots. Clip a owns the windows 0 to 191 (3 slots),
        clip b those from 192 to 447 (4 slots). The upper bounds below are exclusive.

            tile                needs windows    computed as
            slots 0, 1, 2, 3    [0, 271)         [0, 192) with a's kernel, [192, 271) with b's
            slots 4, 5, 6       [256, 463)       [256, 463) with b's kernel

        The last clip also owns the windows after the last slot, here 448 to 462: only the dropped frame of slot 6
        depends on them.
        """
        low = begin * self.windows_per_slot
        high = low + input_length(slots, self.steps[1:])
        clip_begins = [start * self.windows_per_slot for start in layout.starts]
        clip_ends = [*clip_begins[1:], max(high, layout.slots * self.windows_per_slot)]
        parts = []
        for clip_begin, clip_end, clip_weights in zip(clip_begins, clip_ends, weights, strict=True):
            first, end = max(clip_begin, low), min(clip_end, high)
            if first < end:
                parts.append(self.first(self._windows(pack, first, 1, end - first), *clip_weights))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _first_of_pack(
        self, pack: Tensor, layout: Layout, counts: Sequence[int], weights: Sequence[ClipWeights]
    ) -> Tensor:  # -> (t, C)
        """Return the first convolution's frames of the whole pack, with one batched product for clips of one length.

        `counts` holds the number of clips of each group of equally long neighbours, `weights` the group's weights.

        Example: the clips of 2 and 3 frames in `Layout` are two groups of one clip, with windows of the shapes
        (1, 192, 10) and (1, 256, 10). Together they give 448 frames. The other convolutions need 463 for 7 slots, so 15
        rows of zeros follow: only the dropped frame of slot 6 depends on them.
        """
        parts, clip = [], 0
        for count, group_weights in zip(counts, weights, strict=True):
            begin = layout.starts[clip] * self.windows_per_slot
            windows_per_clip = (layout.frames[clip] + 1) * self.windows_per_slot
            parts.append(self.first(self._windows(pack, begin, count, windows_per_clip), *group_weights))
            clip += count
        missing = input_length(layout.slots, self.steps[1:]) - layout.slots * self.windows_per_slot
        return torch.cat([*parts, parts[0].new_zeros(missing, parts[0].shape[1])])

    def _windows(self, pack: Tensor, begin: int, clips: int, windows_per_clip: int) -> Tensor:
        """Return the windows of neighbouring clips as a view, (clips, windows_per_clip, k).

        `begin` is the number of the first window; window w holds the samples from 5 * w to 5 * w + 9. Example: with
        begin = 192, clips = 2 and windows_per_clip = 256, row [0, 0] holds the samples 960 to 969, row [0, 1] the
        samples 965 to 974, and row [1, 0] the samples 960 + 256 * 5 = 2240 to 2249.
        """
        width, stride = self.steps[0]
        return pack.as_strided((clips, windows_per_clip, width), (windows_per_clip * stride, stride, 1), begin * stride)

    def _chain(self, x: Tensor) -> Tensor:  # frames of the first convolution (t, C) -> frames of the last
        for convolution in self.others:
            x = convolution(x)
        return x


@dataclass(frozen=True)
class FirstConvolution:
    """The convolution that reads the waveform, with its group norm folded into the kernel where it has one.

    The group norm needs each channel's mean and variance over a clip. A channel is linear in the windows w of 10
    samples, y = kernel . w, so both follow from the mean and the covariance of the windows:

        mean(y) = kernel . E[w]        var(y) = kernel . Cov[w] . kernel

    These are ten means and a 10 x 10 covariance in float64, instead of two passes over the widest tensor of the
    network. Normalising is then a convolution with a kernel of the clip's own, kernel * gamma / sd, and a bias.

    Example with 2 taps: kernel (1, -1) and windows (3, 1), (5, 5), (1, 3) give y = 2, 0, -2, with mean 0 and variance
    8/3. The windows have E[w] = (3, 3) and Cov[w] = ((8/3, 4/3), (4/3, 8/3)). From these, mean(y) = 3 - 3 = 0 and
    var(y) = 8/3 - 2 * 4/3 + 8/3 = 8/3.
    """

    kernel: Tensor  # (C, k), float64 if there is a group norm
    bias: Tensor | None  # (C,); None if there is a group norm, which would remove it
    group_norm: tuple[Tensor, Tensor, float] | None  # gamma (C,), beta (C,), epsilon
    norm: Norm | None  # layer norm over the channels, in networks without a group norm
    stride: int
    dtype: torch.dtype  # of the matrix product and of the result

    @property
    def width(self) -> int:
        """Number of taps k."""
        return self.kernel.shape[1]

    def clip_weights(self, waves: Tensor) -> ClipWeights:  # (n, S) -> (n, k, C), (n, 1, C)
        """Return the kernel and the bias for each of n clips of one length, in float32."""
        if self.group_norm is None:
            bias = None if self.bias is None else self.bias.expand(len(waves), 1, -1)
            return self.kernel.t().expand(len(waves), -1, -1), bias
        gamma, beta, epsilon = self.group_norm
        windows = waves.double().unfold(1, self.width, self.stride)  # (n, t, k)
        mean = windows.mean(1)  # (n, k)
        covariance = windows.transpose(1, 2) @ windows / windows.shape[1] - mean[:, :, None] * mean[:, None]
        variance = ((self.kernel @ covariance) * self.kernel).sum(2).clamp_(min=0)  # (n, C)
        scale = gamma / torch.sqrt(variance + epsilon)  # (n, C)
        kernels = self.kernel.t() * scale[:, None]  # (n, k, C)
        biases = beta - (mean @ self.kernel.t()) * scale  # (n, C)
        return kernels.float(), biases[:, None].float()

    def __call__(self, windows: Tensor, kernels: Tensor, biases: Tensor | None) -> Tensor:  # -> (n * t, C)
        """Convolve the windows (n, t, k) of n clips, each with its own kernel (n, k, C) and bias (n, 1, C)."""
        if self.dtype != torch.float32:
            windows, kernels = self._split(windows, kernels)
            biases = None if biases is None else biases.to(self.dtype)
        y = self._multiply(windows, kernels, biases).flatten(0, 1)
        return y if self.norm is None else F.gelu(self.norm(y)).to(self.dtype)

    def _multiply(self, windows: Tensor, kernels: Tensor, biases: Tensor | None) -> Tensor:  # -> (n, t, C)
        gelu = self.norm is None
        if len(windows) == 1:
            bias = None if biases is None else biases[0, 0]
            return product(windows[0].contiguous(), kernels[0].t().contiguous(), bias, gelu)[None]
        y = windows @ kernels if biases is None else torch.baddbmm(biases, windows, kernels)
        return torch.ops.aten.gelu_(y) if gelu else y

    def _split(self, windows: Tensor, kernels: Tensor) -> tuple[Tensor, Tensor]:  # -> (n, t, 3k), (n, 3k, C)
        """Split both factors into high and low parts, so that half precision loses little.

        High-pass kernels depend on small differences of samples, which rounding to bf16 (8 bits) would hide. With each
        factor written as high + low, in 8 bits each,

            windows . kernels = high . kernels_high + low . kernels_high + high . kernels_low

        has 16 bits. The three sums are one product, three times as wide: 30 columns, where the kernel's 10 columns
        would be padded to 32 anyway.
        """
        high, kernels_high = windows.to(self.dtype), kernels.to(self.dtype)
        low, kernels_low = (windows - high).to(self.dtype), (kernels - kernels_high).to(self.dtype)
        return torch.cat([high, low, high], 2), torch.cat([kernels_high, kernels_high, kernels_low], 1)


@dataclass(frozen=True)
class Convolution:
    """One of the later convolutions over time, as a matrix product over overlapping rows.

    The input is one row of C numbers for each frame, row after row in memory. The window of output frame t is the k
    input rows from s * t on; these are neighbours in memory, hence one long row of k * C numbers. The next window
    begins s * C numbers later, inside the first. A view with these strides is the im2col matrix; on a CPU it is read
    without a copy.

    Example with C = 2, k = 3, s = 2 and five input rows, ten numbers in memory:

        input rows    0 1 | 2 3 | 4 5 | 6 7 | 8 9
        window 0      0 1   2 3   4 5
        window 1                  4 5   6 7   8 9

    The view has the shape (2, 6) and the strides (4, 1).
    """

    linear: Linear  # weight (C, k * C)
    norm: Norm | None
    kernel: int
    stride: int

    def __call__(self, x: Tensor) -> Tensor:  # (t, C) -> ((t - k) // s + 1, C)
        """Return the output frames, GELU included."""
        count, channels = (len(x) - self.kernel) // self.stride + 1, x.shape[1]
        windows = x.as_strided((count, self.kernel * channels), (self.stride * channels, 1))
        y = self.linear(windows)
        return y if self.norm is None else F.gelu(self.norm(y)).to(x.dtype)


def input_length(outputs: int, steps: Steps) -> int:
    """Return the smallest number of inputs from which a chain of convolutions computes `outputs` outputs.

    Example: for one output of the chain (kernel 3, stride 2), (kernel 2, stride 2), the second convolution needs
    (1 - 1) * 2 + 2 = 2 inputs, and the first (2 - 1) * 2 + 3 = 5.
    """
    for kernel, stride in reversed(steps):
        outputs = (outputs - 1) * stride + kernel
    return outputs


def receptive_field(config: Any) -> int:
    """Return the number of samples that one frame of a network sees; 1 if its config has no convolutions.

    SEW squeezes: it takes the mean of every `squeeze_factor` frames before its transformer. With a factor of 2, a frame
    sees 720 samples, where one of wav2vec 2.0 sees 400.
    """
    squeeze = int(getattr(config, "squeeze_factor", 1))
    return input_length(1, [*_steps(config), (squeeze, squeeze)])


def frames_of(config: Any, samples: Count, convolutions: int | None = None) -> Count:
    """Return the number of frames after a network's first `convolutions` convolutions; None means all of them.

    Example: 1,000 samples are (1000 - 10) // 5 + 1 = 199 frames after the first convolution of wav2vec 2.0, and 2 after
    all seven.
    """
    for kernel, stride in list(zip(config.conv_kernel, config.conv_stride, strict=True))[:convolutions]:
        samples = (samples - kernel) // stride + 1
    return samples


def fits_slots(config: Any) -> bool:
    """Whether a frame of a network sees at most two hops of samples, as `Layout` requires."""
    return receptive_field(config) <= 2 * math.prod(map(int, getattr(config, "conv_stride", ())))


def optional_norm(module: Any, device: torch.device) -> Norm | None:
    """Return the layer norm of a transformers module, or None if it has none."""
    norm = getattr(module, "layer_norm", None)
    return None if norm is None else Norm.of(norm, device)


def _steps(config: Any) -> Steps:
    return list(zip(getattr(config, "conv_kernel", ()), getattr(config, "conv_stride", ()), strict=True))


def _split_clips(weights: Sequence[ClipWeights]) -> list[ClipWeights]:
    """Split the weights of groups of clips into those of single clips: (n, k, C) into n times (1, k, C)."""
    return [
        (kernels[clip : clip + 1], None if biases is None else biases[clip : clip + 1])
        for kernels, biases in weights
        for clip in range(len(kernels))
    ]


def _prepare_first(layer: Any, stride: int, like: Tensor) -> FirstConvolution:
    kernel, bias = layer.conv.weight.detach()[:, 0].to(like.device), layer.conv.bias  # (C, k), (C,)
    norm = getattr(layer, "layer_norm", None)
    if isinstance(norm, torch.nn.GroupNorm):
        gamma, beta = (part.detach().double().to(like.device) for part in (norm.weight, norm.bias))
        return FirstConvolution(kernel.double(), None, (gamma, beta, norm.eps), None, stride, like.dtype)
    bias = None if bias is None else bias.detach().float().to(like.device)
    return FirstConvolution(kernel.float(), bias, None, Norm.of(norm, like.device), stride, like.dtype)


def _prepare(layer: Any, stride: int, like: Tensor) -> Convolution:
    weight = layer.conv.weight.detach()  # (C, C, k)
    flat = weight.transpose(1, 2).flatten(1)  # (C, k * C)
    norm = optional_norm(layer, like.device)
    linear = Linear.prepare(flat, layer.conv.bias, like, gelu=norm is None)
    return Convolution(linear, norm, weight.shape[2], stride)
