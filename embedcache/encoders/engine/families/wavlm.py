"""WavLM: wav2vec 2.0 whose attention has a gated relative position bias.

The score of query i and key j is q_i k_j + g_i r(j - i). The bias r has a value for each distance and head, the same in
all blocks. The gate g_i, of each block and head, is computed from the input of attention at frame i, as the published
models do (transformers, `WavLMAttention`; Chen et al., 2022, "WavLM", section III.A).

A table holds r for every distance up to MAX_FRAMES, so that it is computed once for clips of all lengths. Rows i and
columns j of the bias of a clip are a view of the table: with the keys in reversed order, j' = T - 1 - j, the value of
(i, j') is at the place i + j' of the table's part for T frames. No bias of T by T values is stored without its gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..attention import Pack, join_heads, mix
from ..network import Network
from ..positions import Positions
from ._family import Family

MAX_FRAMES = 1 << 16  # distances in the table: 22 minutes of frames, more than the longest clip has
CELLS = {"cpu": 1 << 21, "cuda": 1 << 25}  # scores that are computed together: 8 MB in float32, 134 MB on a GPU
FEWEST = 32  # queries that are computed together at least


@dataclass(frozen=True)
class GatedAttention:
    """Attention with a gated relative position bias."""

    table: Tensor  # (heads, 2 MAX_FRAMES - 1) in float32: r of the distances MAX_FRAMES - 1, …, 1 - MAX_FRAMES
    weight: Tensor  # (2, d): the weights of the two gates
    bias: Tensor  # (2,)
    scale: Tensor  # (heads,): factor of the second gate

    def __call__(self, x: Tensor, qkv: Tensor, pack: Pack) -> Tensor:
        """Return attention as `Attention` defines it."""
        gates = self._gates(x)  # (N, heads)
        parts = zip(pack.split(qkv), pack.split(gates), pack.groups, strict=True)
        return pack.join([self._attend(part, gate, group.mask) for part, gate, group in parts])

    def _gates(self, x: Tensor) -> Tensor:  # (N, D) -> (N, heads)
        """Return the gate of every frame and head, from the two sigmoids a and b: a (b s - 1) + 2."""
        heads = x.float().unflatten(1, (len(self.table), -1))  # (N, heads, d)
        a, b = torch.sigmoid(heads @ self.weight.t() + self.bias).unbind(2)
        gates: Tensor = a * (b * self.scale - 1) + 2
        return gates

    def _attend(self, qkv: Tensor, gates: Tensor, mask: Tensor | None) -> Tensor:
        """Return the attention of a group of clips, in blocks of queries.

        (clips, T, 3, heads, d) and (clips, T, heads) give (clips * T, D).
        """
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (clips, heads, T, d)
        k, v = k.flip(2), v.flip(2)
        hidden = None if mask is None else mask.flip(3)
        gates = gates.transpose(1, 2)[..., None]  # (clips, heads, T, 1)
        clips, heads, frames = q.shape[:3]
        rows = max(FEWEST, CELLS[q.device.type] // (clips * heads * frames))
        mixed = []
        for start, part, gate in zip(range(0, frames, rows), q.split(rows, 2), gates.split(rows, 2), strict=True):
            bias = gate * self._distances(start, part.shape[2], frames)
            mixed.append(mix(part, k, v, bias if hidden is None else bias.add_(hidden)))
        return join_heads(torch.cat(mixed, 2))

    def _distances(self, first: int, rows: int, frames: int) -> Tensor:  # -> (heads, rows, frames)
        """Return r for the queries from `first` on and all keys of a clip, the last key first."""
        heads, width = self.table.shape
        return self.table.as_strided((heads, rows, frames), (width, 1, 1), MAX_FRAMES - frames + first)


def _build(model: Any, like: Tensor) -> Network:
    encoder = model.encoder
    table = _table(encoder.layers[0].attention).to(like.device)
    attentions = [_gated(layer.attention, table) for layer in encoder.layers]
    return Network.of(model, Positions.of([encoder.pos_conv_embed.conv], like), attentions, like)


def _table(attention: Any) -> Tensor:
    """Return r of every distance, the largest first. The first block's attention has the weights for all blocks."""
    distances = torch.arange(MAX_FRAMES - 1, -MAX_FRAMES, -1)
    buckets = attention._relative_positions_bucket(distances)
    table: Tensor = attention.rel_attn_embed.weight.detach()[buckets].t().float().contiguous()
    return table


def _gated(attention: Any, table: Tensor) -> GatedAttention:
    """Take the weights of a block's gates: a gate is the sigmoid of the sum of four linear outputs, hence of one."""
    linear = attention.gru_rel_pos_linear
    return GatedAttention(
        table,
        linear.weight.detach().unflatten(0, (2, 4)).sum(1).float().to(table.device),
        linear.bias.detach().unflatten(0, (2, 4)).sum(1).float().to(table.device),
        attention.gru_rel_pos_const.detach().flatten().float().to(table.device),
    )


family = Family(("wavlm",), _build)
