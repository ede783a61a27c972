"""The encoder that is checked, and the sound with which that is done. No recording is needed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..audio.decode import Waveform
from ..checks import contract_waveforms
from ..encoder import VIEWS, Batch, Encoder
from ..encoders.checkpoint import Checkpoint, open_checkpoint, untrained
from ..encoders.engine.packed import Packed
from ..encoders.huggingface import HuggingFaceEncoder
from ..encoders.listing import OWN, PACKED, TRANSFORMERS
from ..synthetic import voice

Floats = NDArray[np.float32]

CLIP_SECONDS = (3.0, 4.5)  # durations of the clips of a pack, as in RAVDESS
LEVEL, OFFSET = 0.1, 0.5  # of noise
VOICES = ((1, "angry", "01", 1), (2, "sad", "01", 2))  # what `synthetic.voice` says


@dataclass(frozen=True)
class Subject:
    """An encoder, and what is made from it once for all checks."""

    encoder: Encoder

    @property
    def engine(self) -> str:
        """What computes the vectors: the packed engine, transformers, or code of the encoder's own."""
        kinds = {Packed: PACKED, HuggingFaceEncoder: TRANSFORMERS}
        return next((name for kind, name in kinds.items() if isinstance(self.encoder, kind)), OWN)

    @property
    def device(self) -> torch.device:
        """The device of the weights; that of an encoder of another package is its attribute `device`, or the CPU."""
        encoder: Any = self.encoder
        return torch.device(encoder.network.device if self.engine == PACKED else getattr(encoder, "device", "cpu"))

    @cached_property
    def reference(self) -> Checkpoint | None:
        """The checkpoint in float32; None if the encoder has no checkpoint of transformers."""
        info = self.encoder.info
        if self.engine == OWN:
            return None
        return open_checkpoint(info.checkpoint, info.name, "fp32") if info.checkpoint else untrained("fp32")

    @cached_property
    def packs(self) -> list[list[Waveform]]:
        """A pack for each lane, of the size that the encoder asks for: clips of noise of 3 s to 4.5 s."""
        return [self._make_pack(lane) for lane in range(self.encoder.lanes)]

    @property
    def packed_seconds(self) -> float:
        """Seconds of audio in all packs."""
        return sum(len(wave) for pack in self.packs for wave in pack) / self.encoder.info.sample_rate

    def encode_packs(self) -> list[Batch]:
        """Encode a pack in each lane at the same time, as `ser extract` does."""
        with ThreadPoolExecutor(len(self.packs)) as lanes:
            return list(lanes.map(lambda pack: self.encoder.encode(pack, VIEWS), self.packs))

    @cached_property
    def waves(self) -> Sequence[Waveform]:
        """Waveforms for comparisons: those of `check_encoder`, lengths around whole frames, an offset, and voices."""
        rng, rate = np.random.default_rng(2), self.encoder.info.sample_rate
        shortest, longest = (round(seconds * rate) for seconds in (self.encoder.shortest, self.encoder.longest))
        lengths = [*(shortest + more for more in (0, 1, 319, 320)), rate, rate, 2 * rate + 1, *[5 * rate - 1] * 2]
        noise = [LEVEL * rng.standard_normal(min(max(samples, shortest), longest)) for samples in lengths]
        voices = [np.resize(voice(*said), max(rate // 2, shortest)) for said in VOICES]
        made = [*noise, OFFSET + noise[-1], *voices]
        return [*contract_waveforms(self.encoder), *(wave.astype(np.float32) for wave in made)]

    @cached_property
    def layers(self) -> Floats:
        """Every layer of `waves`, (n, n_layers, dim): what a first run gives."""
        return self.encode_layers()

    def encode_layers(self) -> Floats:
        """Return every layer of `waves`, encoded in one call."""
        return np.asarray(self.encoder.encode(self.waves, ["layers"])["layers"])

    def _make_pack(self, lane: int) -> list[Waveform]:
        encoder, rng = self.encoder, np.random.default_rng(lane)
        pack: list[Waveform] = []
        left = encoder.pack
        while not pack or left > CLIP_SECONDS[0]:
            seconds = float(np.clip(rng.uniform(*CLIP_SECONDS), encoder.shortest, min(encoder.longest, max(left, 1))))
            samples = round(seconds * encoder.info.sample_rate)
            pack.append((LEVEL * rng.standard_normal(samples)).astype(np.float32))
            left -= seconds
        return pack
