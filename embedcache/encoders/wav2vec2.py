"""Any Hugging Face speech encoder through transformers' own forward: the oracle that the packed engine is held to.

Waveforms go through the checkpoint's own feature extractor and `AutoModel`, together only where they are of one
length, so that nothing is padded and no clip can change another's vector. `layers` is the mean over time of every
hidden state, `pooled` that of the last. wav2vec 2.0 and HuBERT go to `packed`, which gives the same numbers faster.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..audio.decode import Waveform
from ..encoder import Batch, Encoder, EncoderInfo, EncoderSpec, Log, no_log, pick_device, refuse_short
from ._checkpoint import UNTRAINED, Checkpoint, open_checkpoint, untrained

LONGEST = 120.0  # seconds; the first convolution of wav2vec2-base then takes about 3 GB
TOGETHER = 16.0  # seconds of audio in one forward pass, for the same reason
WHISPER_SECONDS = 30.0  # Whisper's encoder takes spectrograms of this length, silence at the end
ONE_FRAME = 400  # samples, where a config does not say: 25 ms at 16 kHz, the window of every family here


@dataclass(frozen=True)
class HuggingFaceEncoder:
    """A frozen model and its feature extractor."""

    info: EncoderInfo
    model: Any
    features: Any
    device: Any
    views: tuple[str, ...] = ("pooled", "layers", "std", "frames")
    pack: float = 60.0
    lanes: int = 1

    @classmethod
    def of(cls, checkpoint: Checkpoint, device: Any) -> HuggingFaceEncoder:
        """Below float32, transformers' forward runs under autocast, which the fingerprint says."""
        info = checkpoint.info
        if info.precision != "fp32":
            info = replace(info, preprocessing=f"{info.preprocessing}; autocast")
        return cls(info, checkpoint.model.to(device), checkpoint.features, device)

    @property
    def shortest(self) -> float:
        """Seconds of audio that give one frame: the receptive field of the convolutions."""
        from ._convolutions import receptive_field

        samples = receptive_field(self.model.config)
        return (samples if samples > 1 else ONE_FRAME) / self.info.sample_rate

    @property
    def longest(self) -> float:
        """Seconds: what memory allows, or what Whisper takes."""
        return WHISPER_SECONDS if self._whisper else LONGEST

    @property
    def _whisper(self) -> bool:
        return bool(self.model.config.model_type == "whisper")

    def encode(self, waveforms: Sequence[Waveform], views: Sequence[str]) -> Batch:
        """The views of each waveform. Raises AudioError for one that is too short for a frame."""
        from ._pooling import in_order

        refuse_short(self, waveforms)
        groups = list(self._groups(waveforms))
        return in_order(self.info, views, [(group, self._encode(waveforms, group, views)) for group in groups])

    def _groups(self, waveforms: Sequence[Waveform]) -> Iterator[list[int]]:
        """Numbers of waveforms of one length, as many as fit one forward pass."""
        lengths = np.array([len(wave) for wave in waveforms], dtype=np.int64)
        for length in np.unique(lengths):
            same = np.flatnonzero(lengths == length).tolist()
            count = max(1, int(TOGETHER * self.info.sample_rate / length))
            yield from (same[begin : begin + count] for begin in range(0, len(same), count))

    def _encode(self, waveforms: Sequence[Waveform], group: Sequence[int], views: Sequence[str]) -> Batch:
        import torch

        from ._pooling import Collector

        waves = [np.asarray(waveforms[number], dtype=np.float32) for number in group]
        inputs = self.features(waves, sampling_rate=self.info.sample_rate, return_tensors="pt").to(self.device)
        with torch.inference_mode(), self._autocast():
            states = self.model(**inputs, output_hidden_states=True).hidden_states  # n_layers x (n, T, dim)
            frames = self._frames(len(waves[0]), states[0].shape[1])
            collector = Collector(views, [frames] * len(waves))
            for state in states:
                collector.add(state[:, :frames].flatten(0, 1))
            return collector.batch()

    def _frames(self, samples: int, given: int) -> int:
        """Frames that belong to the clip: all, but for those of the silence that Whisper's input ends with."""
        return min(given, -(-samples // (2 * self.features.hop_length))) if self._whisper else given

    def _autocast(self) -> Any:
        import torch

        from ._linear import DTYPES

        if self.info.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.info.precision])


def load_checkpoint(
    checkpoint: str, device: str = "auto", precision: str = "fp32", log: Log = no_log, name: str = ""
) -> Encoder:
    """The encoder in a local folder or on the hub. Raises EncoderError where it cannot be had or is not whole."""
    place = pick_device(device)
    return fastest(open_checkpoint(checkpoint, name, precision), place, log)


def load_untrained(device: str = "auto", precision: str = "fp32", log: Log = no_log) -> Encoder:
    """wav2vec2-base with seeded random weights."""
    place = pick_device(device)
    return fastest(untrained(precision), place, log)


def fastest(checkpoint: Checkpoint, device: Any, log: Log = no_log) -> Encoder:
    """The packed engine where it knows the network, else transformers' own forward; `log` receives why."""
    from .packed import Packed, unsupported

    if reason := unsupported(checkpoint):
        log(f"note: {checkpoint.info.name}: {reason}, so transformers' own forward encodes it, clip by clip.")
        return HuggingFaceEncoder.of(checkpoint, device)
    return Packed.of(checkpoint, device, log)


# name, checkpoint, what it is, licence
HUB = (
    ("wav2vec2-base", "facebook/wav2vec2-base", "wav2vec 2.0, 95 M weights, 960 h of English", "Apache-2.0"),
    ("wav2vec2-base-960h", "facebook/wav2vec2-base-960h", "the same, fine-tuned to transcribe", "Apache-2.0"),
    ("wav2vec2-large", "facebook/wav2vec2-large", "wav2vec 2.0, 317 M weights, 960 h of English", "Apache-2.0"),
    ("hubert-base", "facebook/hubert-base-ls960", "HuBERT, 95 M weights, 960 h of English", "Apache-2.0"),
    ("hubert-large", "facebook/hubert-large-ll60k", "HuBERT, 317 M weights, 60,000 h of English", "Apache-2.0"),
    ("wavlm-base", "microsoft/wavlm-base", "WavLM, 95 M weights, 960 h of English", "see the model's card"),
    ("wavlm-base-plus", "microsoft/wavlm-base-plus", "WavLM, 95 M weights, 94,000 h", "see the model's card"),
    ("wavlm-large", "microsoft/wavlm-large", "WavLM, 317 M weights, 94,000 h", "see the model's card"),
)

encoder = (
    *(
        EncoderSpec(name, about, functools.partial(load_checkpoint, checkpoint, name=name), checkpoint, licence)
        for name, checkpoint, about, licence in HUB
    ),
    EncoderSpec(UNTRAINED, "wav2vec2-base with seeded random weights: a control, and offline", load_untrained),
)
