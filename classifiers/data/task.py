"""The task: embeddings, labels and speakers that heads are fitted on, loaded from a store and manifests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache import Artifacts, DataError, EncoderInfo
from embedcache.audio.spans import overlaps
from embedcache.encoder import FRAMES, is_ragged, joined_fingerprint
from embedcache.encoders.contamination import known_training
from embedcache.manifest import PARTITION
from embedcache.provenance import TrainedOn, read_store_training_list, speakers_of

from .labels import NATIVE, Labels
from .listed_clips import LabelledClips, copied_clips, named_clips
from .memmap import Indices, MappedRows, Matrix, is_large, stack
from .speakers import seen_in_training
from .stored_vectors import encoder_name, find_joined_stores, read_vectors

Strings = NDArray[np.str_]
COLUMNS = ("speakers", "clip_ids", "keys", "texts", "sessions", "partitions", "seen", "own_speakers")  # besides X and y


@dataclass(frozen=True)
class Copies:
    """Augmented copies of the clips of a task, used for training only."""

    X: Matrix  # (m, d) embeddings of the copies
    clip_rows: Indices  # (m,): for each copy, the row of its original clip in the task
    per_clip: int  # number of copies of each clip
    recipe: str = ""  # how the copies were made


@dataclass(frozen=True)
class TrainingData:
    """What a head is fitted on: training clips, then development clips, then copies of the training clips."""

    X: Matrix  # (n, d)
    y: Strings  # (n,)
    speakers: Strings  # (n,)
    copy_of: Indices | None  # (n,): for a copy the row of its original, -1 for a clip; None for a task without copies
    dev: NDArray[np.bool_] | None  # (n,): whether the row is a development clip; None without development clips


@dataclass(frozen=True)
class Task:
    """The embeddings, labels and speakers of clips, with their origin. Only X, y and speakers are required.

    X is (n, n_layers * n_frames * dim) float32, layers outermost, with NaN after the last frame of a clip. `y`,
    `speakers` and `clip_ids` are (n,) strings. `keys`, `texts` and `sessions` (n,) let the leak check find
    identical audio, shared sentences and shared sessions; "" means unknown.

    If X would take more than `memmap.IN_MEMORY` bytes, `load` returns a task whose X is `MappedRows` of a scratch file.
    The file is removed with the last task that uses it.
    """

    X: Matrix
    y: Strings
    speakers: Strings
    clip_ids: Strings | None = None
    keys: Strings | None = None
    texts: Strings | None = None
    sessions: Strings | None = None  # recording sessions, such as the dialogues of two speakers
    partitions: Strings | None = None  # published parts of the dataset: train, dev, test, …; "" for none
    dataset: str = ""
    encoder: str = ""  # `a+b` if the embeddings of two encoders stand side by side
    encoder_infos: tuple[EncoderInfo, ...] = ()  # the encoders that computed X, in the order of their columns
    view: str = "pooled"  # see `views.py`
    n_layers: int = 1
    n_frames: int = 1
    skipped: tuple[str, ...] = ()  # ids of clips and copies without an embedding
    dropped: tuple[str, ...] = ()  # ids of clips that the label view leaves out
    labels_from: Labels | None = None  # how y was mapped from the labels of the datasets
    copies: Copies | None = None
    near_copies: Indices | None = None  # (m, 2): rows of clips that are probably copies, see `near_copies.py`
    overlaps: Indices | None = None  # (m, 2): rows of clips that are overlapping spans of one recording
    seen: NDArray[np.bool_] | None = None  # (n,): whether the encoder was trained on the clip or its speaker
    training_known: bool = False  # whether all emotional speech that the encoder was trained on is known
    own_speakers: Strings | None = None  # (n,): the speakers' names in the datasets of a union; see `speakers.py`

    def __post_init__(self) -> None:
        """Raise DataError unless all columns have one row per clip."""
        for name in ("y", *COLUMNS):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.X):
                raise DataError(
                    f"got {name} with {len(column)} rows and X with {len(self.X)} rows; wanted one row per clip in "
                    "both."
                )
        if self.copies and not len(self.copies.X) == len(self.copies.clip_rows):
            raise DataError(
                f"got {len(self.copies.X)} copies and {len(self.copies.clip_rows)} clip_rows; wanted one clip row per "
                "copy."
            )

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
        same_names: str = "",
    ) -> Task:
        """Load the task of extracted datasets and one encoder, or several side by side.

        - `dataset`: the name of a dataset, or several names for their union `a+b`, in which clip ids, speakers,
          texts and sessions have a prefix. By default, the only extracted dataset.
        - `encoder`: the name of the encoder. By default, the only encoder with embeddings of all clips. If imported
          embeddings are only those of some clips, these are the clips of the task. `a+b` joins the embeddings of two
          encoders, in the order of their names: X is (n, dim of a + dim of b) in the view `pooled`, as one layer.
        - `view`: the view of the embeddings, see `views.py`.
        - `artifacts`: the output folder of `ser extract`.
        - `labels`: the label view, see `labels.py`. Clips that it leaves out are not part of the task.
        - `copies`: the number of augmented copies to load for each clip.
        - `frames`: the number of frames per clip in a view of frames. By default, that of `views.N_FRAMES`.
        - `same_names`: whether speakers with equal names in two datasets of one's own are "one" person or "two".

        Raises UnknownName, DataError or StoreError if something is not extracted, or only in part; DataError if X is
        larger than `memmap.IN_MEMORY` and the output folder has no space for a copy of X, if the view cannot be joined,
        and if there are such equal names and `same_names` is "".
        """
        place = artifacts if isinstance(artifacts, Artifacts) else Artifacts.at(artifacts)
        listed = LabelledClips.of(place, dataset, labels, same_names)
        copied = copied_clips(place, listed.manifests, copies, listed.clips) if copies else None
        keys = [clip.key for clip in listed.clips] + (copied.keys if copied else [])
        name = f"{listed.name} with {copies} copies of each clip" if copies else listed.name
        stores, has_vector = find_joined_stores(place, name, keys, encoder, view, copies)
        encoder = "+".join(map(encoder_name, stores))
        listed = listed if has_vector.all() else listed.keep(has_vector, encoder)
        keys = [key for key, has in zip(keys, has_vector, strict=True) if has]
        vectors, n_clips = read_vectors(place, stores, keys, view, frames), len(listed.clips)
        trained_on = [read_store_training_list(s.info, s.folder) or known_training(s.info) for s in stores]
        task = cls.of_clips(listed, vectors.X[:n_clips], TrainedOn.union(trained_on))
        clip_rows = np.array(copied.clip_rows if copied else [], np.int64)
        return replace(
            task,
            encoder=encoder,
            encoder_infos=tuple(store.info for store in stores),
            view=vectors.view,
            n_layers=vectors.n_layers,
            n_frames=vectors.n_frames,
            skipped=task.skipped + (copied.skipped if copied else ()),
            copies=Copies(vectors.X[n_clips:], clip_rows, copies, copied.recipe) if copied else None,
        )

    @classmethod
    def of_clips(cls, listed: LabelledClips, X: Matrix, trained_on: TrainedOn) -> Task:
        """Return the task of labelled clips with the embeddings X (n, …).

        `trained_on` describes the clips that the encoders were trained on, as far as is known.
        """
        manifests = listed.manifests
        speakers = [clip.speaker for clip in listed.clips]
        seen = seen_in_training(trained_on, listed.source_clips, speakers, listed.same_names)
        return cls(
            X=X,
            y=np.array([clip.label for clip in listed.clips]),
            speakers=np.array(speakers),
            clip_ids=np.array([clip.clip_id for clip in listed.clips]),
            keys=np.array([clip.key for clip in listed.clips]),
            texts=np.array([clip.extra.get("text", "") for clip in listed.clips]),
            sessions=np.array([clip.extra.get("session", "") for clip in listed.clips]),
            partitions=np.array([clip.extra.get(PARTITION, "") for clip in listed.clips]),
            overlaps=np.array([pair[:2] for pair in overlaps(listed.source_clips)], np.int64).reshape(-1, 2),
            dataset=listed.name,
            skipped=listed.without_vector
            + tuple(c.clip_id for m in manifests for c in named_clips(m, m.skipped, len(manifests))),
            dropped=listed.dropped,
            labels_from=listed.labels,
            seen=seen,
            training_known=trained_on.is_complete,
            own_speakers=np.array(speakers_of(listed.source_clips)) if len(manifests) > 1 else None,
        )

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the encoder, or of all encoders together; "" if the encoder is unknown."""
        return joined_fingerprint(self.encoder_infos)

    def __len__(self) -> int:
        return len(self.X)

    def take(self, rows: Indices) -> Task:
        """Return the task of selected clips, in the order of `rows`, with their copies.

        Copies of other clips are left out, and `copies.clip_rows` is renumbered: for `rows` = [2, 0], clip 2 becomes
        row 0 and clip 0 row 1, so `clip_rows` = [0, 1, 2] becomes [1, 0], without the copy of clip 1.
        """
        columns = ("y", *COLUMNS)
        kept = {name: column[rows] for name in columns if (column := getattr(self, name)) is not None}
        copies = self.copies
        new_rows = np.full(len(self), -1)  # the new row of each clip; -1 for clips that are left out
        new_rows[rows] = np.arange(len(rows))
        for name in ("near_copies", "overlaps"):
            if (pairs := getattr(self, name)) is not None:
                kept[name] = new_rows[pairs][(new_rows[pairs] >= 0).all(axis=1)]
        if copies:
            kept_copies = np.flatnonzero(new_rows[copies.clip_rows] >= 0)
            copies = replace(copies, X=copies.X[kept_copies], clip_rows=new_rows[copies.clip_rows[kept_copies]])
        return replace(self, X=self.X[rows], copies=copies, **kept)

    def training(self, rows: Indices, dev: Indices | None = None) -> TrainingData:
        """Return selected training clips, the development clips `dev`, and the copies of the training clips.

        Copies of development clips are left out. With one copy per clip, `rows` = [2, 0] and no `dev`, X has four rows,
        and `copy_of` is [-1, -1, 1, 0]: the copy of clip 0, then that of clip 2.
        """
        every = rows if dev is None else np.concatenate([rows, dev])
        is_dev = np.arange(len(every)) >= len(rows)
        if self.copies is None:
            mask = is_dev if is_dev.any() else None
            return TrainingData(self.X[every], self.y[every], self.speakers[every], None, mask)
        part = self.take(every)
        kept = np.flatnonzero(~is_dev[part.copies.clip_rows])  # type: ignore[union-attr]
        copies, clip_rows = part.copies.X[kept], part.copies.clip_rows[kept]  # type: ignore[union-attr]
        copy_of = np.concatenate([np.full(len(every), -1), clip_rows])
        y, speakers = (np.concatenate([column, column[clip_rows]]) for column in (part.y, part.speakers))
        mask = np.concatenate([is_dev, np.zeros(len(kept), bool)]) if is_dev.any() else None
        return TrainingData(stack(part.X, copies), y, speakers, copy_of, mask)

    @property
    def labels(self) -> tuple[str, ...]:
        """The distinct labels, sorted. This is the order of the columns of every head's probabilities."""
        return tuple(sorted(set(self.y.tolist())))

    @property
    def ids(self) -> Strings:
        """The clip ids, or the row numbers as strings if the task has no clip ids."""
        return self.clip_ids if self.clip_ids is not None else np.arange(len(self)).astype(str)

    def has(self, view: str) -> bool:
        """Whether `to_view` can return this view.

        A task with frames of any layers can serve as `frames:all`; a task with frames of one layer as `frames`.
        """
        if is_ragged(self.view) and is_ragged(view):
            return view in (self.view, f"{FRAMES}:all") or (view == FRAMES and self.n_layers == 1)
        return view == self.view or (self.view, view) == ("layers", "pooled")

    def to_view(self, view: str) -> Task:
        """Return the same clips in the view that a head reads; `pooled` is the last layer of `layers`.

        Raises DataError if the task does not have the view.
        """
        if view == self.view or (is_ragged(view) and self.has(view)):
            return self
        if self.has(view):
            copies = replace(self.copies, X=self._last_layer(self.copies.X)) if self.copies else None
            return replace(self, X=self._last_layer(self.X), view="pooled", n_layers=1, copies=copies)
        raise DataError(
            f"this task has the view '{self.view}', but the head reads '{view}'. Load the task with view='{view}'."
        )

    def _last_layer(self, X: Matrix) -> Matrix:
        last = X[:, -(X.shape[1] // self.n_layers) :]
        return last if isinstance(last, MappedRows) and is_large(last.nbytes) else np.ascontiguousarray(last)
