"""What an encoder was fine-tuned on: the recordings, speakers and labels that it must not be tested on.

A fine-tuned checkpoint lists them in `finetuned.json`; its `config.json` and `EncoderInfo.trained_on` hold the list's
SHA-256, so that a list that was lost or changed is an error and never "nothing". `ser extract` lays a copy into the
store, beside the shards, where stage 2 finds it: a leak is seen after the checkpoint is gone, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .dataset import registry
from .encoder import EncoderInfo
from .errors import EncoderError, SerError, StoreError
from .files.atomic import atomic_write
from .files.untrusted import read_json
from .manifest import Clip

CARD = "finetuned.json"  # in a checkpoint's folder: what it was trained on, and how
LIST = "trained_on.json"  # in a store's folder
TRAINED_ON = "ser_trained_on"  # in config.json: the SHA-256 of the list
MOST_BYTES = 1 << 28  # of a list: a clip takes 70 bytes


@dataclass(frozen=True)
class TrainedOn:
    """Sorted, each once: content keys, speakers as `corpus:speaker`, labels."""

    keys: tuple[str, ...]
    speakers: tuple[str, ...]
    labels: tuple[str, ...]

    @classmethod
    def of(cls, clips: Iterable[Clip], parent: TrainedOn | None = None) -> TrainedOn:
        """The list of some clips, and of what the checkpoint that they fine-tuned had been fine-tuned on before."""
        listed = list(clips)
        old = parent or cls((), (), ())
        return cls(
            tuple(sorted({*(clip.key for clip in listed), *old.keys})),
            tuple(sorted({*map(speaker_of, listed), *old.speakers})),
            tuple(sorted({*(clip.label for clip in listed), *old.labels})),
        )

    @classmethod
    def from_dict(cls, said: Any) -> TrainedOn:
        """The inverse of `dataclasses.asdict`. Raises ValueError for anything else."""
        if not isinstance(said, dict) or set(said) != {"keys", "speakers", "labels"}:
            raise ValueError("wanted keys, speakers and labels")
        if not all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in said.values()):
            raise ValueError("wanted lists of names")
        return cls(**{name: tuple(part) for name, part in said.items()})

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def sha256(self) -> str:
        """Of its JSON, 64 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def knows(self, clips: Iterable[Clip]) -> list[bool]:
        """Of each clip, whether it or its speaker was trained on."""
        keys, speakers = set(self.keys), set(self.speakers)
        return [clip.key in keys or speaker_of(clip) in speakers for clip in clips]


def speaker_of(clip: Clip) -> str:
    """A speaker's name among those of all datasets: RAVDESS's speech and song have the same actors."""
    spec = registry.find(clip.dataset)
    return f"{(spec.corpus if spec else '') or clip.dataset}:{clip.speaker}"


def of_checkpoint(folder: Path, named: str) -> TrainedOn | None:
    """The list of a checkpoint whose config names one, None of one that names none. Raises EncoderError."""
    if not named:
        return None
    advice = "Copy the checkpoint again, whole: without it nobody can tell whom it may be tested on."
    said = read_json(folder / CARD, MOST_BYTES, EncoderError, advice)
    return _checked(said.get("trained_on") if isinstance(said, dict) else None, named, folder / CARD, EncoderError)


def lay(found: TrainedOn, store: Path) -> None:
    """Write a list into a store."""
    with atomic_write(store / LIST) as file:
        file.write(found.to_json())


def of_text(text: str, named: str, path: Path) -> TrainedOn:
    """The list that an exported file holds. Raises StoreError for another than is `named`."""
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    return _checked(said, named, path, StoreError)


def of_store(info: EncoderInfo, store: Path) -> TrainedOn | None:
    """The list that lies in a store, None where its encoder was not fine-tuned here. Raises StoreError."""
    if not info.trained_on:
        return None
    advice = "Run `ser extract` with that checkpoint again: it lays the list there."
    said = read_json(store / LIST, MOST_BYTES, StoreError, advice)
    return _checked(said, info.trained_on, store / LIST, StoreError)


def _checked(said: Any, named: str, path: Path, kind: type[SerError]) -> TrainedOn:
    try:
        found = TrainedOn.from_dict(said)
    except ValueError as error:
        raise kind(f"{path}: does not list what its encoder was trained on ({error}).") from error
    if found.sha256 != named:
        raise kind(
            f"{path}: is not the list that its encoder was trained on ({found.sha256[:12]}, wanted {named[:12]}). "
            "Copy the checkpoint again, whole, and remove this file."
        )
    return found
