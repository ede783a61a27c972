"""The packed engine: wav2vec 2.0 and HuBERT over clips of any lengths, without padding.

A *pack* is several clips in one buffer, one after the other. Steps that treat each frame by itself (linear layers,
layer norms, GELU) run over one matrix of all frames. Attention and every statistic over time look at one clip at a
time, so that no clip changes the vector of another.

Every step is exact in real arithmetic. The numbers are those of transformers' own forward pass on each clip alone, up
to rounding in float32: `check_encoder` and the tests hold every layer to 1e-5. In bf16 and fp16 the matrix products are
rounded, while the residual stream, the norms and the time means stay float32; the cosine is at least 0.9999 on every
layer.

`convolutions` holds the front end, `_linear` the matrix products, `_pooling` the views of the hidden states. Read
`Packed.encode` first, then `Network.states`.

Letters in the shapes: T frames of a clip; N frames of the whole pack, the sum of T; D numbers a frame, 768 (base) or
1024 (large); d numbers a head of attention; C = 512 channels of the front end.
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
from ..encoder import Batch, EncoderInfo, Log, check_waveforms, no_log
from ..errors import EncoderError
from ._linear import DTYPES, Linear, Norm, is_fast
from ._pooling import Collector, equal_spans, restore_order
from .checkpoint import Checkpoint
from .convolutions import FrontEnd, Layout, fits_slots, optional_norm

FAMILIES = ("wav2vec2", "hubert")
LONGEST = 900.0  # longest clip, in seconds; attention over more frames takes minutes a clip
PACK = {"cpu": 60.0, "cuda": 600.0}  # seconds of audio: 0.2 GB on a CPU; 6 GB in bf16 on a GPU, by its largest tensors
SCORES = 512  # frames of the longest clip whose attention scores, 6 MB in bf16, stay in a CPU's cache
ROWS = 1024  # frames whose feed-forward layers run together on a CPU: 12 MB, which stay in its cache

_thread = threading.local()


@dataclass(frozen=True)
class Packed:
    """The packed engine as an encoder."""

    info: EncoderInfo
    network: Network
    normalised: bool  # whether each waveform is brought to zero mean and unit variance first
    views: tuple[str, ...] = ("pooled", "layers", "std", "frames")
    longest: float = LONGEST  # longest clip the encoder accepts, in seconds

    @classmethod
    def of(cls, checkpoint: Checkpoint, device: torch.device, log: Log = no_log) -> Packed:
        """Build the encoder from a checkpoint for which `unsupported_reason` is empty. Its model is not kept."""
        precision = checkpoint.info.precision
        if not is_fast(device.type, precision):
            log(f"note: this processor has no {precision} instructions; --precision fp32 is faster here, and exact.")
        network = Network.of(checkpoint.model, DTYPES[precision], device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # the weights are prepared on one stream and used on others
        return cls(checkpoint.info, network, checkpoint.normalised)

    @property
    def shortest(self) -> float:
        """Shortest clip that gives a frame, in seconds."""
        return self.network.front.samples_for(1) / self.info.sample_rate

    @property
    def pack(self) -> float:
        """Seconds of audio that one call of `encode` should get."""
        return PACK[self.network.device.type]

    @property
    def lanes(self) -> int:
        """Number of calls of `encode` to run side by side.

        On a GPU one pack is prepared and copied while another is encoded; on a CPU one pack keeps all cores busy.
        """
        return 2 if self.network.device.type == "cuda" else 1

    def encode(self, waveforms: Sequence[Waveform], views: Sequence[str]) -> Batch:
        """Return the views of each waveform.

        Raises AudioError if a waveform is too short for a frame, EncoderError if one is too long for the GPU's memory.
        """
        check_waveforms(self, waveforms)
        order = sorted(range(len(waveforms)), key=lambda number: len(waveforms[number]))
        return restore_order(self.info, views, self._encode_halving(waveforms, order, views) if order else [])

    def _encode_halving(
        self, waveforms: Sequence[Waveform], numbers: Sequence[int], views: Sequence[str]
    ) -> list[tuple[Sequence[int], Batch]]:
        """Encode the waveforms with these numbers as one pack, or in halves if the GPU's memory is too small for it."""
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
            *self._encode_halving(waveforms, numbers[:half], views),
            *self._encode_halving(waveforms, numbers[half:], views),
        ]

    def _encode(self, waveforms: Sequence[Waveform], views: Sequence[str]) -> Batch:
        with torch.inference_mode(), _own_stream(self.network.device):
            waves = _to_device(waveforms, self.network.device)
            if self.normalised:
                waves = [_normalise(wave) for wave in waves]
            collector = Collector(views, self.network.front.count_frames(waves))
            for state in self.network.states(waves):
                collector.add(state)
            return collector.batch()


