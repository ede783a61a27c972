"""The prediction service of `ser serve` and `ser demo`: loaded models, a queue, limits on size and number of requests.

Recordings are written nowhere, unless the service was given a folder to keep them in.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from embedcache import AudioError, ModelError, Recording, SerError, UnknownName
from embedcache.audio.decode import Waveform
from embedcache.files.atomic import atomic_write
from embedcache.files.existing import check_writable

from ..inference.model import Attribution, Model
from ..inference.output_formats import to_dict
from ..inference.predictor import (
    BATCH_SECONDS,
    Prediction,
    check_abstain_below,
    check_durations,
    common_rate,
    expected_input,
    packs,
    to_prediction,
)
from ..inference.windows import AudioClip, Windows, WindowStream, clip_from_recording
from .pack_queue import PackQueue, always, threads_of

MAX_SECONDS = 300.0  # longest recording, in seconds
MAX_BYTES = 64 << 20  # largest file; five minutes of stereo in 16 bits at 48 kHz have 58 MB
MAX_SAMPLES = 60_000_000  # samples of all channels; five minutes of stereo at 96 kHz have 57.6 million
MAX_HELD = 512 << 20  # bytes of all requests that are in memory
DECODERS = 2  # recordings that are decoded at once; each may take MAX_SAMPLES
MAX_WAITING = 16  # requests that may wait while one is computed
MAX_WINDOWS = 600  # windows of one recording
LIVE_WINDOWS = Windows(3.0, 0.5)  # windows of live sound
PIECE_SECONDS = 10.0  # longest sound of which a stream holds all windows at once, in seconds; it bounds the memory

ModelPrediction = tuple[str, Prediction]  # name of the model, its prediction


class Busy(SerError):
    """Too many requests at once. It makes no sense to try again within `seconds`."""

    def __init__(self, message: str, seconds: int = 0) -> None:
        super().__init__(message)
        self.seconds = seconds


class Slot:
    """The place of one request among those that run or wait, and the bytes that it holds."""

    def __init__(self, hold: Callable[[int], None], drop_unwanted: Callable[[], None]) -> None:
        self._hold, self._drop_unwanted = hold, drop_unwanted
        self.held, self._is_abandoned = 0, False

    def is_wanted(self) -> bool:
        """Whether the client still waits."""
        return not self._is_abandoned

    def abandon(self) -> None:
        """Drop what waits for the encoder: the client has gone away."""
        self._is_abandoned = True
        self._drop_unwanted()

    def hold(self, n: int) -> None:
        """Count `n` further bytes of the request. Raises Busy if all requests together hold too many."""
        self._hold(n)
        self.held += n


@dataclass(frozen=True)
class ModelResult:
    """The predictions of one model for one recording."""

    model: Model
    whole: Prediction  # of the whole recording
    timeline: tuple[Prediction, ...]  # of the windows of the recording; `whole` alone for a single window
    attribution: Attribution  # of `whole`; empty unless requested


@dataclass(frozen=True)
class ServiceResult:
    """A recording as a clip, and the result of each model."""

    clip: AudioClip
    results: tuple[ModelResult, ...]


class PredictionService:
    """Predicts recordings and live sound with any of the loaded models. Any number of threads may use one service."""

    def __init__(
        self,
        models: Sequence[Model],
        keep: Path | None = None,
        max_waiting: int = MAX_WAITING,
        log: Callable[[str], None] = lambda line: None,
        join: bool = True,
    ) -> None:
        """Check the models, and the folder `keep` that recordings are written to, if any.

        `join` joins requests that wait into packs of the encoder; without, they run one by one. `log` receives a line
        for each recording that could not be kept. Raises ModelError if there is no model, if two have the same name, or
        if their sample rates differ; SerError if the folder cannot be written.
        """
        self.models = {model.name: model for model in models}
        if len(self.models) < len(models):
            folders = ", ".join(str(model.folder) for model in models)
            raise ModelError(f"two models have the same name: {folders}. Rename a folder.")
        self.rate, self.keep, self.max_waiting, self._log = common_rate(models), keep, max_waiting, log
        if keep:
            check_writable(keep, SerError, "Choose another folder with --keep.")
        self._slots = threading.BoundedSemaphore(1 + max_waiting)
        self._decoding = threading.BoundedSemaphore(DECODERS)
        self.open_requests = 0  # requests that hold a slot
        self.held, self._lock = 0, threading.Lock()  # bytes of all requests
        self.queue = _queue_for(models) if join else PackQueue(1, 0)

    def find_models(self, names: Sequence[str]) -> list[Model]:
        """Return models by name, each once; all models if there are no names. Raises UnknownName."""
        for name in names:
            if name not in self.models:
                raise UnknownName("model", name, self.models)
        return [self.models[name] for name in dict.fromkeys(names or self.models)]

    @contextmanager
    def reserve_slot(self) -> Iterator[Slot]:
        """Hold a slot for a request. Reserve the slot before reading the body. Raises Busy if no slot is free."""
        if not self._slots.acquire(blocking=False):
            raise Busy(f"busy: {1 + self.max_waiting} other requests are running or waiting. Try again in a moment.")
        slot = Slot(self._hold, self.queue.drop_unwanted)
        self._count(1)
        try:
            yield slot
        finally:
            self._hold(-slot.held)
            self._count(-1)
            self._slots.release()

    def _count(self, n: int) -> None:
        with self._lock:
            self.open_requests += n

    def _hold(self, n: int) -> None:
        with self._lock:
            if n > 0 and self.held + n > MAX_HELD:
                raise Busy(f"busy: other requests hold {self.held:,} bytes. Try again in a moment.")
            self.held += n

    def warm_up(self) -> None:
        """Predict a second of noise with all models, so that the first request is as quick as those after it."""
        seconds = max(1.0, *(model.shortest for model in self.models.values()))
        noise = 0.1 * np.random.default_rng(0).standard_normal(math.ceil(seconds * self.rate)).astype(np.float32)
        self.queue.submit(list(self.models.values()), [noise], seconds, False).result()

    def read(self, data: bytes, name: str) -> Recording:
        """Return the recording in a file's bytes. Raises AudioError if it is too large or too long to be decoded."""
        recording = replace(Recording.of(data, name), max_samples=MAX_SAMPLES)
        if len(data) > MAX_BYTES:
            raise AudioError(f"{name}: has {len(data):,} bytes; wanted at most {MAX_BYTES:,}. Cut the recording.")
        with self._decoding:
            seconds = recording.declared_seconds()
        if seconds > MAX_SECONDS:
            raise AudioError(
                f"{name}: lasts {seconds:.0f} s; wanted at most {MAX_SECONDS:.0f} s. Cut the recording, or "
                "send it to /api/timeline, which predicts windows of long recordings."
            )
        return recording

    def predict_recording(
        self,
        recording: Recording,
        names: Sequence[str] = (),
        windows: Windows | None = None,
        abstain_below: float | None = None,
        attribution: bool = False,
        is_wanted: Callable[[], bool] = always,
    ) -> ServiceResult:
        """Predict a recording as a whole, and its windows, with the models of these names, or with all.

        `attribution` also computes which layers and frames of the whole recording counted. Raises AudioError if the
        recording cannot be decoded, is too short for a model, or has too many windows; CancelledError as soon as
        `is_wanted` is false.
        """
        check_abstain_below(abstain_below)
        models = self.find_models(names)
        with self._decoding:
            whole = clip_from_recording(recording, self.rate)
        _check_window_count(whole, windows)
        parts = whole.cut(windows)
        clips = [whole, *(parts if len(parts) > 1 else [])]
        predictions, attributions = self._predict(models, clips, abstain_below, attribution, is_wanted)
        results = (
            ModelResult(model, first, tuple(rest) or (first,), weighed)
            for model, (first, *rest), weighed in zip(models, predictions, attributions, strict=True)
        )
        result = ServiceResult(whole, tuple(results))
        self._keep(recording, result)
        return result

    def open_stream(
        self,
        native_rate: int,
        names: Sequence[str] = (),
        windows: Windows = LIVE_WINDOWS,
        name: str = "the sound",
        is_wanted: Callable[[], bool] = always,
    ) -> LiveStream:
        """Return a stream for live sound at `native_rate` Hz. Raises AudioError if the sample rate is out of range."""
        models = self.find_models(names)
        return LiveStream(self, models, WindowStream(native_rate, self.rate, windows, name), is_wanted)

    def predict_clips(
        self,
        models: Sequence[Model],
        clips: Sequence[AudioClip],
        abstain_below: float | None,
        is_wanted: Callable[[], bool] = always,
    ) -> list[list[Prediction]]:
        """Return, for each model, a prediction per clip.

        Raises AudioError if a clip is too short or too long, and CancelledError as soon as `is_wanted` is false.
        """
        return self._predict(models, clips, abstain_below, False, is_wanted)[0]

    def _predict(
        self,
        models: Sequence[Model],
        clips: Sequence[AudioClip],
        abstain_below: float | None,
        attribution: bool,
        is_wanted: Callable[[], bool],
    ) -> tuple[list[list[Prediction]], list[Attribution]]:
        """Return, for each model, a prediction per clip, and the attribution of the first clip."""
        check_durations(models, clips)
        predictions: list[list[Prediction]] = [[] for _ in models]
        attributions = [] if attribution else [Attribution() for _ in models]
        for pack in packs(clips):  # each pack queues anew, so that short recordings need not wait for a long one
            waves, seconds = [clip.wave for clip in pack], sum(clip.seconds for clip in pack)
            probabilities, computed = self.queue.submit(models, waves, seconds, not attributions, is_wanted).result()
            attributions = attributions or computed
            for model, own, rows in zip(models, predictions, probabilities, strict=True):
                expected = expected_input([model])
                own += [
                    to_prediction(clip, model.labels, row, abstain_below, expected)
                    for clip, row in zip(pack, rows, strict=True)
                ]
        return predictions, attributions

    def _keep(self, recording: Recording, result: ServiceResult) -> None:
        """Write the recording and its predictions to the folder `keep`, if there is one."""
        if self.keep is None:
            return
        stem = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{recording.key[:12]}"
        predictions = [{"model": r.model.name, **to_dict(r.whole)} for r in result.results]
        try:
            with atomic_write(self.keep / f"{stem}{recording.suffix}", "wb") as file:
                file.write(recording.data)
            with atomic_write(self.keep / f"{stem}.json") as file:
                file.write(json.dumps(predictions, indent=1, ensure_ascii=False))
        except SerError as error:
            self._log(f"note: a recording was predicted, but could not be kept: {error}")


