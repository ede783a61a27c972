"""The views of an encoder (`pooled`, `layers`, `std`, `frames:N`), computed from hidden states clip by clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ...encoder import Batch, EncoderInfo, Frames, Rows, Vectors, frame_layers, is_ragged, join


def equal_spans(values: Sequence[int]) -> list[tuple[int, int]]:
    """Return (begin, end) of each span of equal neighbours: [5, 5, 3, 3, 3, 5] gives [(0, 2), (2, 5), (5, 6)]."""
    changes = [i for i in range(1, len(values)) if values[i] != values[i - 1]]
    return list(pairwise([0, *changes, len(values)]))


@dataclass
class Collector:
    """Collects the views of several clips from their hidden states, one layer after the other.

    A hidden state holds the frames of all clips, one clip after the other. With `lengths` = [2, 3], rows 0 and 1 of
    each hidden state belong to the first clip and rows 2 to 4 to the second.
    """

    views: Sequence[str]
    lengths: Sequence[int]  # number of frames of each clip
    means: list[Tensor] = field(default_factory=list)  # (clips, D) of each layer added so far
    deviations: list[Tensor] = field(default_factory=list)  # the same, only for the view `std`
    frames: dict[str, Frames] = field(default_factory=dict)  # of each view `frames:N`

    def add(self, state: Tensor) -> None:
        """Add the next layer's hidden state, (sum of `lengths`, D)."""
        layer = len(self.means)
        means, deviations = [], []
        for group in self._split(state.float()):  # (clips, T, D)
            means.append(group.mean(1))
            if "std" in self.views:
                deviations.append((group - means[-1][:, None]).square_().mean(1).sqrt_())
        self.means.append(torch.cat(means))
        if deviations:
            self.deviations.append(torch.cat(deviations))
        for view, wanted in frame_layers(self.views).items():
            if wanted == layer:
                self.frames[view] = Frames.of(state.to(torch.float16).cpu().numpy(), self.lengths)

    def _split(self, state: Tensor) -> list[Tensor]:
        """Split a hidden state into groups of neighbouring clips of one length, each (clips, T, D).

        Lengths of [2, 2, 3] frames give (2, 2, D) and (1, 3, D).
        """
        spans = equal_spans(self.lengths)
        parts = state.split([sum(self.lengths[begin:end]) for begin, end in spans])
        return [part.unflatten(0, (end - begin, -1)) for part, (begin, end) in zip(parts, spans, strict=True)]

    def batch(self) -> Batch:
        """Return each view, with one row for each clip."""
        batch: dict[str, Rows] = {**self.frames}
        if "layers" in self.views:
            batch["layers"] = _to_array(torch.stack(self.means, 1))
        if "pooled" in self.views:
            batch["pooled"] = _to_array(self.means[-1])
        if "std" in self.views:
            batch["std"] = _to_array(torch.stack(self.deviations, 1))
        return {view: batch[view] for view in self.views}


def restore_order(info: EncoderInfo, views: Sequence[str], groups: Sequence[tuple[Sequence[int], Batch]]) -> Batch:
    """Join the batches of several groups of clips into one batch in the order of the clips.

    Each group is a pair of clip numbers and their batch. Example: the groups ([2, 0], …) and ([3, 1], …) are joined to
    rows of the clips 2, 0, 3, 1; rows 1, 3, 0, 2 of these are the clips 0, 1, 2, 3.
    """
    if not groups:
        return {view: _empty_rows(info, view) for view in views}
    order = np.argsort(np.concatenate([numbers for numbers, _ in groups]))
    joined = {view: join([batch[view] for _, batch in groups]) for view in views}
    return {view: rows.take(order) if isinstance(rows, Frames) else rows[order] for view, rows in joined.items()}


def _empty_rows(info: EncoderInfo, view: str) -> Rows:
    if is_ragged(view):
        return Frames.of(np.empty((0, info.dim), np.float16), [])
    return np.empty((0, info.dim) if view == "pooled" else (0, info.n_layers, info.dim), np.float32)


def _to_array(rows: Tensor) -> Vectors:
    return np.ascontiguousarray(rows.cpu().numpy())
