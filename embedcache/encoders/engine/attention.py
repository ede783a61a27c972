"""Attention of each frame over the frames of its own clip.

Letters in the shapes: N frames of the pack; T frames of a clip; D numbers a frame; d numbers a head.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .convolutions import Layout
from .memory import is_out_of_memory

SCORES = 512  # frames of the longest clip whose attention scores, 6 MB in bf16, stay in a CPU's cache
NEAR = 1.125  # most frames of the longest clip of a group, as a multiple of the shortest's: a ninth is padding at most


@dataclass(frozen=True)
class Group:
    """Neighbouring clips whose attention is computed together.

    Each clip is padded at its end to T frames, as many as the longest has. The mask keeps every frame from seeing the
    padding, so the result is exact.
    """

    clips: int
    size: int  # number of frames of the clips, without padding
    rows: Tensor | None  # (size,): the rows of the padded group that are frames; None if no clip is padded
    mask: Tensor | None  # (clips, 1, 1, T): 0 for each frame, -inf for padding; None if no clip is padded

    @classmethod
    def of(cls, frames: Sequence[int], device: torch.device) -> Group:
        """Return the group of clips with these numbers of frames."""
        if min(frames) == max(frames):
            return cls(len(frames), sum(frames), None, None)
        is_frame = torch.arange(max(frames)) < torch.tensor(frames)[:, None]  # (clips, T)
        rows = is_frame.flatten().nonzero()[:, 0]
        mask = torch.zeros(is_frame.shape).masked_fill_(~is_frame, -torch.inf)[:, None, None]
        return cls(len(frames), sum(frames), rows.to(device), mask.to(device))

    def pad(self, x: Tensor) -> Tensor:  # (size, …) -> (clips, T, …)
        """Return the frames of each clip, followed by zeros."""
        if self.rows is not None and self.mask is not None:
            padded = x.new_zeros(self.mask.numel(), *x.shape[1:])
            padded[self.rows] = x
            x = padded
        grouped: Tensor = x.unflatten(0, (self.clips, -1))
        return grouped

    def unpad(self, x: Tensor) -> Tensor:  # (clips * T, …) -> (size, …)
        """Return the rows that are frames."""
        return x if self.rows is None else x.index_select(0, self.rows)


@dataclass(frozen=True)
class Pack:
    """The clips of a pack, as attention needs them. It is made once for all layers of the network."""

    layout: Layout
    bounds: Tensor  # int32: the first row of each clip, and the end of the last one: frames (2, 3) give [0, 2, 5]
    grouped: bool  # whether clips of nearly one length are computed together, as on a GPU, or each by itself

    @classmethod
    def of(cls, layout: Layout, device: torch.device, grouped: bool) -> Pack:
        """Return the pack of the clips of a layout."""
        bounds = torch.tensor([0, *np.cumsum(layout.frames)], dtype=torch.int32, device=device)
        return cls(layout, bounds, grouped)

    @property
    def longest(self) -> int:
        """Number of frames of the longest clip."""
        return max(self.layout.frames)

    @functools.cached_property
    def groups(self) -> list[Group]:
        """The groups of clips, in order."""
        frames = self.layout.frames
        spans = near_spans(frames) if self.grouped else pairwise(range(len(frames) + 1))
        return [Group.of(frames[begin:end], self.bounds.device) for begin, end in spans]

    def split(self, x: Tensor) -> list[Tensor]:
        """Split the rows (N, …) into those of each group, padded: (clips, T, …)."""
        parts = x.split([group.size for group in self.groups])
        return [group.pad(part) for group, part in zip(self.groups, parts, strict=True)]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Join rows (clips * T, …) of each group to the rows (N, …) of the pack, without padding."""
        return torch.cat([group.unpad(part) for group, part in zip(self.groups, parts, strict=True)])


def near_spans(frames: Sequence[int]) -> list[tuple[int, int]]:
    """Return (begin, end) of each span of neighbours of which the longest has at most NEAR times the shortest's frames.

    Example: [16, 17, 18, 19, 25] gives [(0, 3), (3, 4), (4, 5)], since 19 is more than 16 * 1.125 = 18.
    """
    starts: list[int] = []
    for number, count in enumerate(frames):
        if starts:
            span = (*frames[starts[-1] : number], count)
        if not starts or max(span) > NEAR * min(span):
            starts.append(number)
    return list(pairwise([*starts, len(frames)]))


class Attention(Protocol):
    """The attention of one block."""

    def __call__(self, x: Tensor, qkv: Tensor, pack: Pack) -> Tensor:
        """Return (N, D): softmax(q k' + bias) v of every frame over the frames of its own clip.

        `x` (N, D) is the input of attention, and `qkv` (N, 3, heads, d) holds its queries, keys and values. The weights
        of q already contain the scale.
        """


def attend(x: Tensor, qkv: Tensor, pack: Pack) -> Tensor:
    """Return attention without a bias: on a GPU in one kernel, or in groups of nearly one length if there is none."""
    kernel = _varlen(qkv.device, qkv.dtype, qkv.shape[-1])
    if kernel is not None:
        mixed: Tensor = kernel(*qkv.unbind(1), pack.bounds, pack.bounds, pack.longest, pack.longest)
        return mixed.flatten(1)
    mixed_groups = []
    for part, group in zip(pack.split(qkv), pack.groups, strict=True):
        q, k, v = part.permute(2, 0, 3, 1, 4)  # each (clips, heads, T, d)
        mixed_groups.append(join_heads(mix(q, k, v, group.mask)))
    return pack.join(mixed_groups)


def mix(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return softmax(q k' + bias) v of clips of one length: q, k and v are (clips, heads, T, d), the result is like q.

    `bias` is (clips, heads, T, T) in float32, or has 1 for sizes in which it does not change. q may hold a part of the
    queries.

    In bf16 on a CPU, two batched products with all scores between them are twice as fast as the blocked kernel as long
    as the scores stay in the cache. The scores are rounded to bf16, and the cosine of each layer stays above 0.9999.
    """
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and k.shape[2] <= SCORES:
        scores = q.contiguous() @ k.contiguous().transpose(2, 3)
        scores = scores if bias is None else scores + bias
        mixed: Tensor = torch.softmax(scores, -1, dtype=torch.float32).to(q.dtype) @ v
        return mixed
    mask = None if bias is None else bias.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)


def join_heads(mixed: Tensor) -> Tensor:  # (clips, heads, T, d) -> (clips * T, heads * d)
    """Return the output of attention with one row for each frame."""
    return mixed.transpose(1, 2).flatten(2).flatten(0, 1)


@functools.cache
def _varlen(device: torch.device, dtype: torch.dtype, dim: int) -> Callable[..., Any] | None:
    """Return torch's attention over clips of any lengths, for heads of `dim` dimensions; None if there is none.

    A clip of one frame is computed to find out, because torch versions, GPUs and builds for AMD differ in what they
    have. Where the keys could be split, they must not: the order of the sums would depend on the longest clip of the
    pack.
    """
    if device.type != "cuda" or dtype == torch.float32:
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    x = torch.zeros(1, 1, dim, dtype=dtype, device=device)
    bounds = torch.tensor([0, 1], dtype=torch.int32, device=device)
    kernel: Callable[..., Any] = varlen_attn
    for options in ({"scale": 1.0, "num_splits": 1}, {"scale": 1.0}):
        try:
            kernel(x, x, x, bounds, bounds, 1, 1, **options)
        except (TypeError, RuntimeError) as error:  # no such option, or not on this GPU
            if is_out_of_memory(error):
                raise
        else:
            return functools.partial(kernel, **options)
    return None
