"""Clips as the network takes them: decoded, transformed, cropped, normalised; then padded to a batch.

All that is random here follows from seed, epoch and clip: a run that was stopped and goes on hears the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..audio.augment import Augmentation, copy_of, transformed
from ..audio.decode import Waveform, middle
from ..cache.content_keys import listed_recording
from ..manifest import Clip
from .settings import FinetuneSettings

Item = dict[str, Any]


class ClipDataset(torch.utils.data.Dataset[Item]):
    """Clips with the numbers of their labels. In training, `epoch` decides crops and transforms."""

    def __init__(
        self, clips: Sequence[Clip], labels: Sequence[str], features: Any, settings: FinetuneSettings, training: bool
    ) -> None:
        self.clips, self.features, self.training = clips, features, training
        self.rate, self.seed = int(features.sampling_rate), settings.seed
        self.longest = round(settings.seconds * self.rate)
        self.recipe = Augmentation(settings.augment, seed=settings.seed) if settings.augment and training else None
        self.classes = [labels.index(clip.label) for clip in clips]
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, number: int) -> Item:
        clip = self.clips[number]
        wave = listed_recording(clip).waveform(self.rate)
        if self.recipe:
            wave = transformed(wave, self.rate, copy_of(clip, self.recipe, self.epoch + 1))
        start = None
        if self.training and len(wave) > self.longest:
            draw = np.random.default_rng([self.seed, self.epoch, number])
            start = int(draw.integers(len(wave) - self.longest + 1))
        wave = crop(wave, self.longest, start)
        return {"input_values": normalised(self.features, wave), "labels": self.classes[number]}


def crop(wave: Waveform, longest: int, start: int | None = None) -> Waveform:
    """At most `longest` samples from `start` on, or from the middle."""
    return middle(wave, longest) if start is None else wave[start : start + longest]


def normalised(features: Any, wave: Waveform) -> NDArray[np.float32]:
    """What the checkpoint's feature extractor makes of one waveform."""
    values: NDArray[np.float32] = features(wave, sampling_rate=features.sampling_rate, return_tensors="np")[
        "input_values"
    ][0]
    return values


def collate(items: Sequence[Item]) -> dict[str, torch.Tensor]:
    """A batch: input_values (n, S), zero behind a clip's end; lengths (n,) in samples; labels (n,)."""
    lengths = torch.tensor([len(item["input_values"]) for item in items])
    batch = torch.zeros(len(items), int(lengths.max()))
    for row, item in zip(batch, items, strict=True):
        row[: len(item["input_values"])] = torch.from_numpy(item["input_values"])
    return {"input_values": batch, "lengths": lengths, "labels": torch.tensor([item["labels"] for item in items])}
