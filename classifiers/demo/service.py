"""The desk: loaded models that answer sounds from anywhere, one at a time, within bounds, and forget them.

Nothing that is heard is written anywhere unless a folder to keep it in was named.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from embedcache import AudioError, ModelError, Recording, SerError, UnknownName
from embedcache.audio.decode import Waveform
from embedcache.files.atomic import atomic_write

from ..inference.model import Attribution, EncodedWaveforms, Model, Proba
from ..inference.output_formats import to_dict
from ..inference.predictor import Prediction, check_bound, check_fit, hears_of, packs, rate_of, to_prediction
from ..inference.windows import AudioClip, Windows, WindowStream, sound_of_file

SECONDS = 300.0  # of a recording
BYTES = 64 << 20  # of a file: five minutes of stereo in 16 bits at 48 kHz have 58 MB
WAITING = 16  # callers who are let in beside the one who is answered
MOST_WINDOWS = 600  # of a recording
LIVE = Windows(3.0, 0.5)  # of what is heard live
REMEMBERED = 60  # windows of what is heard live

Said = tuple[str, Prediction]  # by which model


class Busy(SerError):
    """Too many ask at once."""


@dataclass(frozen=True)
class ModelResult:
    """What one model says of one recording."""

    model: Model
    whole: Prediction
    timeline: tuple[Prediction, ...]
    counted: Attribution


@dataclass(frozen=True)
class ServiceResult:
    """A recording, and what each model says of it."""

    sound: AudioClip
    said: tuple[ModelResult, ...]


class PredictionService:
    """Answers recordings with every model that is asked for. Any number of threads may ask."""

    def __init__(
        self,
        models: Sequence[Model],
        keep: Path | None = None,
        waiting: int = WAITING,
        complain: Callable[[str], None] = lambda line: None,
    ) -> None:
        """`complain` hears of recordings that could not be kept.

        Raises ModelError for no models, two of one name, or that hear different rates; SerError for a folder to keep
        recordings in that cannot be written.
        """
        self.models = {model.name: model for model in models}
        if len(self.models) < len(models):
            names = ", ".join(str(model.folder) for model in models)
            raise ModelError(f"two models have one name: {names}. Rename a folder.")
        self.rate, self.keep, self.waiting, self._complain = rate_of(models), keep, waiting, complain
        if keep:
            _check_folder(keep)
        self._places = threading.BoundedSemaphore(1 + waiting)
        # One thread for all that is computed: each further one would have buffers, and a pool of threads, of its own.
        self._worker = ThreadPoolExecutor(1, "desk")

    def named(self, names: Sequence[str]) -> list[Model]:
        """Models by name, each once; all where none is named. Raises UnknownName."""
        for name in names:
            if name not in self.models:
                raise UnknownName("model", name, self.models)
        return [self.models[name] for name in dict.fromkeys(names or self.models)]

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among those who are answered or wait, to be taken before anything is read. Raises Busy."""
        if not self._places.acquire(blocking=False):
            raise Busy(f"busy: {1 + self.waiting} others are being answered or wait. Try again in a moment.")
        try:
            yield
        finally:
            self._places.release()

    def read(self, data: bytes, name: str) -> Recording:
        """A recording that is not too long to be decoded. Raises AudioError."""
        recording = Recording.of(data, name)
        if len(data) > BYTES:
            raise AudioError(f"{name}: has {len(data):,} bytes; here a file may have {BYTES:,}.")
        seconds = recording.promised()
        if seconds > SECONDS:
            raise AudioError(
                f"{name}: lasts {seconds:.0f} s; here a recording may last {SECONDS:.0f} s. Cut it, or use "
                "`ser predict --window 3` on the command line."
            )
        return recording

    def answer(
        self,
        recording: Recording,
        names: Sequence[str] = (),
        windows: Windows | None = None,
        abstain_below: float | None = None,
        explained: bool = False,
    ) -> ServiceResult:
        """What models say of a recording as a whole, and of its windows; where `explained`, what counted for the whole.

        Raises AudioError for one that cannot be decoded or judged.
        """
        check_bound(abstain_below)
        models = self.named(names)
        whole = sound_of_file(recording, self.rate)
        count = (whole.seconds - windows.window) / windows.hop if windows else 0
        if count > MOST_WINDOWS:
            raise AudioError(f"got {count:,.0f} windows; wanted {MOST_WINDOWS} at most. Ask for a longer hop.")
        parts = whole.cut(windows)
        sounds = [whole, *(parts if len(parts) > 1 else [])]
        said, reasons = self._said(models, sounds, abstain_below, explained)
        answers = (
            ModelResult(model, first, tuple(rest) or (first,), why)
            for model, (first, *rest), why in zip(models, said, reasons, strict=True)
        )
        answer = ServiceResult(whole, tuple(answers))
        self._keep(recording, answer)
        return answer

    def ear(self, native: int, names: Sequence[str] = (), windows: Windows = LIVE) -> LiveStream:
        """What listens to sound at `native` Hz as it arrives. Raises AudioError for a rate that no sound has."""
        return LiveStream(self, self.named(names), WindowStream(native, self.rate, windows, "the sound"))

    def predict(
        self, models: Sequence[Model], sounds: Sequence[AudioClip], abstain_below: float | None
    ) -> list[list[Prediction]]:
        """Of each model, a prediction a sound. Raises AudioError for a sound that cannot be judged."""
        return self._said(models, sounds, abstain_below)[0]

    def _said(
        self, models: Sequence[Model], sounds: Sequence[AudioClip], abstain_below: float | None, explained: bool = False
    ) -> tuple[list[list[Prediction]], list[Attribution]]:
        """Of each model, a prediction a sound, and what counted for the first."""
        check_fit(models, sounds)
        said: list[list[Prediction]] = [[] for _ in models]
        reasons = [] if explained else [Attribution() for _ in models]
        for pack in packs(sounds):  # in turns with others', so that a long recording lets short ones pass
            votes, why = self._worker.submit(_heard, models, pack, not reasons).result()
            reasons = reasons or why
            for model, mine, rows in zip(models, said, votes, strict=True):
                told = zip(pack, rows, strict=True)
                mine += [
                    to_prediction(sound, model.labels, row, abstain_below, hears_of([model])) for sound, row in told
                ]
        return said, reasons

    def _keep(self, recording: Recording, answer: ServiceResult) -> None:
        """Write the recording and what was said of it into the folder for that."""
        if self.keep is None:
            return
        stem = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{recording.key[:12]}"
        said = [{"model": spoken.model.name, **to_dict(spoken.whole)} for spoken in answer.said]
        try:
            with atomic_write(self.keep / f"{stem}{recording.suffix}", "wb") as file:
                file.write(recording.data)
            with atomic_write(self.keep / f"{stem}.json") as file:
                file.write(json.dumps(said, indent=1, ensure_ascii=False))
        except SerError as error:
            self._complain(f"note: a recording was answered and could not be kept: {error}")


