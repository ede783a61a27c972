"""Predictor: one model, or the average of several. Files, waveforms or live sound in, predictions out.

The prediction of a clip does not depend on the clips beside it: one clip, a batch, a window of a file and the same
window of a stream get the same probabilities. Any number of threads may use one predictor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache import AudioError, ConfigError, ModelError, Recording

from .input_checks import ExpectedInput, check_input
from .model import EncodedWaveforms, Model, Proba, load_models
from .speakers import adaptation_note
from .windows import AudioClip, Windows, WindowStream, clip_from_recording, clip_from_waveform

BATCH_SECONDS = 30.0  # sound that goes through an encoder together, in seconds; larger batches are no faster
DEFAULT_WINDOWS = Windows()
ANY_INPUT = ExpectedInput()


@dataclass(frozen=True)
class Prediction:
    """The prediction of one clip, or of one window of a clip."""

    path: str  # "" for a waveform
    label: str | None  # None if the confidence is too low, or if nothing is audible
    probabilities: dict[str, float]  # label -> probability, sum 1
    begin: float = 0.0  # start of the window, in seconds
    end: float = 0.0  # end of the window, in seconds
    notes: tuple[str, ...] = ()  # reasons to doubt the prediction, as sentences
    audible: bool = True  # False if nothing is audible; the probabilities are equal then
    # How far the sound is from the training clips: above 1, it is farther than 99 % of them, and the confidence was
    # lowered. None if it is not known how the training clips sound, and if nothing is audible.
    training_distance: float | None = None

    @property
    def confidence(self) -> float:
        """The probability of the likeliest label."""
        return max(self.probabilities.values())


@dataclass(frozen=True)
class Predictor:
    """One model, or several whose probabilities are averaged."""

    models: tuple[Model, ...]
    labels: tuple[str, ...]  # labels of the columns of `proba`
    rate: int  # sample rate of the models, in Hz
    speaker: str = ""  # enrolled speaker to whom adapted models are adapted; "" for none

    @classmethod
    def load(cls, *folders: str | Path, device: str = "auto", speaker: str = "") -> Predictor:
        """Load model folders, written by `ser fit` or `ser finetune`, or models on the hub, and their encoders.

        `speaker` is the name of an enrolled speaker, to whom adapted models are adapted. Raises ModelError,
        EncoderError and ConfigError as `load_models` does, and ModelError if the models cannot be averaged.
        """
        return replace(cls.of(load_models(folders, device, speaker)), speaker=speaker)

    @property
    def channel(self) -> str:
        """The channel that all models were fitted on, as `--channel` takes it; "" for the mean of all channels."""
        channels = {str(model.card.get("channel", "")) for model in self.models}
        return channels.pop() if len(channels) == 1 else ""

    @property
    def adaptation_note(self) -> str:
        """A sentence on the speaker to whom adapted models are adapted; "" if no model is adapted."""
        return adaptation_note([(model.name, model.adapted) for model in self.models], self.speaker)

    def notes(self, channel: str = "") -> list[str]:
        """Return sentences on the channel, unless one is chosen, on the speaker, and on what is not known."""
        fitted = f"predicts channel {self.channel}, on which the model was fitted; --channel chooses another"
        unknown = ", ".join(model.name for model in self.models if model.training_sound is None)
        unchecked = f"{unknown}: how its training clips sound is not known, so a sound unlike them gets no note"
        sentences = {fitted: self.channel and not channel, self.adaptation_note: True, unchecked: unknown}
        return [sentence for sentence, applies in sentences.items() if sentence and applies]

    @classmethod
    def of(cls, models: Sequence[Model]) -> Predictor:
        """Return a predictor of loaded models. Raises ModelError if their labels or sample rates differ."""
        if not models:
            raise ModelError("got no model; wanted at least one model folder. `ser fit` writes such a folder.")
        first = models[0]
        for other in models:
            if set(other.labels) != set(first.labels):
                raise ModelError(
                    f"'{first.name}' and '{other.name}' cannot be averaged: their labels are "
                    f"{', '.join(first.labels)}, and {', '.join(other.labels)}. Choose models with the same labels."
                )
        return cls(tuple(models), first.labels, common_rate(models))

    def __call__(self, path: str | Path) -> Prediction:
        """Return the prediction of one file. Raises AudioError if it cannot be used."""
        return self.predict([path])[0]

    def predict(self, paths: Sequence[str | Path], abstain_below: float | None = None) -> list[Prediction]:
        """Return one prediction per file, in order. The label is None if the confidence is below `abstain_below`.

        `abstain_below` is between 0 and 1, or None to always give a label. Raises AudioError that names every file that
        cannot be used, ConfigError for a single path, and ValueError for another `abstain_below`.
        """
        if isinstance(paths, str | Path):
            raise ConfigError(f"got one path, {str(paths)!r}; wanted a sequence of paths. Use [{str(paths)!r}].")
        clips, faults = [], []
        for path in paths:
            try:
                clips += self.clips(Recording.load(path))
            except AudioError as error:
                faults.append(str(error))
        if faults:
            raise AudioError(*faults)
        return self.predict_clips(clips, abstain_below)

    def predict_waves(
        self, waves: Sequence[NDArray[Any]], rate: int, abstain_below: float | None = None
    ) -> list[Prediction]:
        """Return one prediction per waveform: floats (samples,) or (samples, channels) in [-1, 1], at `rate` Hz."""
        return self.predict_clips([clip_from_waveform(wave, rate, self.rate) for wave in waves], abstain_below)

    def timeline(
        self, path: str | Path, windows: Windows = DEFAULT_WINDOWS, abstain_below: float | None = None
    ) -> list[Prediction]:
        """Return one prediction per window of a file. Raises as `predict` does."""
        return self.predict_clips(self.clips(Recording.load(path), windows), abstain_below)

    def stream(
        self, rate: int, windows: Windows = DEFAULT_WINDOWS, abstain_below: float | None = None, name: str = ""
    ) -> PredictionStream:
        """Return a stream that predicts windows of live sound at `rate` Hz.

        `name` becomes the path of the predictions. Raises AudioError if the sample rate is out of range.
        """
        check_abstain_below(abstain_below)
        return PredictionStream(self, WindowStream(rate, self.rate, windows, name), abstain_below)

    def clips(self, recording: Recording, windows: Windows | None = None) -> list[AudioClip]:
        """Return a recording as one clip, or its windows.

        Raises AudioError if the recording cannot be decoded, or is too short or too long for a model.
        """
        clips = clip_from_recording(recording, self.rate).cut(windows)
        check_durations(self.models, clips)
        return clips

    def predict_clips(self, clips: Sequence[AudioClip], abstain_below: float | None = None) -> list[Prediction]:
        """Return one prediction per clip, without a label if nothing is audible or the confidence is too low.

        Raises AudioError if a clip is too short or too long for a model.
        """
        check_abstain_below(abstain_below)
        check_durations(self.models, clips)
        expected = expected_input(self.models)
        return [
            to_prediction(clip, self.labels, row, abstain_below, expected)
            for pack in packs(clips)
            for clip, row in zip(pack, self.proba([clip.wave for clip in pack]), strict=True)
        ]

    def proba(self, waves: Sequence[NDArray[np.float32]]) -> Proba:
        """Return the probabilities (n, C) of waveforms at `rate`: the mean over models, columns as in `labels`."""
        per_model = zip(self.models, EncodedWaveforms.encode(self.models, waves).probabilities(), strict=True)
        in_order = [rows[:, [model.labels.index(label) for label in self.labels]] for model, rows in per_model]
        mean: Proba = np.mean(in_order, axis=0)
        return mean


@dataclass(frozen=True)
class PredictionStream:
    """Predictions of the windows of live sound, each as soon as its window is complete. For one thread."""

    predictor: Predictor
    window_stream: WindowStream
    abstain_below: float | None

    def push(self, samples: NDArray[Any]) -> list[Prediction]:
        """Return predictions of the windows that are complete with these samples (n,) or (n, channels)."""
        return self.predictor.predict_clips(self.window_stream.push(samples), self.abstain_below)

    def close(self) -> list[Prediction]:
        """Return predictions of the windows that are complete with the end of the sound.

        Raises AudioError if the whole sound was too short for a model.
        """
        return self.predictor.predict_clips(self.window_stream.close(), self.abstain_below)


def to_prediction(
    clip: AudioClip,
    labels: Sequence[str],
    row: NDArray[np.float64],
    abstain_below: float | None,
    expected: ExpectedInput = ANY_INPUT,
) -> Prediction:
    """Return the prediction of a clip from its probabilities (C,), which are made more equal as `check_input` says."""
    checked = check_input(clip, expected)
    row = checked.weight * row + (1 - checked.weight) / len(row)
    sure = not checked.silence and row.max() >= (abstain_below or 0)
    return Prediction(
        clip.path,
        labels[int(row.argmax())] if sure else None,
        dict(zip(labels, map(float, row), strict=True)),
        clip.begin,
        clip.begin + clip.seconds,
        checked.notes,
        not checked.silence,
        checked.distance,
    )


def expected_input(models: Sequence[Model]) -> ExpectedInput:
    """Return what models expect of a clip that all of them predict."""
    sounds = tuple(model.training_sound for model in models if model.training_sound)
    return ExpectedInput(min(model.used_seconds for model in models), sounds)


def packs(clips: Sequence[AudioClip]) -> Iterator[list[AudioClip]]:
    """Yield packs of consecutive clips that last at most `BATCH_SECONDS` together. A longer clip is a pack."""
    pack: list[AudioClip] = []
    for clip in clips:
        if pack and sum(packed.seconds for packed in pack) + clip.seconds > BATCH_SECONDS:
            yield pack
            pack = []
        pack.append(clip)
    if pack:
        yield pack


def common_rate(models: Sequence[Model]) -> int:
    """Return the sample rate of all models, in Hz. Raises ModelError if they differ."""
    rates = {model.rate: model.name for model in models}
    if len(rates) > 1:
        listed = ", ".join(f"'{name}' takes {rate} Hz" for rate, name in rates.items())
        raise ModelError(f"got models of different sample rates: {listed}. Choose models of one sample rate.")
    return next(iter(rates))


def check_durations(models: Sequence[Model], clips: Sequence[AudioClip]) -> None:
    """Raise AudioError if a clip is too short or too long for a model."""
    for clip in clips:
        for model in models:
            if fault := model.duration_fault(clip.path or "the sound", clip.seconds):
                raise AudioError(fault)


def check_abstain_below(abstain_below: float | None) -> None:
    """Raise ValueError unless the threshold is None or a probability between 0 and 1, both excluded."""
    if abstain_below is not None and not 0 < abstain_below < 1:
        raise ValueError(f"got abstain_below={abstain_below}; wanted a probability between 0 and 1, or None.")
