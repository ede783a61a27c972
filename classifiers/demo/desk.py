"""The desk: loaded models that answer sounds from anywhere, a few at a time, within bounds, and forget them.

Nothing that is heard is written anywhere unless a folder to keep it in was named.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from embedcache import AudioError, ModelError, Recording, SerError, UnknownName
from embedcache.audio import Waveform
from embedcache.layout import atomic_write

from ..lines import facts
from ..model import Counted, Heard, Model
from ..predict import Prediction, check_bound, check_fit, packs, rate_of, say
from ..sounds import Arriving, Sound, Windows, sounds_of

SECONDS = 300.0  # of a recording
BYTES = 64 << 20  # of a file: five minutes of stereo in 16 bits at 48 kHz have 58 MB
WAITING = 16  # callers who are let in beside the one who is answered
MOST_WINDOWS = 600  # of a recording
HALF = Windows(3.0, 0.5)  # of what is heard live
REMEMBERED = 120  # windows of what is heard live

Said = tuple[str, Prediction]  # by which model


class Busy(SerError):
    """Too many ask at once."""


@dataclass(frozen=True)
class Spoken:
    """What one model says of one recording."""

    model: Model
    whole: Prediction
    timeline: tuple[Prediction, ...]
    counted: Counted


@dataclass(frozen=True)
class Answer:
    """A recording, and what each model says of it."""

    sound: Sound
    said: tuple[Spoken, ...]


class Desk:
    """Answers recordings with every model that is asked for. Any number of threads may ask."""

    def __init__(self, models: Sequence[Model], keep: Path | None = None, waiting: int = WAITING) -> None:
        """Raises ModelError for two models of one name, or that hear different rates."""
        self.models = {model.name: model for model in models}
        if len(self.models) < len(models):
            names = ", ".join(str(model.folder) for model in models)
            raise ModelError(f"two models have one name: {names}. Rename a folder.")
        self.rate, self.keep, self.waiting = rate_of(models), keep, waiting
        self._places = threading.BoundedSemaphore(1 + waiting)
        self._turn = threading.Lock()

    def named(self, names: Sequence[str]) -> list[Model]:
        """Models by name; all where none is named. Raises UnknownName."""
        for name in names:
            if name not in self.models:
                raise UnknownName("model", name, self.models)
        return [self.models[name] for name in names or self.models]

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
    ) -> Answer:
        """What models say of a recording as a whole, and of its windows; where `explained`, what counted for the whole.

        Raises AudioError for one that cannot be decoded or judged, Busy where too many wait.
        """
        check_bound(abstain_below)
        models = self.named(names)
        with self._place():
            (whole,) = sounds_of(recording, self.rate)
            cut = sounds_of(recording, self.rate, windows) if windows else []
            if len(cut) > MOST_WINDOWS:
                raise AudioError(f"got {len(cut)} windows; wanted {MOST_WINDOWS} at most. Ask for a longer hop.")
            check_fit(models, [whole, *cut])
            sounds = [whole, *(cut if len(cut) > 1 else [])]
            said, reasons = self._said(models, sounds, abstain_below, explained)
        answer = Answer(
            whole,
            tuple(
                Spoken(model, first, tuple(rest) or (first,), why)
                for model, (first, *rest), why in zip(models, said, reasons, strict=True)
            ),
        )
        self._keep(recording, answer)
        return answer

    def ear(
        self,
        native: int,
        names: Sequence[str] = (),
        windows: Windows = HALF,
        abstain_below: float | None = None,
    ) -> Ear:
        """What listens to sound at `native` Hz as it arrives. Raises AudioError for a rate that no sound has."""
        check_bound(abstain_below)
        return Ear(self, self.named(names), Arriving(native, self.rate, windows, "the sound"), abstain_below)

    def say(
        self, models: Sequence[Model], sounds: Sequence[Sound], abstain_below: float | None
    ) -> list[list[Prediction]]:
        """Of each model, a prediction a sound. Raises AudioError and Busy as `answer` does."""
        check_fit(models, sounds)
        with self._place():
            return self._said(models, sounds, abstain_below)[0]

    def _said(
        self, models: Sequence[Model], sounds: Sequence[Sound], abstain_below: float | None, explained: bool = False
    ) -> tuple[list[list[Prediction]], list[Counted]]:
        """Of each model, a prediction a sound, and what counted for the first."""
        said: list[list[Prediction]] = [[] for _ in models]
        reasons = [] if explained else [Counted() for _ in models]
        for pack in packs(sounds):
            with self._turn:  # a pack at a time, so that a long recording lets short ones pass
                heard = Heard.of(models, [sound.wave for sound in pack])
                votes, reasons = heard.votes(), reasons or heard.counted(0)
            for model, mine, rows in zip(models, said, votes, strict=True):
                mine += [say(sound, model.labels, row, abstain_below) for sound, row in zip(pack, rows, strict=True)]
        return said, reasons

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Busy(f"busy: {1 + self.waiting} others are being answered or wait. Try again in a moment.")
        try:
            yield
        finally:
            self._places.release()

    def _keep(self, recording: Recording, answer: Answer) -> None:
        """Write the recording and what was said of it into the folder for that."""
        if self.keep is None:
            return
        stem = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{recording.key[:12]}"
        said = [{"model": spoken.model.name, **facts(spoken.whole)} for spoken in answer.said]
        with atomic_write(self.keep / f"{stem}{recording.suffix}", "wb") as file:
            file.write(recording.data)
        with atomic_write(self.keep / f"{stem}.json") as file:
            file.write(json.dumps(said, indent=1, ensure_ascii=False))


@dataclass
class Ear:
    """Sound that is still arriving, at a desk. For one thread at a time."""

    desk: Desk
    models: Sequence[Model]
    arriving: Arriving
    abstain_below: float | None
    heard: dict[str, list[Prediction]] = field(default_factory=dict)  # by model: the last windows

    def push(self, samples: Waveform) -> list[Said]:
        """What models say of the windows that more samples complete."""
        return self._hear(self.arriving.push(samples))

    def close(self) -> list[Said]:
        """What they say of those that the end of the sound completes."""
        return self._hear(self.arriving.close())

    def _hear(self, sounds: Sequence[Sound]) -> list[Said]:
        if not sounds:
            return []
        said = self.desk.say(self.models, sounds, self.abstain_below)
        for model, predictions in zip(self.models, said, strict=True):
            self.heard[model.name] = [*self.heard.get(model.name, []), *predictions][-REMEMBERED:]
        return [(m.name, p) for at_once in zip(*said, strict=True) for m, p in zip(self.models, at_once, strict=True)]


def steps(seconds: float) -> Windows:
    """Windows for a picture: a second apart, or as far as makes sixty of them."""
    hop = max(1.0, seconds / 60)
    return Windows(max(3.0, hop), hop)
