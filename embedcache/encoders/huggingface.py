"""Any Hugging Face speech encoder, computed by transformers' own forward pass; and the list of built-in checkpoints.

Waveforms go through the checkpoint's own feature extractor and `AutoModel`. Only waveforms of one length share a
forward pass, so nothing is padded and no clip changes the vector of another; `_fixed_input` has the exceptions, Whisper
and AST. `layers` is the mean over time of every hidden state, `pooled` that of the last one.

The families of `engine` use the packed engine instead, which gives the same numbers faster; the tests compare it with
this module.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.decode import Waveform
from ..encoder import (
    Batch,
    Encoder,
    EncoderInfo,
    EncoderSpec,
    Log,
    check_waveforms,
    count_samples,
    no_log,
    pick_device,
)
from ..errors import EncoderError, first_line
from ..files.tables import read_rows
from . import _fixed_input
from ._fixed_input import FixedInput, fixed_input
from .checkpoint import USE, Checkpoint, emotion_labels, open_checkpoint, untrained
from .engine.memory import Memory, explain_load
from .hub import UNTRAINED

LONGEST = 120.0  # longest clip, in seconds; the first convolution of wav2vec2-base then takes about 3 GB
TOGETHER = 16.0  # seconds of audio in one forward pass, for the same reason
TRIAL = 0.1  # seconds of sound with which an encoder is tried when it is loaded, so that loading takes little longer
# Samples of a window of a spectrogram, and from one window to the next, as in all families without convolutions.
WINDOW, HOP = 400, 160


@dataclass(frozen=True)
class HuggingFaceEncoder:
    """A frozen model of transformers and its feature extractor."""

    info: EncoderInfo
    model: Any
    features: Any  # the feature extractor
    device: Any
    memory: Memory
    views: tuple[str, ...] = ("pooled", "layers", "std", "frames")
    pack: float = 60.0  # seconds of audio that one call of `encode` should get
    lanes: int = 1  # number of calls of `encode` to run side by side

    @classmethod
    def of(cls, checkpoint: Checkpoint, device: Any) -> HuggingFaceEncoder:
        """Build the encoder from a checkpoint.

        In bf16 and fp16 the forward pass runs under autocast, which becomes part of the fingerprint.
        """
        info = checkpoint.info
        if info.precision != "fp32":
            info = replace(info, preprocessing=f"{info.preprocessing}; autocast")
        with explain_load(info.name, device):
            model = checkpoint.model.to(device)
        return cls(info, model, checkpoint.features, device, Memory(info.name, device))

    @property
    def shortest(self) -> float:
        """Shortest clip that gives a frame, in seconds: the receptive field of the convolutions.

        Networks that read spectrograms need one window; wav2vec2-bert, which joins 2 windows to a frame, needs 2.
        """
        from .engine.convolutions import receptive_field

        samples = receptive_field(self.model.config)
        windows = int(getattr(self.features, "stride", 1))
        return (samples if samples > 1 else WINDOW + (windows - 1) * HOP) / self.info.sample_rate

    @property
    def longest(self) -> float:
        """Longest clip the encoder accepts, in seconds: limited by memory, or by the input of the network."""
        return self._fixed.seconds if self._fixed else LONGEST

    @cached_property
    def _fixed(self) -> FixedInput | None:
        return fixed_input(self.model.config, self.features)

    def encode(self, waveforms: Sequence[Waveform], views: Sequence[str]) -> Batch:
        """Return the views of each waveform.

        Raises AudioError if a waveform is too short for a frame, EncoderError if one is too long for the memory.
        """
        from .engine.pooling import restore_order

        check_waveforms(self, waveforms)
        seconds = [len(wave) / self.info.sample_rate for wave in waveforms]

        def encode(group: Sequence[int]) -> Batch:
            return self._encode([waveforms[number] for number in group], views)

        groups = [self.memory.encode(group, seconds, encode) for group in self._groups(waveforms)]
        return restore_order(self.info, views, [part for parts in groups for part in parts])

    def _groups(self, waveforms: Sequence[Waveform]) -> Iterator[list[int]]:
        """Yield the numbers of waveforms that share a forward pass: those of one length, if the input is as long.

        Example: lengths of 5 s, 9 s, 5 s, 5 s and 5 s give [0, 2, 3], [4] and [1], as 16 s hold three clips of 5 s.
        """
        if self._fixed:
            size = _fixed_input.TOGETHER[self.device.type]
            yield from (list(range(len(waveforms)))[begin : begin + size] for begin in range(0, len(waveforms), size))
            return
        lengths = np.array([len(wave) for wave in waveforms], dtype=np.int64)
        for length in np.unique(lengths):
            same = np.flatnonzero(lengths == length).tolist()
            count = max(1, int(TOGETHER * self.info.sample_rate / length))
            yield from (same[begin : begin + count] for begin in range(0, len(same), count))

    def _encode(self, waveforms: Sequence[Waveform], views: Sequence[str]) -> Batch:
        import torch

        from .engine.pooling import Collector

        waves = [np.asarray(wave, dtype=np.float32) for wave in waveforms]
        inputs = self.features(waves, sampling_rate=self.info.sample_rate, return_tensors="pt").to(self.device)
        with torch.inference_mode(), self._autocast():
            states = self._frames_of(self.model(**inputs, output_hidden_states=True).hidden_states)  # each (n, T, D)
            frames = [self._count_frames(len(wave), states[0].shape[1]) for wave in waves]
            collector = Collector(views, frames)
            for state in states:
                own = zip(state, frames, strict=True)
                collector.add(torch.cat([rows[:count] for rows, count in own]))  # (sum of frames, D)
            return collector.batch()

    def _frames_of(self, states: Sequence[Any]) -> list[Any]:
        return [self._fixed.frames_of(state) if self._fixed else state for state in states]

    def _count_frames(self, samples: int, computed: int) -> int:
        """Return how many of the computed frames belong to a clip: all of them, unless silence fills the input."""
        return min(computed, self._fixed.count_frames(samples)) if self._fixed else computed

    def _autocast(self) -> Any:
        import torch

        from .engine.linear import DTYPES

        if self.info.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.info.precision])


def load_checkpoint(
    checkpoint: str, device: str = "auto", precision: str = "fp32", log: Log = no_log, name: str = ""
) -> Encoder:
    """Load the encoder in a local folder or on the hub.

    Raises EncoderError if the checkpoint cannot be found or downloaded, or is not complete.
    """
    picked = pick_device(device)
    opened = open_checkpoint(checkpoint, name, precision)
    if emotions := emotion_labels(opened):
        log(
            f"note: {checkpoint}: was trained to classify emotions ({', '.join(emotions)}), on unknown recordings. "
            "Scores on these recordings, or on their speakers, are too high; leaderboards mark them with 'encoder?'."
        )
    return build_encoder(opened, picked, log)


def load_untrained(device: str = "auto", precision: str = "fp32", log: Log = no_log) -> Encoder:
    """Load wav2vec2-base with random weights from a fixed seed."""
    picked = pick_device(device)
    return build_encoder(untrained(precision), picked, log)


def build_encoder(checkpoint: Checkpoint, device: Any, log: Log = no_log) -> Encoder:
    """Build the packed engine if it supports the network, else transformers' own forward pass.

    `log` receives the reason if the packed engine does not support the network.
    """
    from .engine.packed import Packed, unsupported_reason

    _note_other_gpus(device, log)
    if reason := unsupported_reason(checkpoint):
        log(
            f"note: {checkpoint.info.name}: {reason}, so the packed engine cannot run it; transformers' own forward "
            "pass is used instead, which is slower."
        )
        encoder = HuggingFaceEncoder.of(checkpoint, device)
        refuse_misfit(encoder)
        return encoder
    return Packed.of(checkpoint, device, log)


def _note_other_gpus(device: Any, log: Log) -> None:
    """Log that one GPU is used, if there are several and none was chosen."""
    import torch

    count = torch.cuda.device_count() if device.type == "cuda" and device.index is None else 1
    if count > 1:
        log(
            f"note: this machine has {count} GPUs, of which the first is used. --device cuda:1 uses another, and ser "
            "extract --cluster local uses all of them."
        )


def refuse_misfit(encoder: HuggingFaceEncoder) -> None:
    """Raise EncoderError unless a short hum gives the layers that the config declares.

    A checkpoint may load although its network is none for speech, or has the feature extractor of another family. Of
    Whisper, whose network would compute 30 s, only the name of the input is compared.
    """
    info, wanted = encoder.info, encoder.model.main_input_name
    if wanted not in (given := encoder.features.model_input_names):
        raise EncoderError(_misfit(info, f"its network takes {wanted}, its feature extractor gives {given[0]}"))
    if encoder._fixed and not encoder._fixed.is_light:
        return
    samples = count_samples(max(TRIAL, encoder.shortest), info.sample_rate)
    hum = (0.1 * np.sin(np.arange(samples))).astype(np.float32)
    try:
        lengths = {
            encoder.features([wave], sampling_rate=info.sample_rate, return_tensors="np")[wanted].shape
            for wave in (hum, np.tile(hum, 20))
        }
        layers = np.asarray(encoder.encode([hum], ["layers"])["layers"])
    except EncoderError:  # the memory is too small for it
        raise
    except Exception as error:  # the networks of transformers raise exceptions of any type
        raise EncoderError(_misfit(info, first_line(error))) from error
    if len(lengths) == 1 and not encoder._fixed:
        raise EncoderError(_misfit(info, "its feature extractor cuts or pads every clip to one length"))
    if layers.shape != (1, info.n_layers, info.dim):
        raise EncoderError(
            _misfit(info, f"its layers are {layers.shape[1:]}, its config.json says {(info.n_layers, info.dim)}")
        )


def _misfit(info: EncoderInfo, reason: str) -> str:
    return f"{info.checkpoint or info.name}: cannot encode sound ({reason.rstrip('.')}); wanted a speech encoder. {USE}"


HUB = Path(__file__).with_name("checkpoints.csv")  # checkpoints on the hub; `family` is `model_type` in config.json
COLUMNS = ("name", "checkpoint", "family", "licence", "about")
TERMS = {"CC-BY-NC-4.0": "the licence of its weights forbids commercial use (CC BY-NC 4.0)."}  # by licence


def _specs() -> Iterator[EncoderSpec]:
    """Yield the built-in checkpoints, those of `HUB` and the control."""
    for row in read_rows(HUB, COLUMNS):
        name, checkpoint, family, licence, about = (row[column] for column in COLUMNS)
        load, terms = functools.partial(load_checkpoint, checkpoint, name=name), TERMS.get(licence, "")
        yield EncoderSpec(name, about, load, checkpoint, licence, terms, family=family)
    control = "wav2vec2-base with random weights (fixed seed): a control, no download"
    yield EncoderSpec(UNTRAINED, control, load_untrained, family="wav2vec2")


encoder = tuple(_specs())
