"""Predictor: one model or several averaged. Files, waveforms or sound that is still arriving in, probabilities out.

The answer to a sound never depends on what is asked beside it: one clip, a batch, a window of a file and the same
window of a stream get the same probabilities. Any number of threads may ask at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache import AudioError, ModelError, Recording
from embedcache.audio import RATES, Waveform, as_waveform

from .doubts import doubts, nothing
from .model import Model, Proba, load_models, votes
from .windows import Arriving, Cut, cuts

AT_ONCE = 30.0  # seconds of sound that go through an encoder together: more are no faster


@dataclass(frozen=True)
class Prediction:
    """What a model says of one sound, or of one window of it."""

    path: str  # "" of a waveform
    label: str | None  # None: not sure enough, or nothing to hear
    probabilities: dict[str, float]  # label -> probability, sum 1
    begin: float = 0.0  # seconds, of the window
    end: float = 0.0
    notes: tuple[str, ...] = ()  # sentences on why the answer is doubtful

    @property
    def certainty(self) -> float:
        """The probability of the likeliest label."""
        return max(self.probabilities.values())


@dataclass(frozen=True)
class Windows:
    """How long sound is cut: windows of `window` seconds, one each `hop`; the last ends where the sound ends."""

    window: float = 3.0
    hop: float = 1.0

    def __post_init__(self) -> None:
        """Raises ValueError for a hop of nothing, or beyond the window: some sound would not be heard."""
        if not 0 < self.hop <= self.window:
            raise ValueError(
                f"got windows of {self.window:g} s, one each {self.hop:g} s; wanted 0 < hop <= window: all is heard."
            )

    def samples(self, rate: int) -> tuple[int, int]:
        """Window and hop in samples."""
        return max(1, round(self.window * rate)), max(1, round(self.hop * rate))


WINDOWS = Windows()


@dataclass(frozen=True)
class Sound:
    """A recording, or a window of one, as models hear it."""

    wave: Waveform  # (samples,) at the models' rate
    native: int  # Hz, of the recording itself
    path: str = ""
    begin: float = 0.0  # seconds


@dataclass(frozen=True)
class Predictor:
    """Models whose probabilities are averaged; the labels of the columns."""

    models: tuple[Model, ...]
    labels: tuple[str, ...]
    rate: int  # samples a second that the models hear

    @classmethod
    def load(cls, *folders: str | Path, device: str = "auto") -> Predictor:
        """Load folders of `ser fit`, with their encoders, or of `ser finetune`.

        Raises ModelError and EncoderError as `load_models` does; ModelError for models that cannot be averaged.
        """
        return cls.of(load_models(folders, device))

    @classmethod
    def of(cls, models: Sequence[Model]) -> Predictor:
        """Of models that are loaded. Raises ModelError where their labels, or the rates they hear, differ."""
        if not models:
            raise ModelError("got no model folder; wanted one or more. `ser fit` writes such a folder.")
        first = models[0]
        for other in models[1:]:
            if set(other.labels) != set(first.labels):
                raise ModelError(
                    f"{first.name} and {other.name} cannot be averaged: their labels are {', '.join(first.labels)}, "
                    f"and {', '.join(other.labels)}."
                )
            if other.rate != first.rate:
                raise ModelError(
                    f"{first.name} and {other.name} cannot be averaged: they hear {first.rate} and {other.rate} Hz."
                )
        return cls(tuple(models), first.labels, first.rate)

    def predict(self, paths: Sequence[str | Path], abstain_below: float | None = None) -> list[Prediction]:
        """One prediction a file, in order; its label is None where the certainty is below `abstain_below`, in (0, 1).

        Raises AudioError with every file that cannot be used, ValueError for another `abstain_below`.
        """
        sounds, faults = [], []
        for path in paths:
            try:
                sounds += self.hear(Recording.load(path))
            except AudioError as error:
                faults.append(str(error))
        if faults:
            raise AudioError("\n".join(faults))
        return self.answer(sounds, abstain_below)

    def predict_waves(
        self, waves: Sequence[NDArray[Any]], rate: int, abstain_below: float | None = None
    ) -> list[Prediction]:
        """The same of waveforms (samples,) or (samples, channels): floats, in [-1, 1], at `rate` Hz."""
        return self.answer([self.hear_wave(wave, rate) for wave in waves], abstain_below)

    def timeline(
        self, path: str | Path, windows: Windows = WINDOWS, abstain_below: float | None = None
    ) -> list[Prediction]:
        """One prediction a window of a file. Raises as `predict` does."""
        return self.answer(self.hear(Recording.load(path), windows), abstain_below)

    def stream(
        self, rate: int, windows: Windows = WINDOWS, abstain_below: float | None = None, name: str = ""
    ) -> Stream:
        """What hears sound at `rate` Hz as it arrives. Raises AudioError for a rate, or a window, that cannot be."""
        _check_bound(abstain_below)
        _check_rate(rate)
        self._check(f"{name or 'sound'}: a window", windows.window)
        return Stream(self, Arriving(rate, self.rate, *windows.samples(self.rate)), rate, abstain_below, name)

    def hear(self, recording: Recording, windows: Windows | None = None) -> list[Sound]:
        """A recording as one sound, or as its windows. Raises AudioError for one that cannot be decoded, or judged."""
        path = str(recording.path)
        wave, native = recording.heard(self.rate)
        if windows is None:
            self._check(path, len(wave) / self.rate)
            return [Sound(wave, native, path)]
        spans = cuts(len(wave), *windows.samples(self.rate))
        self._check(path, (spans[0][1] - spans[0][0]) / self.rate)
        return [Sound(wave[a:b], native, path, a / self.rate) for a, b in spans]

    def hear_wave(self, wave: NDArray[Any], rate: int, name: str = "") -> Sound:
        """A waveform as a sound. Raises AudioError for what is no waveform, or cannot be judged."""
        heard = as_waveform(_checked(wave, rate), rate, self.rate)
        self._check(name or "the waveform", len(heard) / self.rate)
        return Sound(heard, rate, name)

    def answer(self, sounds: Sequence[Sound], abstain_below: float | None = None) -> list[Prediction]:
        """A prediction a sound; without a label where there is nothing to hear, or it is not sure enough."""
        _check_bound(abstain_below)
        rows = self.proba([sound.wave for sound in sounds])
        return [self._say(sound, row, abstain_below or 0.0) for sound, row in zip(sounds, rows, strict=True)]

    def proba(self, waves: Sequence[Waveform]) -> Proba:
        """Probabilities (n, C) of waveforms at `rate`, the mean over models; columns in the order of `labels`."""
        said = [np.mean(self.each(part), axis=0) for part in _packs(waves, self.rate)]
        return np.concatenate(said) if said else np.empty((0, len(self.labels)))

    def each(self, waves: Sequence[Waveform]) -> Proba:
        """Of each model, (models, n, C)."""
        columns = [[model.labels.index(label) for label in self.labels] for model in self.models]
        return np.stack([said[:, order] for said, order in zip(votes(self.models, waves), columns, strict=True)])

    def _say(self, sound: Sound, row: NDArray[np.float64], bound: float) -> Prediction:
        seconds = len(sound.wave) / self.rate
        empty = nothing(sound.wave, self.rate)
        label = self.labels[int(row.argmax())] if not empty and row.max() >= bound else None
        notes = (empty,) if empty else doubts(seconds, self.rate, sound.native)
        probabilities = dict(zip(self.labels, map(float, row), strict=True))
        return Prediction(sound.path, label, probabilities, sound.begin, sound.begin + seconds, notes)

    def _check(self, path: str, seconds: float) -> None:
        for model in self.models:
            if fault := model.misfit(path, seconds):
                raise AudioError(fault)


@dataclass(frozen=True)
class Stream:
    """Sound that is still arriving: predictions of its windows, each as soon as it is whole. For one thread."""

    predictor: Predictor
    arriving: Arriving
    native: int
    abstain_below: float | None
    name: str = ""

    def push(self, samples: NDArray[Any]) -> list[Prediction]:
        """Predictions of the windows that these samples (n,), or (n, channels), complete."""
        return self._answered(self.arriving.push(as_waveform(_checked(samples, self.native), self.native, self.native)))

    def close(self) -> list[Prediction]:
        """Those that the end of the sound completes. Raises AudioError where all of it was too short to judge."""
        return self._answered(self.arriving.close())

    def _answered(self, came: Iterator[tuple[Cut, Waveform]]) -> list[Prediction]:
        rate, sounds = self.predictor.rate, []
        for (begin, end), wave in came:
            self.predictor._check(self.name or "the sound", (end - begin) / rate)
            sounds.append(Sound(wave, self.native, self.name, begin / rate))
        return self.predictor.answer(sounds, self.abstain_below)


def _packs(waves: Sequence[Waveform], rate: int) -> Iterator[list[Waveform]]:
    """Waveforms in order, as many at once as last `AT_ONCE` seconds together."""
    pack: list[Waveform] = []
    for wave in waves:
        if pack and sum(map(len, pack)) + len(wave) > AT_ONCE * rate:
            yield pack
            pack = []
        pack.append(wave)
    if pack:
        yield pack


def _checked(wave: NDArray[Any], rate: int) -> Waveform:
    """(samples, channels) float32. Raises AudioError for what is no finite waveform."""
    _check_rate(rate)
    if not isinstance(wave, np.ndarray) or wave.ndim not in (1, 2) or not np.issubdtype(wave.dtype, np.floating):
        got = f"{wave.dtype} {wave.shape}" if isinstance(wave, np.ndarray) else type(wave).__name__
        raise AudioError(
            f"got {got}; wanted floats (samples,) or (samples, channels) in [-1, 1]. Divide 16-bit samples by 32768."
        )
    if not np.isfinite(wave).all():
        raise AudioError("got a waveform with samples that are NaN or infinite; wanted finite ones.")
    return (wave if wave.ndim == 2 else wave[:, None]).astype(np.float32, copy=False)


def _check_rate(rate: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(f"got {rate:,} samples a second; wanted {RATES[0]:,} to {RATES[1]:,}.")


def _check_bound(abstain_below: float | None) -> None:
    if abstain_below is not None and not 0 < abstain_below < 1:
        raise ValueError(f"got abstain_below={abstain_below}; wanted a probability between 0 and 1, or None.")
