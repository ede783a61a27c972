"""Training lists: the recordings, speakers and labels that an encoder was fine-tuned on and must not be tested on.

A fine-tuned checkpoint holds its training list in `finetuned.json`. The SHA-256 of the list is in the checkpoint's
`config.json` and in `EncoderInfo.trained_on`, so that a lost or changed list is an error and never counts as empty.
`ser extract` writes a copy of the list into the store, next to the shards. Stage 2 reads that copy, and therefore
detects a leak even if the checkpoint no longer exists.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .dataset import corpus_of
from .encoder import EncoderInfo
from .errors import EncoderError, SerError, StoreError
from .files.atomic import atomic_write
from .files.untrusted import build, read_json
from .manifest import OWN, Clip
from .text import normal_name

CARD = "finetuned.json"  # file in a checkpoint's folder with the training list and the training settings
LIST = "trained_on.json"  # file in a store's folder with the training list
TRAINED_ON = "ser_trained_on"  # key in config.json whose value is the SHA-256 of the training list
WHOLE = "*"  # in place of a speaker: all speakers of a corpus
UNKNOWN_CLIPS = "?:*"  # in place of a speaker: further clips that nobody has published
MAX_LIST_BYTES = 1 << 28  # size limit of a training list in bytes; a clip takes 70 bytes


@dataclass(frozen=True)
class TrainedOn:
    """A training list. Each field is sorted and holds no duplicates."""

    keys: tuple[str, ...]  # content keys of the clips
    speakers: tuple[str, ...]  # speakers, as `corpus:speaker`; `corpus:*` for all of a corpus, `?:*` for unknown ones
    labels: tuple[str, ...]

    @classmethod
    def of(cls, clips: Iterable[Clip], parent: TrainedOn | None = None) -> TrainedOn:
        """Return the training list of `clips`.

        If the checkpoint that was fine-tuned on the clips had itself been fine-tuned before, `parent` is its training
        list, which is included.
        """
        clips = list(clips)
        keys, labels = (clip.key for clip in clips), (clip.label for clip in clips)
        return cls.union([cls(tuple(keys), tuple(speakers_of(clips)), tuple(labels)), *([parent] if parent else [])])

    @classmethod
    def union(cls, lists: Sequence[TrainedOn]) -> TrainedOn:
        """Return what several encoders together were trained on. The list is complete if all of them are."""
        return cls(
            tuple(sorted({key for one in lists for key in one.keys})),
            tuple(sorted({speaker for one in lists for speaker in one.speakers})),
            tuple(sorted({label for one in lists for label in one.labels})),
        )

    @classmethod
    def from_dict(cls, content: Any) -> TrainedOn:
        """Return the training list that `dataclasses.asdict` turned into `content`. Raises ValueError if it is none."""
        return build(cls, content)

    def to_json(self) -> str:
        """Return the training list as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def sha256(self) -> str:
        """SHA-256 of the JSON text, as 64 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def covers(self, clips: Iterable[Clip]) -> list[bool]:
        """Return for each clip whether the encoder was trained on the clip or on another clip of its speaker.

        Names of speakers are compared by their `normal_name`: a list may be older than a corrected manifest.
        """
        keys, trained = set(self.keys), set(map(_compared, self.speakers))

        def covered(clip: Clip, speaker: str) -> bool:
            names = {_compared(speaker), _compared(whole_corpus(speaker.partition(":")[0]))}
            return clip.key in keys or not names.isdisjoint(trained)

        clips = list(clips)
        return [covered(*pair) for pair in zip(clips, speakers_of(clips), strict=True)]

    @property
    def is_complete(self) -> bool:
        """Whether the list names all labelled or emotional speech that the encoder was trained on."""
        return UNKNOWN_CLIPS not in self.speakers

    def with_unknown(self, unknown: bool) -> TrainedOn:
        """Return the list, marked as incomplete if `unknown` is true."""
        return replace(self, speakers=tuple(sorted({*self.speakers, UNKNOWN_CLIPS}))) if unknown else self

    def namesakes(self, clips: Iterable[Clip]) -> list[bool]:
        """Return for each clip of a dataset of one's own whether another such dataset has a training speaker so named.

        This may be the same person or not. The speakers of published datasets have no namesakes.
        """
        datasets: defaultdict[str, set[str]] = defaultdict(set)
        for name in self.speakers:
            dataset, _, speaker = name.partition(":")
            if dataset.startswith(OWN):
                datasets[normal_name(speaker)].add(dataset)
        return [
            clip.dataset.startswith(OWN) and bool(datasets.get(normal_name(clip.speaker), set()) - {clip.dataset})
            for clip in clips
        ]


def whole_corpus(corpus: str) -> str:
    """Return the entry of a training list that stands for all speakers of a corpus."""
    return f"{corpus}:{WHOLE}"


def speakers_of(clips: Sequence[Clip]) -> list[str]:
    """Return for each clip the name of its speaker that is unique among all datasets, as `corpus:speaker`.

    Datasets of the same corpus share their speakers: RAVDESS's speech and song are recordings of the same actors.
    """
    corpora = {dataset: corpus_of(dataset) for dataset in {clip.dataset for clip in clips}}  # plug-ins are slow to find
    return [f"{corpora[clip.dataset]}:{clip.speaker}" for clip in clips]


def _compared(name: str) -> str:
    """Return the form in which a name of `speakers_of` is compared."""
    corpus, _, speaker = name.partition(":")
    return f"{corpus}:{normal_name(speaker)}"


def read_checkpoint_training_list(folder: Path, sha256: str) -> TrainedOn | None:
    """Return the training list in a checkpoint's folder, or None if `sha256` is empty: it was not fine-tuned by `ser`.

    `sha256` is the value in the checkpoint's `config.json`. Raises EncoderError if the list is missing or differs.
    """
    if not sha256:
        _refuse_unnamed_list(folder / CARD)
        return None
    advice = "Copy the complete checkpoint again: without this list, the leak check cannot find its training speakers."
    card = read_json(folder / CARD, MAX_LIST_BYTES, EncoderError, advice)
    content = card.get("trained_on") if isinstance(card, dict) else None
    return _check_list(content, sha256, folder / CARD, EncoderError)


def _refuse_unnamed_list(card: Path) -> None:
    """Raise EncoderError if a checkpoint has a training list that its config.json does not name."""
    if card.exists():
        raise EncoderError(
            f"{card}: lists training clips, but config.json has no '{TRAINED_ON}': another program has rewritten it. "
            "Copy the complete checkpoint again, so that it is never tested on its training speakers unnoticed."
        )


def write_training_list(trained_on: TrainedOn, store: Path) -> None:
    """Write a training list into a store's folder."""
    with atomic_write(store / LIST) as file:
        file.write(trained_on.to_json())


