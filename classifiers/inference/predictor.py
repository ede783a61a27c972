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
from embedcache.audio.decode import middle

from .input_checks import input_notes, nothing_audible
from .model import EncodedWaveforms, Model, Proba, load_models
from .windows import AudioClip, Windows, WindowStream, sound_of, sound_of_file

AT_ONCE = 30.0  # seconds of sound that go through an encoder together: more are no faster
WINDOWS = Windows()


@dataclass(frozen=True)
class Prediction:
    """What a model says of one sound, or of one window of it."""

    path: str  # "" of a waveform
    label: str | None  # None: not sure enough, or nothing to hear
    probabilities: dict[str, float]  # label -> probability, sum 1
    begin: float = 0.0  # seconds, of the window
    end: float = 0.0
    notes: tuple[str, ...] = ()  # sentences on why the answer is doubtful
    heard: bool = True  # False: there was nothing to hear, and the probabilities mean nothing

    @property
    def certainty(self) -> float:
        """The probability of the likeliest label."""
        return max(self.probabilities.values())


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
            raise ModelError("got no model; wanted the folder of one, or of several. `ser fit` writes such a folder.")
        first = models[0]
        for other in models:
            if set(other.labels) != set(first.labels):
                raise ModelError(
                    f"{first.name} and {other.name} cannot be averaged: their labels are {', '.join(first.labels)}, "
                    f"and {', '.join(other.labels)}."
                )
        return cls(tuple(models), first.labels, rate_of(models))

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
        return self.answer([sound_of(wave, rate, self.rate) for wave in waves], abstain_below)

    def timeline(
        self, path: str | Path, windows: Windows = WINDOWS, abstain_below: float | None = None
    ) -> list[Prediction]:
        """One prediction a window of a file. Raises as `predict` does."""
        return self.answer(self.hear(Recording.load(path), windows), abstain_below)

    def stream(
        self, rate: int, windows: Windows = WINDOWS, abstain_below: float | None = None, name: str = ""
    ) -> PredictionStream:
        """What hears sound at `rate` Hz as it arrives. Raises AudioError for a rate that no sound has."""
        check_bound(abstain_below)
        return PredictionStream(self, WindowStream(rate, self.rate, windows, name), abstain_below)

    def hear(self, recording: Recording, windows: Windows | None = None) -> list[AudioClip]:
        """A recording as one sound, or as its windows. Raises AudioError for one that cannot be decoded, or judged."""
        sounds = sound_of_file(recording, self.rate).cut(windows)
        check_fit(self.models, sounds)
        return sounds

    def answer(self, sounds: Sequence[AudioClip], abstain_below: float | None = None) -> list[Prediction]:
        """A prediction a sound; without a label where there is nothing to hear, or it is not sure enough.

        Raises AudioError for a sound that the models cannot judge.
        """
        check_bound(abstain_below)
        check_fit(self.models, sounds)
        return [
            to_prediction(sound, self.labels, row, abstain_below, hears_of(self.models))
            for pack in packs(sounds)
            for sound, row in zip(pack, self.proba([sound.wave for sound in pack]), strict=True)
        ]

    def proba(self, waves: Sequence[NDArray[np.float32]]) -> Proba:
        """Probabilities (n, C) of waveforms at `rate`, the mean over models; columns in the order of `labels`."""
        votes = zip(self.models, EncodedWaveforms.of(self.models, waves).votes(), strict=True)
        in_order = [vote[:, [model.labels.index(label) for label in self.labels]] for model, vote in votes]
        mean: Proba = np.mean(in_order, axis=0)
        return mean


@dataclass(frozen=True)
class PredictionStream:
    """Sound that is still arriving: predictions of its windows, each as soon as it is whole. For one thread."""

    predictor: Predictor
    arriving: WindowStream
    abstain_below: float | None

    def push(self, samples: NDArray[Any]) -> list[Prediction]:
        """Predictions of the windows that these samples (n,), or (n, channels), complete."""
        return self.predictor.answer(self.arriving.push(samples), self.abstain_below)

    def close(self) -> list[Prediction]:
        """Those that the end of the sound completes. Raises AudioError where all of it was too short to judge."""
        return self.predictor.answer(self.arriving.close(), self.abstain_below)


def to_prediction(
    sound: AudioClip,
    labels: Sequence[str],
    row: NDArray[np.float64],
    abstain_below: float | None,
    hears: float = float("inf"),
) -> Prediction:
    """What probabilities (C,) of a sound come to, of models that hear so many seconds of it."""
    empty = nothing_audible(middle(sound.wave, round(min(hears, sound.seconds) * sound.rate)), sound.rate)
    sure = not empty and row.max() >= (abstain_below or 0)
    return Prediction(
        sound.path,
        labels[int(row.argmax())] if sure else None,
        dict(zip(labels, map(float, row), strict=True)),
        sound.begin,
        sound.begin + sound.seconds,
        (empty,) if empty else input_notes(sound.seconds, sound.rate, sound.native, hears),
        not empty,
    )


def hears_of(models: Sequence[Model]) -> float:
    """Seconds of a clip that all of them hear."""
    return min(model.hears for model in models)


def packs(sounds: Sequence[AudioClip]) -> Iterator[list[AudioClip]]:
    """Sounds in order, as many at once as last `AT_ONCE` seconds together."""
    pack: list[AudioClip] = []
    for sound in sounds:
        if pack and sum(one.seconds for one in pack) + sound.seconds > AT_ONCE:
            yield pack
            pack = []
        pack.append(sound)
    if pack:
        yield pack


def rate_of(models: Sequence[Model]) -> int:
    """The rate that all models hear, in Hz. Raises ModelError where they hear several."""
    rates = {model.rate: model.name for model in models}
    if len(rates) > 1:
        said = ", ".join(f"{name} hears {rate} Hz" for rate, name in rates.items())
        raise ModelError(f"models of one rate are asked together; {said}.")
    return next(iter(rates))


def check_fit(models: Sequence[Model], sounds: Sequence[AudioClip]) -> None:
    """Raises AudioError for a sound that is too short or too long for a model."""
    for sound in sounds:
        for model in models:
            if fault := model.misfit(sound.path or "the sound", sound.seconds):
                raise AudioError(fault)


def check_bound(abstain_below: float | None) -> None:
    """Raises ValueError for what is no probability between 0 and 1, nor None."""
    if abstain_below is not None and not 0 < abstain_below < 1:
        raise ValueError(f"got abstain_below={abstain_below}; wanted a probability between 0 and 1, or None.")
