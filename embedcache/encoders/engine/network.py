"""The network of wav2vec 2.0 and its relatives, over the clips of a pack. `families` builds it.

Letters in the shapes: N frames of the pack, the sum of the T frames of its clips; D numbers a frame, 768 (base) or 1024
(large); C = 512 channels of the front end. Read `Network.states` first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .attention import Attention, Pack
from .convolutions import FrontEnd, Layout, optional_norm
from .linear import Linear, Norm
from .positions import Positions

ROWS = 1024  # frames whose feed-forward layers run together on a CPU: 12 MB, which stay in its cache


@dataclass(frozen=True)
class Block:
    """The layers of one transformer block."""

    qkv: Linear  # (3 D, D): queries, keys and values of attention
    attend: Attention
    out: Linear  # (D, D): output of attention
    up: Linear  # (4 D, D): first feed-forward layer, with its GELU
    down: Linear  # (D, 4 D): second feed-forward layer
    attention_norm: Norm
    feed_forward_norm: Norm

    @classmethod
    def of(cls, layer: Any, heads: int, attend: Attention, like: Tensor) -> Block:
        """Take the weights of a transformer block. The factor of attention is multiplied into the weights of q.

        For heads of 64 dimensions the factor is 1/8, a power of two, so the multiplication rounds nothing.
        """
        q, k, v = layer.attention.q_proj, layer.attention.k_proj, layer.attention.v_proj
        scale = (q.weight.shape[0] // heads) ** -0.5
        weight = torch.cat([q.weight * scale, k.weight, v.weight])
        return cls(
            qkv=Linear.prepare(weight, torch.cat([q.bias * scale, k.bias, v.bias]), like),
            attend=attend,
            out=_prepare(layer.attention.out_proj, like),
            up=_prepare(layer.feed_forward.intermediate_dense, like, gelu=True),
            down=_prepare(layer.feed_forward.output_dense, like),
            attention_norm=Norm.of(layer.layer_norm, like.device),
            feed_forward_norm=Norm.of(layer.final_layer_norm, like.device),
        )


@dataclass(frozen=True)
class Network:
    """The weights of a network, prepared for packs."""

    front: FrontEnd
    feature_norm: Norm | None
    projection: Linear  # (D, C)
    positions: Positions
    norm: Norm
    blocks: tuple[Block, ...]
    heads: int
    stable: bool  # norms come before attention and feed-forward: `do_stable_layer_norm`, as in XLS-R and wavlm-large
    rows: int | None  # frames whose feed-forward layers run together; None runs all at once, as a GPU does

    @classmethod
    def of(cls, model: Any, positions: Positions, attentions: Sequence[Attention], like: Tensor) -> Network:
        """Take the weights of a model of transformers, in the dtype and on the device of `like`.

        `attentions` holds the attention of each block.
        """
        config, encoder = model.config, model.encoder
        layers = zip(encoder.layers, attentions, strict=True)
        return cls(
            front=FrontEnd.of(model.feature_extractor, config.conv_stride, like),
            feature_norm=optional_norm(model.feature_projection, like.device),
            projection=_prepare(model.feature_projection.projection, like),
            positions=positions,
            norm=Norm.of(encoder.layer_norm, like.device),
            blocks=tuple(Block.of(layer, config.num_attention_heads, attend, like) for layer, attend in layers),
            heads=config.num_attention_heads,
            stable=bool(getattr(config, "do_stable_layer_norm", False)),
            rows=ROWS if like.device.type == "cpu" else None,
        )

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the matrix products."""
        return self.front.first.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.norm.weight.device

    def states(self, waves: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield each hidden state of the pack, (N, D) in float32, layer 0 first.

        A state is valid until the next one is requested, which overwrites it. The waveforms should be sorted by length:
        neighbours of one length share products.
        """
        layout = Layout.of(self.front.count_frames(waves))
        features = self.front(waves, layout)  # (slots, C)
        features = features.index_select(0, layout.valid().to(self.device))  # (N, C)
        if self.feature_norm is not None:
            features = self.feature_norm(features).to(self.dtype)
        h = self.projection(features).float()  # (N, D)
        h += self.positions(h, layout)
        if not self.stable:
            h = self.norm(h)
        yield h
        pack = Pack.of(layout, self.device, grouped=self.rows is None)
        for block in self.blocks:
            self._block(h, block, pack)
            yield h

    def _block(self, h: Tensor, block: Block, pack: Pack) -> None:
        """Apply one transformer block to the residual stream h (N, D), in place.

        All steps but attention treat each frame by itself, so they run over as many rows as the cache holds.
        """
        mixed = self._attend(h, block, pack)
        size = self.rows or len(h)
        for begin in range(0, len(h), size):
            x, y = h[begin : begin + size], mixed[begin : begin + size]
            x += block.out(y)
            if self.stable:
                x += self._feed_forward(block.feed_forward_norm(x), block)
            else:
                x.copy_(block.attention_norm(x))
                x += self._feed_forward(x, block)
                x.copy_(block.feed_forward_norm(x))

    def _feed_forward(self, x: Tensor, block: Block) -> Tensor:
        return block.down(block.up(x.to(self.dtype)))

    def _attend(self, h: Tensor, block: Block, pack: Pack) -> Tensor:  # (N, D) -> (N, D)
        """Return the attention of every frame over the frames of its own clip."""
        x = block.attention_norm(h) if self.stable else h
        qkv = block.qkv(x.to(self.dtype)).view(len(h), 3, self.heads, -1)  # (N, 3, heads, d)
        return block.attend(x, qkv, pack)


def _prepare(linear: Any, like: Tensor, gelu: bool = False) -> Linear:
    return Linear.prepare(linear.weight, linear.bias, like, gelu)
