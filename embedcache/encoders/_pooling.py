"""Views out of hidden states: what is kept of each layer's frames, clip by clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..encoder import Batch, EncoderInfo, Frames, Rows, Vectors, frame_layers, is_ragged, join


def runs(values: Sequence[int]) -> list[tuple[int, int]]:
    """(begin, end) of each stretch of equal values."""
    changes = [i for i in range(1, len(values)) if values[i] != values[i - 1]]
    return list(pairwise([0, *changes, len(values)]))


@dataclass
class Collector:
    """Takes the hidden states of some clips, laid end to end, layer by layer, and gives their views."""

    views: Sequence[str]
    lengths: Sequence[int]  # frames of each clip
    means: list[Tensor] = field(default_factory=list)
    deviations: list[Tensor] = field(default_factory=list)
    frames: dict[str, Frames] = field(default_factory=dict)

    def add(self, state: Tensor) -> None:
        """The next layer's hidden state, (sum of frames, dim)."""
        layer = len(self.means)
        means, spreads = [], []
        for group in self._groups(state.float()):  # (clips, T, dim)
            means.append(group.mean(1))
            if "std" in self.views:
                spreads.append((group - means[-1][:, None]).square_().mean(1).sqrt_())
        self.means.append(torch.cat(means))
        if spreads:
            self.deviations.append(torch.cat(spreads))
        for view, chosen in frame_layers(self.views).items():
            if chosen == layer:
                self.frames[view] = Frames.of(state.to(torch.float16).cpu().numpy(), self.lengths)

    def _groups(self, state: Tensor) -> list[Tensor]:
        """The frames of clips of one length that lie side by side."""
        groups = runs(self.lengths)
        parts = state.split([sum(self.lengths[a:b]) for a, b in groups])
        return [part.unflatten(0, (b - a, -1)) for part, (a, b) in zip(parts, groups, strict=True)]

    def batch(self) -> Batch:
        """Each view, one row a clip."""
        made: dict[str, Rows] = {**self.frames}
        if "layers" in self.views:
            made["layers"] = _array(torch.stack(self.means, 1))
        if "pooled" in self.views:
            made["pooled"] = _array(self.means[-1])
        if "std" in self.views:
            made["std"] = _array(torch.stack(self.deviations, 1))
        return {view: made[view] for view in self.views}


def in_order(info: EncoderInfo, views: Sequence[str], groups: Sequence[tuple[Sequence[int], Batch]]) -> Batch:
    """One batch out of several, each of the clips with the numbers beside it."""
    if not groups:
        return {view: _none(info, view) for view in views}
    back = np.argsort(np.concatenate([numbers for numbers, _ in groups]))
    joined = {view: join([batch[view] for _, batch in groups]) for view in views}
    return {view: rows.take(back) if isinstance(rows, Frames) else rows[back] for view, rows in joined.items()}


def _none(info: EncoderInfo, view: str) -> Rows:
    if is_ragged(view):
        return Frames.of(np.empty((0, info.dim), np.float16), [])
    return np.empty((0, info.dim) if view == "pooled" else (0, info.n_layers, info.dim), np.float32)


def _array(rows: Tensor) -> Vectors:
    return np.ascontiguousarray(rows.cpu().numpy())
