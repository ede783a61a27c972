"""The positional embedding of a pack: convolutions over time that see one clip at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .convolutions import Layout


@dataclass(frozen=True)
class Positions:
    """A chain of convolutions over time, each followed by a layer norm, if the family has one there, and a GELU.

    A network pads each clip with k / 2 zero frames at both ends. With k / 2 zero frames between neighbours, one
    convolution runs over all clips, and no clip sees another.

    Example: clips of 2 and 3 frames, k = 4, so gap = 2.

        spaced row    0    1    2    3    4    5    6    7    8
        frame         a0   a1   0    0    b0   b1   b2   0    0

        ends = [4, 9]    rows = [0, 1, 4, 5, 6]
    """

    convolutions: tuple[tuple[Tensor, Tensor], ...]  # weight (D, D / groups, 1, k) and bias (D,) of each
    groups: int
    norm_eps: float | None  # epsilon of the layer norms, which have no weights; None if there are none

    @classmethod
    def of(cls, convolutions: list[Any], like: Tensor, norm_eps: float | None = None) -> Positions:
        """Take the weights of `torch.nn.Conv1d`s of one width, in the dtype and on the device of `like`."""
        return cls(tuple(_prepare(conv, like) for conv in convolutions), convolutions[0].groups, norm_eps)

    def __call__(self, h: Tensor, layout: Layout) -> Tensor:  # (N, D) -> (N, D) in float32
        """Return the positional embedding of the clips of a layout, whose frames are the rows of h."""
        gap = self.convolutions[0][0].shape[3] // 2
        ends = np.cumsum([count + gap for count in layout.frames])  # where the zeros after each clip end
        spans = zip(ends, layout.frames, strict=True)
        rows = torch.cat([torch.arange(end - count - gap, end - gap) for end, count in spans]).to(h.device)
        for weight, bias in self.convolutions:
            spaced = h.new_zeros(int(ends[-1]), h.shape[1], dtype=weight.dtype)
            spaced[rows] = h.to(weight.dtype)
            image = spaced.t()[None, :, None, :]  # (1, D, 1, rows of `spaced`), a view
            y = F.conv2d(image, weight, bias, padding=(0, gap), groups=self.groups)[0, :, 0]
            h = F.gelu(self._normalise(y.t().index_select(0, rows)))
        return h.float()

    def _normalise(self, y: Tensor) -> Tensor:
        return y if self.norm_eps is None else F.layer_norm(y.float(), y.shape[1:], eps=self.norm_eps)


def _prepare(conv: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    weight = conv.weight.detach()[:, :, None].to(like)
    return weight.contiguous(memory_format=torch.channels_last), conv.bias.detach().to(like)
