"""Task: the vectors, labels and speakers that heads are fitted on; made from a store, a manifest and a view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache import Artifacts, DataError, EmbeddingStore, EncoderInfo, Manifest, UnknownName, find_stores
from embedcache import datasets as registry
from embedcache.augment import recipe_of
from embedcache.encoder import FRAMES, is_ragged
from embedcache.lineage import TrainedOn, of_store
from embedcache.manifest import COPY_OF, SKIPPED, Clip
from embedcache.store import lacks, whole_store

from .labels import NATIVE, Labels, view_labels
from .mapped import Floats, Indices, MappedRows, Matrix, stack, write_rows
from .views import MOST_NUMBERS, N_FRAMES, OTHERS, check_view, layers_in, rows_of

Strings = NDArray[np.str_]

# Bytes of X that are held in memory. A comparison in two processes holds it six times over: as the task, as the copy
# that both read, and in each its training rows and those scaled. With the libraries that is a machine of 8 GB.
IN_MEMORY = 2**30

STREAMED = 2**26  # bytes of X that are read from a store at once on their way to a file: about a shard


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
    Where `load` finds more than `IN_MEMORY` bytes, X is `MappedRows` on a scratch file that goes with the last task.
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
        extracted, or not all of it; DataError where it is larger than `IN_MEMORY` and the output folder has no room
        for it once more.
        """
        place = artifacts if isinstance(artifacts, Artifacts) else Artifacts.at(artifacts)
        found = Listed.of(place, dataset, labels)
        copied = _copied(place, found.manifests, copies, found.clips) if copies else None
        keys = [clip.key for clip in found.clips]
        every = keys + (copied.keys if copied else [])
        named = f"{found.name} with {copies} copies of each clip" if copies else found.name
        read, rows = _read(place, named, every, encoder, view, frames), len(keys)
        trained_on = of_store(read.store.info, read.store.folder)
        task = found.task(read.X[:rows], trained_on)
        return replace(
            task,
            encoder=_called(read.store),
            encoder_info=read.store.info,
            view=read.view,
            n_layers=read.n_layers,
            n_frames=read.n_frames,
            skipped=task.skipped + (copied.skipped if copied else ()),
            copies=Copies(read.X[rows:], np.array(copied.of, np.int64), copies, copied.recipe) if copied else None,
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
        return last if isinstance(last, MappedRows) and last.nbytes > IN_MEMORY else np.ascontiguousarray(last)


@dataclass(frozen=True)
class Listed:
    """The labelled clips of one extracted dataset or of several, before there are vectors."""

    name: str  # of several, `a+b`
    manifests: Sequence[Manifest]
    bare: Sequence[Clip]  # under the names of their own dataset
    clips: Sequence[Clip]  # the same, as a task names them
    dropped: tuple[str, ...]
    labels: Labels

    @classmethod
    def of(cls, artifacts: Artifacts, dataset: str | Sequence[str] | None, labels: str) -> Listed:
        """Raises UnknownName or DataError as `Task.load` does."""
        manifests = load_manifests(artifacts, dataset)
        name = "+".join(manifest.dataset for manifest in manifests)
        bare = [clip for manifest in manifests for clip in manifest.usable]
        named = [clip for manifest in manifests for clip in _named(manifest, manifest.usable, len(manifests))]
        seen = view_labels(named, labels)
        if not any(seen.labels):
            raise DataError(f"--labels {labels} leaves no clip of {name}. Choose another view.")

        def labelled(clips: Sequence[Clip]) -> list[Clip]:
            return [replace(clip, label=label) for clip, label in zip(clips, seen.labels, strict=True) if label]

        dropped = tuple(clip.clip_id for clip, label in zip(named, seen.labels, strict=True) if not label)
        return cls(name, manifests, labelled(bare), labelled(named), dropped, seen)

    def task(self, X: Matrix, trained_on: TrainedOn | None) -> Task:
        """The task with X (n, …), vectors of an encoder that was `trained_on` that."""
        return Task(
            X=X,
            y=np.array([clip.label for clip in self.clips]),
            speakers=np.array([clip.speaker for clip in self.clips]),
            clip_ids=np.array([clip.clip_id for clip in self.clips]),
            keys=np.array([clip.key for clip in self.clips]),
            texts=np.array([clip.extra.get("text", "") for clip in self.clips]),
            dataset=self.name,
            skipped=tuple(c.clip_id for m in self.manifests for c in _named(m, m.skipped, len(self.manifests))),
            dropped=self.dropped,
            labels_from=self.labels,
            seen=np.array(trained_on.knows(self.bare)) if trained_on else None,
        )


def load_manifests(artifacts: Artifacts, datasets: str | Sequence[str] | None = None) -> list[Manifest]:
    """Some extracted manifests, each once, in the order of their names. Raises as `load_manifest` does."""
    names: Sequence[str | None] = [datasets] if isinstance(datasets, str) else datasets or [None]
    found = {manifest.dataset: manifest for manifest in (load_manifest(artifacts, name) for name in names)}
    return [found[name] for name in sorted(found)]


def load_manifest(artifacts: Artifacts, dataset: str | None = None) -> Manifest:
    """One extracted manifest by name; `folder` finds `folder-…`. Raises UnknownName or DataError."""
    have = sorted(path.stem for path in artifacts.manifests.glob("*.csv"))
    if not have:
        raise DataError(f"{artifacts.root}: nothing is extracted there. Run `ser extract --dataset … --root …` first.")
    matches = [name for name in have if dataset in (None, name)]
    matches = matches or [name for name in have if name.startswith(f"{dataset}-") and dataset == "folder"]
    if not matches:
        known = str(dataset) in registry.names()
        raise UnknownName(
            "extracted dataset", str(dataset), have, f"Run `ser extract --dataset {dataset}` first" if known else ""
        )
    if len(matches) > 1:
        raise DataError(f"several datasets are extracted: {', '.join(matches)}. Pick one with --dataset.")
    manifest = Manifest.from_csv(artifacts.manifest(matches[0]))
    if manifest.dataset != matches[0]:
        raise DataError(
            f"{artifacts.manifest(matches[0])}: its rows name the dataset '{manifest.dataset}'; wanted '{matches[0]}'."
        )
    if blank := [clip.clip_id for clip in manifest.usable if not clip.key]:
        raise DataError(f"{artifacts.manifest(matches[0])}: {blank[0]} has no key. Run `ser extract` again.")
    return manifest


def encoders_of(
    artifacts: Artifacts,
    dataset: str | Sequence[str] | None = None,
    copies: int = 0,
    views: Sequence[str] = ("pooled",),
) -> tuple[list[str], list[str]]:
    """The encoders that have some views of all clips and copies of datasets; a sentence on each that has a part."""
    manifests = load_manifests(artifacts, dataset)
    used = [clip for manifest in manifests for clip in _named(manifest, manifest.usable, len(manifests))]
    keys = [clip.key for clip in used] + (_copied(artifacts, manifests, copies, used).keys if copies else [])
    named = "+".join(manifest.dataset for manifest in manifests) + (f" with {copies} copies each" if copies else "")
    parts = list(dict.fromkeys(part for view in views for part in view.split("+")))
    what = "" if parts == ["pooled"] or parts == ["layers"] else f" with {' and '.join(parts)}"
    whole, notes = [], []
    for store in find_stores(artifacts.cache):
        has = len(keys) - lacks(store, keys, parts)
        if has == len(keys):
            whole.append(store.folder.name)
        elif has or lacks(store, keys, ["pooled"]) < len(keys):
            notes.append(f"{store.folder.name} has {has} of the {len(keys)} clips of {named}{what}, and is left out")
    return whole, notes


def _named(manifest: Manifest, clips: Sequence[Clip], datasets: int) -> list[Clip]:
    """The clips as a task names them: of several datasets, with the dataset's name in front.

    Speakers and texts have their corpus's: RAVDESS's speech and song have the same actors.
    """
    if datasets == 1:
        return list(clips)
    name, spec = manifest.dataset, registry.find(manifest.dataset)
    corpus = (spec.corpus if spec else "") or name
    return [
        replace(
            clip,
            clip_id=f"{name}:{clip.clip_id}",
            speaker=f"{corpus}:{clip.speaker}",
            extra={"text": f"{corpus}:{clip.extra['text']}"} if clip.extra.get("text") else {},
        )
        for clip in clips
    ]


@dataclass(frozen=True)
class _Copied:
    """Copies to be read."""

    keys: list[str]
    of: list[int]  # the row of the clip that each is a copy of
    skipped: tuple[str, ...]  # ids of those that have no vector
    recipe: str


def _copied(place: Artifacts, manifests: Sequence[Manifest], each: int, used: Sequence[Clip]) -> _Copied:
    """So many copies of each used clip. Raises DataError where they were not extracted."""
    listed: dict[tuple[str, str], Clip] = {}
    for manifest in manifests:
        path = place.copies(manifest.dataset)
        if not path.exists():
            raise DataError(
                f"{manifest.dataset} has no augmented copies. Run `ser extract --augment … --copies {each}`."
            )
        prefix = f"{manifest.dataset}:" if len(manifests) > 1 else ""
        made = Manifest.from_csv(path).clips
        listed |= {(prefix + copy.clip_id, copy.extra.get(COPY_OF, "")): copy for copy in made}
    wanted = [((f"{clip.clip_id}#{n}", clip.key), row) for n in range(1, each + 1) for row, clip in enumerate(used)]
    if absent := [name for (name, key), _ in wanted if (name, key) not in listed]:
        raise DataError(
            f"{place.root / 'copies'}: lacks {len(absent)} of {len(wanted)} copies, the first {absent[0]}. Run `ser "
            f"extract --augment …` with --copies {each}."
        )
    copies = [(name, listed[name, key], row) for (name, key), row in wanted]
    usable = [(copy, row) for _, copy, row in copies if SKIPPED not in copy.extra]
    recipes = sorted({recipe_of(copy) for copy, _ in usable})
    return _Copied(
        keys=[copy.key for copy, _ in usable],
        of=[row for _, row in usable],
        skipped=tuple(name for name, copy, _ in copies if SKIPPED in copy.extra),
        recipe="; ".join(recipes),
    )


@dataclass(frozen=True)
class _Vectors:
    """What a store has of some keys, in a view."""

    X: Matrix
    store: EmbeddingStore
    view: str  # `frames:all` of some layers alone is called by them
    n_layers: int
    n_frames: int


def _read(
    place: Artifacts, named: str, keys: list[str], encoder: str | None, view: str, frames: int | None
) -> _Vectors:
    """The view of every key, from the one store that has it. Raises as `Task.load` does."""
    check_view(view)
    store = whole_store(place.cache, named, keys, encoder, view.split("+"))
    parts = [part for name in view.split("+") for part in store.named(name)]
    n_layers = layers_in(parts, store.info.n_layers)
    n_frames = (frames or N_FRAMES.get(store.info.name, OTHERS)) if is_ragged(view) else 1
    dim = store.rows(keys[:1], parts[0]).values.shape[1] if is_ragged(view) else 0  # type: ignore[union-attr]
    if n_frames * dim > MOST_NUMBERS:
        most = f"at most {MOST_NUMBERS // dim:,} frames of {dim} numbers are read"
        raise DataError(f"--frames {n_frames}: {most}. Ask for fewer.")
    called = "+".join(parts) if view == "frames:all" and n_layers < store.info.n_layers else view
    return _Vectors(_vectors(store, keys, parts, n_frames, place), store, called, n_layers, n_frames)


def _vectors(store: EmbeddingStore, keys: list[str], parts: Sequence[str], n_frames: int, place: Artifacts) -> Matrix:
    """(n, layers * frames * dim): an array, or rows of a file where they are more than `IN_MEMORY` bytes."""

    def read(some: list[str]) -> Floats:
        return rows_of({part: store.rows(some, part) for part in parts}, parts, n_frames)

    width = read(keys[:1]).shape[1]
    if 4 * len(keys) * width <= IN_MEMORY:
        return read(keys)
    step = max(1, STREAMED // (4 * width))
    made = (read(keys[i : i + step]) for i in range(0, len(keys), step))
    return write_rows(place.root / "scratch", (len(keys), width), made)


def _called(store: EmbeddingStore) -> str:
    """The encoder's name, or its folder's where others go by the same name: one name a fingerprint."""
    name = store.folder.name.rpartition("-")[0]
    namesakes = [f for f in store.folder.parent.glob(f"{name}-*") if f.name.rpartition("-")[0] == name]
    return store.info.name if len(namesakes) == 1 else store.folder.name