def unsupported_reason(checkpoint: Checkpoint) -> str:
    """Return why the packed engine cannot run a checkpoint, in a few words; empty if it can."""
    config, extractor = checkpoint.model.config, type(checkpoint.features).__name__
    activations = {getattr(config, "hidden_act", ""), getattr(config, "feat_extract_activation", "")}
    reasons = {
        f"its feature extractor is {extractor}": extractor != "Wav2Vec2FeatureExtractor",
        f"{config.model_type} is not {' or '.join(FAMILIES)}": config.model_type not in FAMILIES,
        "its activation is not the exact GELU": activations != {"gelu"},
        "it has attention adapters": getattr(config, "adapter_attn_dim", None) is not None,
        "its positional convolution has a batch norm": getattr(config, "conv_pos_batch_norm", False),
        "its last hidden state is normalised": getattr(config, "tie_last_hidden_states", False),
        "one of its frames sees more than two hops of samples": not fits_slots(config),
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


@dataclass(frozen=True)
class Block:
    """The layers of one transformer block."""

    qkv: Linear  # (3 D, D): queries, keys and values of attention
    out: Linear  # (D, D): output of attention
    up: Linear  # (4 D, D): first feed-forward layer, with its GELU
    down: Linear  # (D, 4 D): second feed-forward layer
    attention_norm: Norm
    feed_forward_norm: Norm


@dataclass(frozen=True)
class Network:
    """The weights of a network, prepared for packs."""

    front: FrontEnd
    feature_norm: Norm | None
    projection: Linear  # (D, C)
    position: tuple[Tensor, Tensor, int, int]  # weight (D, D / groups, 1, k), bias (D,), k, groups
    norm: Norm
    blocks: tuple[Block, ...]
    heads: int
    stable: bool  # norms come before attention and feed-forward ("stable layer norm", the large models)
    rows: int | None  # frames whose feed-forward layers run together; None runs all at once, as a GPU does

    @classmethod
    def of(cls, model: Any, dtype: torch.dtype, device: torch.device) -> Network:
        """Take the weights of transformers' `Wav2Vec2Model` or `HubertModel`."""
        like = torch.empty(0, dtype=dtype, device=device)
        position = model.encoder.pos_conv_embed.conv
        scale = (model.config.hidden_size // model.config.num_attention_heads) ** -0.5
        weight = position.weight.detach()[:, :, None].to(like)
        return cls(
            front=FrontEnd.of(model.feature_extractor, model.config.conv_stride, like),
            feature_norm=optional_norm(model.feature_projection, device),
            projection=_prepare_linear(model.feature_projection.projection, like),
            position=(
                weight.contiguous(memory_format=torch.channels_last),
                position.bias.detach().to(like),
                position.kernel_size[0],
                position.groups,
            ),
            norm=Norm.of(model.encoder.layer_norm, device),
            blocks=tuple(_prepare_block(layer, scale, like) for layer in model.encoder.layers),
            heads=model.config.num_attention_heads,
            stable=bool(model.config.do_stable_layer_norm),
            rows=ROWS if device.type == "cpu" else None,
        )

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the matrix products."""
        return self.position[0].dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.position[0].device

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
        h += self._positions(h, layout)
        if not self.stable:
            h = self.norm(h)
        yield h
        for block in self.blocks:
            self._block(h, block, layout)
            yield h

    def _positions(self, h: Tensor, layout: Layout) -> Tensor:  # (N, D) -> (N, D)
        """Return the positional embedding, a convolution over time with k = 128 taps.

        The network pads each clip with k / 2 = 64 zero frames at both ends. With 64 zero frames between neighbours, one
        convolution runs over all clips, and no clip sees another.

        Example: clips of 2 and 3 frames, k = 4, so gap = 2.

            spaced row    0    1    2    3    4    5    6    7    8
            frame         a0   a1   0    0    b0   b1   b2   0    0

            ends = [4, 9]    rows = [0, 1, 4, 5, 6]
        """
        weight, bias, width, groups = self.position
        gap = width // 2
        ends = np.cumsum([count + gap for count in layout.frames])  # where the zeros after each clip end
        spans = zip(ends, layout.frames, strict=True)
        rows = torch.cat([torch.arange(end - count - gap, end - gap) for end, count in spans]).to(self.device)
        spaced = h.new_zeros(int(ends[-1]), h.shape[1], dtype=self.dtype)
        spaced[rows] = h.to(self.dtype)
        image = spaced.t()[None, :, None, :]  # (1, D, 1, rows of `spaced`), a view
        y = F.conv2d(image, weight, bias, padding=(0, gap), groups=groups)[0, :, 0]
        return F.gelu(y.t().index_select(0, rows)).float()

    def _block(self, h: Tensor, block: Block, layout: Layout) -> None:
        """Apply one transformer block to the residual stream h (N, D), in place.

        All steps but attention treat each frame by itself, so they run over as many rows as the cache holds.
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

    def _attend(self, h: Tensor, block: Block, layout: Layout) -> Tensor:  # (N, D) -> (N, D)
        """Return the attention of every frame over the frames of its own clip.

        On a CPU the clips are computed one by one; on a GPU in one kernel, or in groups of one length if the kernel is
        not available.
        """
        normed = block.attention_norm(h) if self.stable else h
        qkv = block.qkv(normed.to(self.dtype)).view(len(h), 3, self.heads, -1)  # (N, 3, heads, d)
        kernel = _varlen() if _takes_varlen(qkv) else None
        if kernel is not None:
            return _attend_varlen(qkv, layout, kernel)
        one_by_one = [(number, number + 1) for number in range(len(layout.frames))]
        spans = equal_spans(layout.frames) if self.rows is None else one_by_one
        parts = qkv.split([sum(layout.frames[begin:end]) for begin, end in spans])
        return torch.cat([_attend(part, end - begin) for part, (begin, end) in zip(parts, spans, strict=True)])


def _attend(qkv: Tensor, clips: int) -> Tensor:  # (clips * T, 3, heads, d) -> (clips * T, D)
    """Return softmax(q k') v for clips of one length. The weights of q already contain the scale.

    In bf16 on a CPU, two batched products with all scores between them are twice as fast as the blocked kernel as long
    as the scores stay in the cache. The scores are rounded to bf16, which adds no more error than rounding q and k did.
    """
    q, k, v = qkv.unflatten(0, (clips, -1)).permute(2, 0, 3, 1, 4)  # each (clips, heads, T, d)
    if qkv.dtype == torch.bfloat16 and qkv.device.type == "cpu" and q.shape[2] <= SCORES:
        scores = q.contiguous() @ k.contiguous().transpose(2, 3)  # (clips, heads, T, T)
        mixed: Tensor = torch.softmax(scores, -1, dtype=torch.float32).to(qkv.dtype) @ v
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return mixed.transpose(1, 2).flatten(2).flatten(0, 1)


def _attend_varlen(qkv: Tensor, layout: Layout, kernel: Callable[..., Any]) -> Tensor:  # (N, 3, heads, d) -> (N, D)
    """Return the attention of all clips from one kernel call, which receives the bounds of the clips."""
    bounds = _bounds(layout.frames, qkv.device)
    longest = max(layout.frames)
    mixed: Tensor = kernel(*qkv.unbind(1), bounds, bounds, longest, longest, scale=1.0)
    return mixed.flatten(1)


def _takes_varlen(qkv: Tensor) -> bool:
    """Whether FlashAttention can compute this: half precision, d a multiple of 8, an Ampere GPU or newer."""
    if qkv.device.type != "cuda" or qkv.dtype == torch.float32 or qkv.shape[-1] % 8:
        return False
    return torch.cuda.get_device_capability(qkv.device) >= (8, 0)


@functools.cache
def _varlen() -> Callable[..., Any] | None:
    """Return torch's attention over clips of any lengths, or None if this torch has none with a `scale` parameter.

    A version that can split the keys must not: the order of the sums would depend on the longest clip of the pack.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    options = inspect.signature(varlen_attn).parameters
    attention = functools.partial(varlen_attn, num_splits=1) if "num_splits" in options else varlen_attn
    return attention if "scale" in options else None


@functools.lru_cache(maxsize=4)
def _bounds(frames: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the first row of each clip and the end of the last one: frames (2, 3) give [0, 2, 5]."""
    return torch.tensor([0, *np.cumsum(frames)], dtype=torch.int32, device=device)


def _to_device(waveforms: Sequence[Waveform], device: torch.device) -> list[Tensor]:
    """Return the waveforms as tensors on the device; they go to a GPU in one asynchronous copy from pinned memory."""
    waves = [torch.from_numpy(np.require(wave, np.float32, ["C", "W"])) for wave in waveforms]
    if device.type == "cpu":
        return waves
    lengths = [len(wave) for wave in waves]
    pinned = torch.empty(sum(lengths), pin_memory=True)
    torch.cat(waves, out=pinned)
    return list(pinned.to(device, non_blocking=True).split(lengths))


def _own_stream(device: torch.device) -> Any:
    """Return a context that uses the calling thread's own stream on a GPU; on a CPU it does nothing.

    With a stream for each thread, one pack is copied while another is encoded.
    Each thread keeps its stream for all calls, because torch reuses freed memory only within one stream.
    """
    if device.type != "cuda":
        return nullcontext()
    if not hasattr(_thread, "stream"):
        _thread.stream = torch.cuda.Stream(device)
    return torch.cuda.stream(_thread.stream)


def _normalise(wave: Tensor) -> Tensor:
    """Return the waveform with zero mean and unit variance, computed as in Wav2Vec2FeatureExtractor."""
    wide = wave.double()
    variance, mean = torch.var_mean(wide, correction=0)
    return ((wide - mean) / torch.sqrt(variance + 1e-7)).float()


def _prepare_linear(linear: Any, like: Tensor, gelu: bool = False) -> Linear:
    return Linear.prepare(linear.weight, linear.bias, like, gelu)


def _prepare_block(layer: Any, scale: float, like: Tensor) -> Block:
    """Take the weights of a transformer block. The factor of attention is multiplied into the weights of q.

    For heads of 64 dimensions `scale` is 1/8, a power of two, so the multiplication rounds nothing.
    """
    attention, feed_forward = layer.attention, layer.feed_forward
    q, k, v = attention.q_proj, attention.k_proj, attention.v_proj
    return Block(
        qkv=Linear.prepare(
            torch.cat([q.weight * scale, k.weight, v.weight]), torch.cat([q.bias * scale, k.bias, v.bias]), like
        ),
        out=_prepare_linear(attention.out_proj, like),
        up=_prepare_linear(feed_forward.intermediate_dense, like, gelu=True),
        down=_prepare_linear(feed_forward.output_dense, like),
        attention_norm=Norm.of(layer.layer_norm, like.device),
        feed_forward_norm=Norm.of(layer.final_layer_norm, like.device),
    )