def parse_training_list(text: str, sha256: str, path: Path) -> TrainedOn:
    """Return the training list in the text of the file `path`. Raises StoreError if its SHA-256 is not `sha256`."""
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    return _check_list(content, sha256, path, StoreError)


def read_store_training_list(info: EncoderInfo, store: Path) -> TrainedOn | None:
    """Return the training list in a store's folder, or None if the encoder `info` was not fine-tuned by `ser`.

    Raises StoreError if the list is missing or is not that of the encoder.
    """
    if not info.trained_on:
        return None
    advice = "Run `ser extract` with that checkpoint again, which writes the list."
    content = read_json(store / LIST, MAX_LIST_BYTES, StoreError, advice)
    return _check_list(content, info.trained_on, store / LIST, StoreError)


def _check_list(content: Any, sha256: str, path: Path, kind: type[SerError]) -> TrainedOn:
    """Return the training list in `content`, read from `path`. Raises `kind` if it is invalid or another list."""
    try:
        trained_on = TrainedOn.from_dict(content)
    except ValueError as error:
        raise kind(
            f"{path}: does not list what its encoder was trained on ({error}). Copy the checkpoint again, whole, and "
            "remove this file."
        ) from error
    if trained_on.sha256 != sha256:
        raise kind(
            f"{path}: is not the list that its encoder was trained on ({trained_on.sha256[:12]}, wanted {sha256[:12]})."
            " Copy the checkpoint again, whole, and remove this file."
        )
    return trained_on
