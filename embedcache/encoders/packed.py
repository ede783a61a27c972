"""wav2vec 2.0 and HuBERT without padding: clips laid end to end, every step exact in real arithmetic.

A *pack* is a few clips in one buffer. All that is row-wise (linear layers, layer norms, GELU) sees one matrix of all
their frames; attention and every statistic over time look at one clip at a time, so that no clip changes another's
vector. The numbers are those of transformers' own forward, clip by clip, to float32's rounding: `check_encoder` and
the tests hold every layer to 1e-5. In bf16 and fp16 the products are rounded, while the residual stream, the norms and
the time means stay float32: cosine 0.9999 or more on every layer.

`_front` holds the convolutions, `_layers` the matrix products, `_views` what is kept of the hidden states.

Shapes: N = sum of T, the frames of all clips of the pack; D = 768 (base) or 1024 (large); C = 512.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio.decode import Waveform
from ..encoder import Batch, EncoderInfo, Log, no_log, refuse_short
from ..errors import EncoderError
from ._checkpoint import Checkpoint
from ._convolutions import FrontEnd, Layout, fits_slots, optional_norm
from ._linear import DTYPES, Linear, Norm, is_fast
from ._pooling import Collector, in_order, runs

FAMILIES = ("wav2vec2", "hubert")
LONGEST = 900.0  # seconds; attention over more frames takes minutes a clip
PACK = {"cpu": 60.0, "cuda": 600.0}  # seconds of audio: 0.2 GB on a CPU; 6 GB in bf16 on a GPU, by its largest tensors
SCORES = 512  # frames of a clip whose attention scores, 6 MB in bf16, stay in a CPU's cache
ROWS = 1024  # frames whose feed-forward runs together on a CPU: 12 MB, which stay in its cache

_lane = threading.local()


@dataclass(frozen=True)
class Packed:
    """The engine as an encoder."""

    info: EncoderInfo
    network: Network
    normalised: bool  # the waveform is brought to zero mean and unit variance
    views: tuple[str, ...] = ("pooled", "layers", "std", "frames")
    longest: float = LONGEST

    @classmethod
    def of(cls, checkpoint: Checkpoint, device: torch.device, log: Log = no_log) -> Packed:
        """Take over a checkpoint that `unsupported` has nothing against; its model is not kept."""
        precision = checkpoint.info.precision
        if not is_fast(device.type, precision):
            log(f"note: this processor has no fast {precision}: --precision fp32 is faster here, and exact.")
        network = Network.of(checkpoint.model, DTYPES[precision], device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # the weights are laid out on another stream than they are used on
        return cls(checkpoint.info, network, checkpoint.normalised)

    @property
    def shortest(self) -> float:
        """Seconds of audio that give one frame."""
        return self.network.front.samples(1) / self.info.sample_rate

    @property
    def pack(self) -> float:
        """Seconds of audio for one call."""
        return PACK[self.network.device.type]

    @property
    def lanes(self) -> int:
        """On a GPU one pack is prepared and copied while another is encoded; on a CPU one takes all cores."""
        return 2 if self.network.device.type == "cuda" else 1

    def encode(self, waveforms: Sequence[Waveform], views: Sequence[str]) -> Batch:
        """The views of each waveform. Raises AudioError for one too short, EncoderError for one too long for a GPU."""
        refuse_short(self, waveforms)
        order = sorted(range(len(waveforms)), key=lambda number: len(waveforms[number]))
        return in_order(self.info, views, self._halving(waveforms, order, views) if order else [])

    def _halving(
        self, waveforms: Sequence[Waveform], numbers: Sequence[int], views: Sequence[str]
    ) -> list[tuple[Sequence[int], Batch]]:
        """One pack, or where the GPU's memory does not hold it, its halves."""
        try:
            return [(numbers, self._encode([waveforms[number] for number in numbers], views))]
        except torch.OutOfMemoryError as error:
            if len(numbers) == 1:
                seconds = len(waveforms[numbers[0]]) / self.info.sample_rate
                raise EncoderError(
                    f"{self.info.name}: a clip of {seconds:.0f} s does not fit into the GPU's memory. Cut it, free the "
                    "GPU, or use --device cpu."
                ) from error
        torch.cuda.empty_cache()
        half = len(numbers) // 2
        return [
            *self._halving(waveforms, numbers[:half], views),
            *self._halving(waveforms, numbers[half:], views),
        ]

    def _encode(self, waveforms: Sequence[Waveform], views: Sequence[str]) -> Batch:
        with torch.inference_mode(), _own_stream(self.network.device):
            waves = _to_device(waveforms, self.network.device)
            if self.normalised:
                waves = [_normalise(wave) for wave in waves]
            collector = Collector(views, self.network.front.frames(waves))
            for state in self.network.states(waves):
                collector.add(state)
            return collector.batch()