@dataclass
class LiveStream:
    """Live sound whose windows are predicted. For one thread at a time."""

    service: PredictionService
    models: Sequence[Model]
    window_stream: WindowStream
    is_wanted: Callable[[], bool]

    def push(self, samples: Waveform, abstain_below: float | None) -> list[ModelPrediction]:
        """Return the predictions of the windows that are complete with more samples (n,) or (n, channels)."""
        length = round(PIECE_SECONDS * self.window_stream.native_rate)
        pieces = (samples[start : start + length] for start in range(0, len(samples), length))
        return [pair for piece in pieces for pair in self._predict(self.window_stream.push(piece), abstain_below)]

    def close(self, abstain_below: float | None) -> list[ModelPrediction]:
        """Return the predictions of the windows that are complete with the end of the sound."""
        return self._predict(self.window_stream.close(), abstain_below)

    def _predict(self, clips: Sequence[AudioClip], abstain_below: float | None) -> list[ModelPrediction]:
        """Predict windows, and return the predictions window by window."""
        if not clips:
            return []
        per_model = self.service.predict_clips(self.models, clips, abstain_below, self.is_wanted)
        names = [model.name for model in self.models]
        return [pair for per_window in zip(*per_model, strict=True) for pair in zip(names, per_window, strict=True)]


def _queue_for(models: Sequence[Model]) -> PackQueue:
    """Return a queue with as many lanes as the encoders have, but two at least.

    An encoder of several lanes is no faster with several threads a lane; one of a single lane uses all cores.
    """
    lanes = min((encoder.lanes for model in models for encoder in model.encoders), default=1)
    return PackQueue(max(2, lanes), _pack_seconds(models), alone=threads_of(lanes) if lanes > 1 else None)


def _pack_seconds(models: Sequence[Model]) -> float:
    """Return the seconds of sound that one pack should have at most: the least that one of the encoders has."""
    return min((encoder.pack for model in models for encoder in model.encoders), default=BATCH_SECONDS)


def _check_window_count(clip: AudioClip, windows: Windows | None) -> None:
    count = (clip.seconds - windows.window) / windows.hop if windows else 0
    if count > MAX_WINDOWS:
        raise AudioError(f"got {count:,.0f} windows; wanted at most {MAX_WINDOWS}. Choose a longer hop.")
