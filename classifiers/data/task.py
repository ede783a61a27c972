"""Task: the vectors, labels and speakers that heads are fitted on; made from a store, a manifest and a view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache import Artifacts, DataError, EncoderInfo
from embedcache.encoder import FRAMES, is_ragged
from embedcache.provenance import TrainedOn, of_store

from .labels import NATIVE, Labels
from .listed_clips import LabelledClips, copied_clips, named_clips
from .memmap import Indices, MappedRows, Matrix, is_large, stack
from .stored_vectors import encoder_called, read_vectors

Strings = NDArray[np.str_]


@dataclass(frozen=True)
class Copies:
    """Augmented copies of a task's clips, for training alone."""

    X: Matrix  # (m, d)
    of: Indices  # (m,): the row of the clip that each is a copy of
    each: int  # copies of one clip
    recipe: str = ""  # how they were made


@dataclass(frozen=True)
class Task:
    """What is fitted. Only X, y and speakers are needed; the rest says where they come from.

    X (n, n_layers * n_frames * dim) float32, layers outermost, NaN after a clip's last frame; y, speakers and clip_ids
    (n,) strings. `keys` and `texts` (n,) let the leak guard see identical audio and shared sentences; "" is unknown.
    Where X would take more than `memmap.IN_MEMORY` bytes, `load` gives `MappedRows` on a scratch file, which is removed
    with the last task that uses it.
    """

    X: Matrix
    y: Strings
    speakers: Strings
    clip_ids: Strings | None = None
    keys: Strings | None = None
    texts: Strings | None = None
    dataset: str = ""
    encoder: str = ""
    encoder_info: EncoderInfo | None = None  # what made X
    view: str = "pooled"  # see `views.py`
    n_layers: int = 1
    n_frames: int = 1
    skipped: tuple[str, ...] = ()  # ids of clips, and of copies, that have no vector
    dropped: tuple[str, ...] = ()  # ids of clips that the view of the labels leaves out
    labels_from: Labels | None = None  # what y is made of
    copies: Copies | None = None
    seen: NDArray[np.bool_] | None = None  # (n,): whether the encoder was fine-tuned on a clip or its speaker

    def __post_init__(self) -> None:
        """Raises DataError unless all columns have a row a clip."""
        for name in ("y", "speakers", "clip_ids", "keys", "texts", "seen"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.X):
                raise DataError(f"{name} has {len(column)} rows, X has {len(self.X)}; wanted one a clip in both.")
        if self.copies and not len(self.copies.X) == len(self.copies.of):
            raise DataError(f"got {len(self.copies.X)} copies of {len(self.copies.of)} clips; wanted one each.")

    @classmethod
    def load(
        cls,
        dataset: str | Sequence[str] | None = None,
        encoder: str | None = None,
        view: str = "pooled",
        artifacts: Artifacts | str | Path | None = None,
        labels: str = NATIVE,
        copies: int = 0,
        frames: int | None = None,
    ) -> Task:
        """The task of one extracted dataset and encoder; each may be left out where there is only one.

        Of several datasets it is their union, `a+b`: ids, speakers and texts then have their dataset's name in front.
        `labels` is a view of `labels.py`; clips that it leaves out are no part of the task. `copies` takes so many
        augmented copies of each clip along. `frames` is the number that clips are fitted to in a view of frames; see
        `views.N_FRAMES`. Raises UnknownName, DataError or StoreError where something is not
        extracted, or not all of it; DataError where X is larger than `memmap.IN_MEMORY` and
        the output folder has no room for it once more.
        """
        place = artifacts if isinstance(artifacts, Artifacts) else Artifacts.at(artifacts)
        found = LabelledClips.of(place, dataset, labels)
        copied = copied_clips(place, found.manifests, copies, found.clips) if copies else None
        keys = [clip.key for clip in found.clips]
        every = keys + (copied.keys if copied else [])
        named = f"{found.name} with {copies} copies of each clip" if copies else found.name
        read, rows = read_vectors(place, named, every, encoder, view, frames), len(keys)
        trained_on = of_store(read.store.info, read.store.folder)
        task = cls.of_clips(found, read.X[:rows], trained_on)
        return replace(
            task,
            encoder=encoder_called(read.store),
            encoder_info=read.store.info,
            view=read.view,
            n_layers=read.n_layers,
            n_frames=read.n_frames,
            skipped=task.skipped + (copied.skipped if copied else ()),
            copies=Copies(read.X[rows:], np.array(copied.of, np.int64), copies, copied.recipe) if copied else None,
        )

    @classmethod
    def of_clips(cls, found: LabelledClips, X: Matrix, trained_on: TrainedOn | None) -> Task:
        """The task of listed clips with X (n, …), vectors of an encoder that was `trained_on` some clips."""
        return cls(
            X=X,
            y=np.array([clip.label for clip in found.clips]),
            speakers=np.array([clip.speaker for clip in found.clips]),
            clip_ids=np.array([clip.clip_id for clip in found.clips]),
            keys=np.array([clip.key for clip in found.clips]),
            texts=np.array([clip.extra.get("text", "") for clip in found.clips]),
            dataset=found.name,
            skipped=tuple(c.clip_id for m in found.manifests for c in named_clips(m, m.skipped, len(found.manifests))),
            dropped=found.dropped,
            labels_from=found.labels,
            seen=np.array(trained_on.knows(found.bare)) if trained_on else None,
        )

    @property
    def fingerprint(self) -> str:
        """The encoder's, or "" where X comes from elsewhere."""
        return self.encoder_info.fingerprint if self.encoder_info else ""

    def __len__(self) -> int:
        return len(self.X)

    def take(self, rows: Indices) -> Task:
        """Some of the clips, in order, with their copies."""
        columns = ("y", "speakers", "clip_ids", "keys", "texts", "seen")
        kept = {name: column[rows] for name in columns if (column := getattr(self, name)) is not None}
        copies = self.copies
        if copies:
            place = np.full(len(self), -1)
            place[rows] = np.arange(len(rows))
            mine = np.flatnonzero(place[copies.of] >= 0)
            copies = replace(copies, X=copies.X[mine], of=place[copies.of[mine]])
        return replace(self, X=self.X[rows], copies=copies, **kept)

    def training(self, rows: Indices) -> tuple[Matrix, Strings, Strings, Indices | None]:
        """X, y and speakers of some clips and then of their copies; and for each row its clip's, -1 for clips.

        The last is None for a task without copies.
        """
        if self.copies is None:
            return self.X[rows], self.y[rows], self.speakers[rows], None
        part = self.take(rows)
        X, of = part.copies.X, part.copies.of  # type: ignore[union-attr]
        origin = np.concatenate([np.full(len(rows), -1), of])
        y, speakers = (np.concatenate([column, column[of]]) for column in (part.y, part.speakers))
        return stack(part.X, X), y, speakers, origin

    @property
    def labels(self) -> tuple[str, ...]:
        """The distinct labels, sorted: the order of every head's columns."""
        return tuple(sorted(set(self.y.tolist())))

    @property
    def ids(self) -> Strings:
        """The clip ids, or row numbers where there are none."""
        return self.clip_ids if self.clip_ids is not None else np.arange(len(self)).astype(str)

    def has(self, view: str) -> bool:
        """Whether `to_view` can give a view. Frames of any layers are all that there are; of one, they are its."""
        if is_ragged(self.view) and is_ragged(view):
            return view in (self.view, f"{FRAMES}:all") or (view == FRAMES and self.n_layers == 1)
        return view == self.view or (self.view, view) == ("layers", "pooled")

    def to_view(self, view: str) -> Task:
        """The same clips in the view that a head reads: `pooled` is the last of `layers`. Raises DataError."""
        if view == self.view or (is_ragged(view) and self.has(view)):
            return self
        if self.has(view):
            copies = replace(self.copies, X=self._last_layer(self.copies.X)) if self.copies else None
            return replace(self, X=self._last_layer(self.X), view="pooled", n_layers=1, copies=copies)
        raise DataError(f"this task has the view '{self.view}', the head reads '{view}'. Load it with view='{view}'.")

    def _last_layer(self, X: Matrix) -> Matrix:
        last = X[:, -(X.shape[1] // self.n_layers) :]
        return last if isinstance(last, MappedRows) and is_large(last.nbytes) else np.ascontiguousarray(last)
