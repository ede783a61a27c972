"""Clips as the network takes them: decoded, augmented, cropped and normalised, then padded to a batch.

Crops and augmentation are random, but follow from the seed, the epoch and the clip. A resumed run trains on the same
samples as one that was never stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..audio.augment import Augmentation, copy_of, transformed
from ..audio.clip_recordings import file_order, forget_files
from ..audio.decode import Waveform, middle
from ..cache.content_keys import listed_recording
from ..manifest import Clip
from .settings import FinetuneSettings

Item = dict[str, Any]


class ClipDataset(torch.utils.data.Dataset[Item]):
    """Clips with their classes, which are positions in `labels`.

    In training, clips are augmented and cropped at random, differently in each `epoch`; otherwise the middle of a clip
    is taken.
    """

    def __init__(
        self, clips: Sequence[Clip], labels: Sequence[str], features: Any, settings: FinetuneSettings, training: bool
    ) -> None:
        self.clips, self.features, self.training = clips, features, training
        self.rate, self.seed = int(features.sampling_rate), settings.seed
        self.longest = round(settings.seconds * self.rate)  # longest crop, in samples
        self.recipe = Augmentation(settings.augment, seed=settings.seed) if settings.augment and training else None
        self.classes = [labels.index(clip.label) for clip in clips]
        self.epoch = 0
        self.spans = _waves_of_spans(clips, self.rate)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, number: int) -> Item:
        clip = self.clips[number]
        wave = self.spans[clip.key] if clip.span else listed_recording(clip).waveform(self.rate)
        if self.recipe:
            wave = transformed(wave, self.rate, copy_of(clip, self.recipe, self.epoch + 1))
        start = None
        if self.training and len(wave) > self.longest:
            rng = np.random.default_rng([self.seed, self.epoch, number])
            start = int(rng.integers(len(wave) - self.longest + 1))
        wave = crop(wave, self.longest, start)
        return {"input_values": normalise(self.features, wave), "labels": self.classes[number]}


def _waves_of_spans(clips: Sequence[Clip], rate: int) -> dict[str, Waveform]:
    """Return the waveforms of clips that are spans, by key, as views of a file without a name.

    Training reads clips in random order. Without the file, each of them would cost the decoding of its recording.
    """
    spans = [clips[place] for place in file_order(clips) if clips[place].span]
    ends = [0]
    with TemporaryFile() as file:
        for clip in spans:
            wave = listed_recording(clip).waveform(rate)
            file.write(wave.tobytes())
            ends.append(ends[-1] + len(wave))
        forget_files()
        file.flush()
        samples = np.memmap(file, np.float32, "r") if spans else np.zeros(0, np.float32)
    return {clip.key: samples[begin:end] for clip, begin, end in zip(spans, ends, ends[1:], strict=False)}


def crop(wave: Waveform, longest: int, start: int | None = None) -> Waveform:
    """Return at most `longest` samples, from `start` on; None takes them from the middle."""
    return middle(wave, longest) if start is None else wave[start : start + longest]


def normalise(features: Any, wave: Waveform) -> NDArray[np.float32]:
    """Apply a checkpoint's feature extractor to one waveform: the input of the network, (samples,)."""
    extracted = features(wave, sampling_rate=features.sampling_rate, return_tensors="np")
    values: NDArray[np.float32] = extracted["input_values"][0]
    return values


def collate(items: Sequence[Item]) -> dict[str, torch.Tensor]:
    """Pad items to a batch of `input_values` (n, S), `lengths` (n,) in samples, and `labels` (n,).

    Example: waveforms of 3 and 2 samples give `input_values` [[a, b, c], [d, e, 0]] and `lengths` [3, 2].
    """
    lengths = torch.tensor([len(item["input_values"]) for item in items])
    batch = torch.zeros(len(items), int(lengths.max()))
    for row, item in zip(batch, items, strict=True):
        row[: len(item["input_values"])] = torch.from_numpy(item["input_values"])
    return {"input_values": batch, "lengths": lengths, "labels": torch.tensor([item["labels"] for item in items])}