def unsupported(checkpoint: Checkpoint) -> str:
    """Why a checkpoint is not for this engine, in a few words; empty where it is."""
    config, features = checkpoint.model.config, type(checkpoint.features).__name__
    reasons = {
        f"its feature extractor is {features}": features != "Wav2Vec2FeatureExtractor",
        f"{config.model_type} is not {' or '.join(FAMILIES)}": config.model_type not in FAMILIES,
        "its activation is not the exact GELU": {
            getattr(config, "hidden_act", ""),
            getattr(config, "feat_extract_activation", ""),
        }
        != {"gelu"},
        "it has attention adapters": getattr(config, "adapter_attn_dim", None) is not None,
        "its positional convolution has a batch norm": getattr(config, "conv_pos_batch_norm", False),
        "its last hidden state is normalised": getattr(config, "tie_last_hidden_states", False),
        "a frame sees more than two hops": not fits_slots(config),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


@dataclass(frozen=True)
class Block:
    """One transformer block."""

    qkv: Linear  # (3 D, D)
    out: Linear
    up: Linear
    down: Linear
    attention_norm: Norm
    feed_forward_norm: Norm


@dataclass(frozen=True)
class Network:
    """The weights, laid out for packs."""

    front: FrontEnd
    feature_norm: Norm | None
    projection: Linear
    position: tuple[Tensor, Tensor, int, int]  # weight (D, D / groups, 1, k), bias (D,), k, groups
    norm: Norm
    blocks: tuple[Block, ...]
    heads: int
    stable: bool  # norms before attention and feed-forward ("stable layer norm", the large models)
    rows: int | None  # frames whose feed-forward runs together; None: all, for a GPU

    @classmethod
    def of(cls, model: Any, dtype: torch.dtype, device: torch.device) -> Network:
        """Take the weights out of transformers' `Wav2Vec2Model` or `HubertModel`."""
        like = torch.empty(0, dtype=dtype, device=device)
        position = model.encoder.pos_conv_embed.conv
        scale = (model.config.hidden_size // model.config.num_attention_heads) ** -0.5
        weight = position.weight.detach()[:, :, None].to(like)
        return cls(
            front=FrontEnd.of(model.feature_extractor, model.config.conv_stride, like),
            feature_norm=optional_norm(model.feature_projection, device),
            projection=_linear(model.feature_projection.projection, like),
            position=(
                weight.contiguous(memory_format=torch.channels_last),
                position.bias.detach().to(like),
                position.kernel_size[0],
                position.groups,
            ),
            norm=Norm.of(model.encoder.layer_norm, device),
            blocks=tuple(_block(layer, scale, like) for layer in model.encoder.layers),
            heads=model.config.num_attention_heads,
            stable=bool(model.config.do_stable_layer_norm),
            rows=ROWS if device.type == "cpu" else None,
        )

    @property
    def dtype(self) -> torch.dtype:
        """That of the matrix products."""
        return self.position[0].dtype

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.position[0].device

    def states(self, waves: Sequence[Tensor]) -> Iterator[Tensor]:
        """Each hidden state of the pack, layer 0 first: (N, D) float32, valid until the next is asked for.

        Clips of one length that lie side by side share what can be shared.
        """
        layout = Layout.of(self.front.frames(waves))
        features = self.front(waves, layout)  # (slots, C)
        features = features.index_select(0, layout.valid().to(self.device))  # (N, C)
        if self.feature_norm is not None:
            features = self.feature_norm(features).to(self.dtype)
        h = self.projection(features).float()  # (N, D)
        h += self._positions(h, layout)
        if not self.stable:
            h = self.norm(h)
        yield h
        for block in self.blocks:
            self._block(h, block, layout)
            yield h

    def _positions(self, h: Tensor, layout: Layout) -> Tensor:
        """(N, D): the convolution that tells frames where they are.

        Zeros between clips: it pads each clip with k/2 = 64 zero frames at either end. With 64 of them between
        neighbours one convolution runs over all, and none sees another clip.
        """
        weight, bias, width, groups = self.position
        gap = width // 2
        ends = np.cumsum([n + gap for n in layout.frames])
        rows = torch.cat([torch.arange(e - n - gap, e - gap) for e, n in zip(ends, layout.frames, strict=True)])
        rows = rows.to(self.device)
        spaced = h.new_zeros(int(ends[-1]), h.shape[1], dtype=self.dtype)
        spaced[rows] = h.to(self.dtype)
        image = spaced.t()[None, :, None, :]  # (1, D, 1, frames), rows in memory as they were
        y = F.conv2d(image, weight, bias, padding=(0, gap), groups=groups)[0, :, 0]
        return F.gelu(y.t().index_select(0, rows)).float()

    def _block(self, h: Tensor, block: Block, layout: Layout) -> None:
        """One transformer block, in place on the residual stream h (N, D).

        Blocks of rows: all but attention is row-wise, so it runs over as many rows as the cache holds.
        """
        mixed = self._attend(h, block, layout)
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

    def _attend(self, h: Tensor, block: Block, layout: Layout) -> Tensor:
        """(N, D): every frame's mixture of the frames of its own clip."""
        normed = block.attention_norm(h) if self.stable else h
        qkv = block.qkv(normed.to(self.dtype)).view(len(h), 3, self.heads, -1)
        kernel = _varlen() if _takes_varlen(qkv) else None
        if kernel is not None:
            return _attend_varlen(qkv, layout, kernel)
        groups = runs(layout.frames) if self.rows is None else [(i, i + 1) for i in range(len(layout.frames))]
        sizes = [sum(layout.frames[a:b]) for a, b in groups]
        return torch.cat([_attend(part, b - a) for part, (a, b) in zip(qkv.split(sizes), groups, strict=True)])


def _attend(qkv: Tensor, clips: int) -> Tensor:  # (clips * T, 3, heads, d) -> (clips * T, D)
    """Softmax(q k') v, the scale being in q already.

    In bf16 on a CPU two batched products with all scores between them are twice as fast as the blocked kernel, as long
    as the scores stay in the cache. They are rounded to bf16, which adds no more than rounding q and k did.
    """
    q, k, v = qkv.unflatten(0, (clips, -1)).permute(2, 0, 3, 1, 4)  # each (clips, heads, T, d)
    if qkv.dtype == torch.bfloat16 and qkv.device.type == "cpu" and q.shape[2] <= SCORES:
        scores = q.contiguous() @ k.contiguous().transpose(2, 3)
        mixed: Tensor = torch.softmax(scores, -1, dtype=torch.float32).to(qkv.dtype) @ v
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return mixed.transpose(1, 2).flatten(2).flatten(0, 1)


def _attend_varlen(qkv: Tensor, layout: Layout, kernel: Callable[..., Any]) -> Tensor:
    """All clips in one kernel that knows where each begins."""
    bounds = _bounds(layout.frames, qkv.device)
    longest = max(layout.frames)
    mixed: Tensor = kernel(*qkv.unbind(1), bounds, bounds, longest, longest, scale=1.0)
    return mixed.flatten(1)


def _takes_varlen(qkv: Tensor) -> bool:
    """What FlashAttention takes: half precision, heads of a multiple of 8 dimensions, Ampere or newer."""
    if qkv.device.type != "cuda" or qkv.dtype == torch.float32 or qkv.shape[-1] % 8:
        return False
    return torch.cuda.get_device_capability(qkv.device) >= (8, 0)


@functools.cache
def _varlen() -> Callable[..., Any] | None:
    """torch's attention over clips of any lengths, where this torch has it and lets the scale be chosen.

    Where it may split the keys, it must not: the order of sums would depend on the longest clip of the pack.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    options = inspect.signature(varlen_attn).parameters
    whole = functools.partial(varlen_attn, num_splits=1) if "num_splits" in options else varlen_attn
    return whole if "scale" in options else None


@functools.lru_cache(maxsize=4)
def _bounds(frames: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor([0, *np.cumsum(frames)], dtype=torch.int32, device=device)


def _to_device(waveforms: Sequence[Waveform], device: torch.device) -> list[Tensor]:
    """The waveforms on the device; to a GPU in one copy from pinned memory, which does not stop the processor."""
    waves = [torch.from_numpy(np.require(wave, np.float32, ["C", "W"])) for wave in waveforms]
    if device.type == "cpu":
        return waves
    lengths = [len(wave) for wave in waves]
    pinned = torch.empty(sum(lengths), pin_memory=True)
    torch.cat(waves, out=pinned)
    return list(pinned.to(device, non_blocking=True).split(lengths))


def _own_stream(device: torch.device) -> Any:
    """On a GPU, a stream for each thread: one pack is copied while another, of another thread, is encoded.

    Not for each call: what a stream has freed serves that stream alone.
    """
    if device.type != "cuda":
        return nullcontext()
    if not hasattr(_lane, "stream"):
        _lane.stream = torch.cuda.Stream(device)
    return torch.cuda.stream(_lane.stream)


def _normalise(wave: Tensor) -> Tensor:
    """Zero mean and unit variance, as Wav2Vec2FeatureExtractor has them."""
    wide = wave.double()
    variance, mean = torch.var_mean(wide, correction=0)
    return ((wide - mean) / torch.sqrt(variance + 1e-7)).float()


def _linear(linear: Any, like: Tensor, gelu: bool = False) -> Linear:
    return Linear.prepare(linear.weight, linear.bias, like, gelu)


def _block(layer: Any, scale: float, like: Tensor) -> Block:
    """`scale`, by which attention multiplies q: 1/8 for 64 dimensions a head, which rounds nothing."""
    a, f = layer.attention, layer.feed_forward
    return Block(
        qkv=Linear.prepare(
            torch.cat([a.q_proj.weight * scale, a.k_proj.weight, a.v_proj.weight]),
            torch.cat([a.q_proj.bias * scale, a.k_proj.bias, a.v_proj.bias]),
            like,
        ),
        out=_linear(a.out_proj, like),
        up=_linear(f.intermediate_dense, like, gelu=True),
        down=_linear(f.output_dense, like),
        attention_norm=Norm.of(layer.layer_norm, like.device),
        feed_forward_norm=Norm.of(layer.final_layer_norm, like.device),
    )
