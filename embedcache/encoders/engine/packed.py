"""The packed engine: wav2vec 2.0 and its relatives over clips of any lengths, without padding.

A *pack* is several clips in one buffer, one after the other. Steps that treat each frame by itself (linear layers,
layer norms, GELU) run over one matrix of all frames. Attention and every statistic over time look at one clip at a
time, so that no clip changes the vector of another.

Every step is exact in real arithmetic. The numbers are those of transformers' own forward pass on each clip alone, up
to rounding in float32: the tests hold every layer to 1e-5. In bf16 and fp16 the matrix products are
rounded, while the residual stream, the norms and the time means stay float32; the cosine is at least 0.9999 on every
layer.

Read `Packed.encode` first, then `network.Network.states`. `convolutions` holds the front end, `linear` the matrix
products, `attention` and `positions` what looks at several frames, `pooling` the views of the hidden states, and
`memory` what happens if a pack does not fit.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...audio.decode import Waveform
from ...encoder import Batch, EncoderInfo, Log, check_waveforms, no_log
from ..checkpoint import Checkpoint
from .convolutions import fits_slots
from .families import FAMILIES
from .linear import DTYPES, is_fast
from .memory import Memory, explain_load
from .network import Network
from .pooling import Collector, restore_order

LONGEST = 900.0  # longest clip, in seconds; attention over more frames takes minutes a clip
PACK = {"cpu": 60.0, "cuda": 600.0}  # seconds of audio: 0.2 GB on a CPU; 6 GB in bf16 on a GPU, by its largest tensors

_thread = threading.local()


@dataclass(frozen=True)
class Packed:
    """The packed engine as an encoder."""

    info: EncoderInfo
    network: Network
    normalised: bool  # whether each waveform is brought to zero mean and unit variance first
    memory: Memory  # the memory of the network's device
    views: tuple[str, ...] = ("pooled", "layers", "std", "frames")
    longest: float = LONGEST  # longest clip the encoder accepts, in seconds

    @classmethod
    def of(cls, checkpoint: Checkpoint, device: torch.device, log: Log = no_log) -> Packed:
        """Build the encoder from a checkpoint for which `unsupported_reason` is empty. Its model is not kept."""
        precision = checkpoint.info.precision
        if not is_fast(device.type, precision):
            log(f"note: this processor has no {precision} instructions; --precision fp32 is faster here, and exact.")
        with explain_load(checkpoint.info.name, device):
            like = torch.empty(0, dtype=DTYPES[precision], device=device)
            network = FAMILIES[checkpoint.model.config.model_type].build(checkpoint.model, like)
            if device.type == "cuda":
                torch.cuda.synchronize(device)  # the weights are prepared on one stream and used on others
        return cls(checkpoint.info, network, checkpoint.normalised, Memory(checkpoint.info.name, device))

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

        Raises AudioError if a waveform is too short for a frame, EncoderError if one is too long for the memory.
        """
        check_waveforms(self, waveforms)
        order = sorted(range(len(waveforms)), key=lambda number: len(waveforms[number]))
        seconds = [len(wave) / self.info.sample_rate for wave in waveforms]

        def encode(numbers: Sequence[int]) -> Batch:
            return self._encode([waveforms[number] for number in numbers], views)

        return restore_order(self.info, views, self.memory.encode(order, seconds, encode) if order else [])

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
    family = FAMILIES.get(config.model_type)
    activations = {getattr(config, "hidden_act", ""), getattr(config, "feat_extract_activation", "")}
    reasons = {
        f"its feature extractor is {extractor}": extractor != "Wav2Vec2FeatureExtractor",
        f"{config.model_type} is not one of {', '.join(FAMILIES)}": family is None,
        "its activation is not the exact GELU": activations != {"gelu"},
        **(family.faults(config) if family else {}),
        "its last hidden state is normalised": getattr(config, "tie_last_hidden_states", False),
        "one of its frames sees more than two hops of samples": not fits_slots(config),
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


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
    """Return a context that uses the calling thread's own stream of a GPU; on a CPU it does nothing.

    With a stream for each thread, one pack is copied while another is encoded.
    Each thread keeps its stream for all calls, because torch reuses freed memory only within one stream.
    """
    if device.type != "cuda":
        return nullcontext()
    streams = vars(_thread).setdefault("streams", {})
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)
    return torch.cuda.stream(streams[device])


def _normalise(wave: Tensor) -> Tensor:
    """Return the waveform with zero mean and unit variance, computed as in Wav2Vec2FeatureExtractor."""
    wide = wave.double()
    variance, mean = torch.var_mean(wide, correction=0)
    return ((wide - mean) / torch.sqrt(variance + 1e-7)).float()
