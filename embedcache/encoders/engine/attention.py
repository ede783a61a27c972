"""Attention of each frame over the frames of its own clip.

Letters in the shapes: N frames of the pack; T frames of a clip; D numbers a frame; d numbers a head.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .convolutions import Layout
from .memory import is_out_of_memory
from .pooling import equal_spans

SCORES = 512  # frames of the longest clip whose attention scores, 6 MB in bf16, stay in a CPU's cache


@dataclass(frozen=True)
class Pack:
    """The clips of a pack, as attention needs them. It is made once for all layers of the network."""

    layout: Layout
    bounds: Tensor  # int32: the first row of each clip, and the end of the last one: frames (2, 3) give [0, 2, 5]
    by_length: bool  # whether clips of one length are computed together, as on a GPU, or each by itself

    @classmethod
    def of(cls, layout: Layout, device: torch.device, by_length: bool) -> Pack:
        """Return the pack of the clips of a layout."""
        bounds = torch.tensor([0, *np.cumsum(layout.frames)], dtype=torch.int32, device=device)
        return cls(layout, bounds, by_length)

    @property
    def longest(self) -> int:
        """Number of frames of the longest clip."""
        return max(self.layout.frames)

    def split(self, x: Tensor) -> list[Tensor]:
        """Split the rows (N, …) into groups of clips of one length, each (clips, T, …)."""
        frames = self.layout.frames
        spans = equal_spans(frames) if self.by_length else [(number, number + 1) for number in range(len(frames))]
        parts = x.split([sum(frames[begin:end]) for begin, end in spans])
        return [part.unflatten(0, (end - begin, -1)) for part, (begin, end) in zip(parts, spans, strict=True)]


class Attention(Protocol):
    """The attention of one block."""

    def __call__(self, x: Tensor, qkv: Tensor, pack: Pack) -> Tensor:
        """Return (N, D): softmax(q k' + bias) v of every frame over the frames of its own clip.

        `x` (N, D) is the input of attention, and `qkv` (N, 3, heads, d) holds its queries, keys and values. The weights
        of q already contain the scale.
        """


def attend(x: Tensor, qkv: Tensor, pack: Pack) -> Tensor:
    """Return attention without a bias: on a GPU in one kernel, or in groups of one length if there is no kernel."""
    kernel = _varlen(qkv.device, qkv.dtype, qkv.shape[-1])
    if kernel is not None:
        mixed: Tensor = kernel(*qkv.unbind(1), pack.bounds, pack.bounds, pack.longest, pack.longest)
        return mixed.flatten(1)
    return torch.cat([join_heads(mix(*part.permute(2, 0, 3, 1, 4))) for part in pack.split(qkv)])


def mix(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return softmax(q k' + bias) v of clips of one length: q, k and v are (clips, heads, T, d), the result is like q.

    `bias` is (clips, heads, T, T) in float32. q may hold a part of the queries.

    In bf16 on a CPU, two batched products with all scores between them are twice as fast as the blocked kernel as long
    as the scores stay in the cache. The scores are rounded to bf16, which adds no more error than rounding q and k did.
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