@dataclass
class LiveStream:
    """Sound that is still arriving, at a desk. For one thread at a time."""

    desk: PredictionService
    models: Sequence[Model]
    arriving: WindowStream
    heard: dict[str, list[Prediction]] = field(default_factory=dict)  # by model: the last windows

    def push(self, samples: Waveform, abstain_below: float | None) -> list[Said]:
        """What models say of the windows that more samples complete."""
        return self._hear(self.arriving.push(samples), abstain_below)

    def close(self, abstain_below: float | None) -> list[Said]:
        """What they say of those that the end of the sound completes."""
        return self._hear(self.arriving.close(), abstain_below)

    def _hear(self, sounds: Sequence[AudioClip], abstain_below: float | None) -> list[Said]:
        if not sounds:
            return []
        said = self.desk.predict(self.models, sounds, abstain_below)
        for model, predictions in zip(self.models, said, strict=True):
            self.heard[model.name] = [*self.heard.get(model.name, []), *predictions][-REMEMBERED:]
        return [(m.name, p) for at_once in zip(*said, strict=True) for m, p in zip(self.models, at_once, strict=True)]


def _heard(
    models: Sequence[Model], pack: Sequence[AudioClip], explained: bool
) -> tuple[list[Proba], list[Attribution]]:
    """Of each model, probabilities (n, C) of some sounds, and what counted for the first."""
    heard = EncodedWaveforms.of(models, [sound.wave for sound in pack])
    return heard.votes(), heard.counted(0) if explained else []


def steps(seconds: float) -> Windows:
    """Windows for a picture: a second apart, or as far as makes sixty of them."""
    hop = max(1.0, seconds / 60)
    return Windows(max(3.0, hop), hop)


def _check_folder(keep: Path) -> None:
    try:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / ".writable").touch()
        (keep / ".writable").unlink()
    except OSError as error:
        reason = error.strerror or error
        raise SerError(f"--keep {keep}: cannot be written: {reason}. Choose another folder.") from error
