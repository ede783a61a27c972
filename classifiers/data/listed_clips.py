"""The labelled clips of extracted datasets before their embeddings are read: manifests and augmented copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from embedcache import Artifacts, DataError, Manifest, UnknownName, find_stores
from embedcache import datasets as registry
from embedcache.audio.augment import recipe_of
from embedcache.cache.store import count_missing
from embedcache.dataset import corpus_of
from embedcache.manifest import COPY_OF, PARTITION, SKIPPED, Clip

from .labels import Labels, view_labels
from .speakers import people_of

PREFIXED = ("text", "session")  # columns of a manifest whose values mean something within their corpus only


@dataclass(frozen=True)
class LabelledClips:
    """The labelled clips of one or more extracted datasets, without embeddings."""

    name: str  # name of the dataset; `a+b` for several
    manifests: Sequence[Manifest]
    source_clips: Sequence[Clip]  # the clips as their manifests name them
    clips: Sequence[Clip]  # the same clips as a task names them: see `named_clips`
    dropped: tuple[str, ...]  # ids of the clips that the label view leaves out
    labels: Labels
    same_names: str = ""  # whether equal names in two datasets of one's own are "one" person or "two"; "" if not said
    without_vector: tuple[str, ...] = ()  # ids of clips that imported vectors lack

    def keep(self, rows: NDArray[np.bool_], encoder: str) -> LabelledClips:
        """Return the clips of the rows (n,) that are True; the others have no vector of the encoder `encoder`.

        Raises DataError if no clip of a dataset is left.
        """
        source = list(compress(self.source_clips, rows))
        left = {clip.dataset for clip in source}
        if lost := sorted({clip.dataset for clip in self.source_clips} - left):
            raise DataError(
                f"{' and '.join(lost)}: no clip has vectors of {encoder}; they were imported for others. Import "
                "vectors for these clips, too, or leave the dataset out."
            )
        return replace(
            self,
            source_clips=source,
            clips=list(compress(self.clips, rows)),
            without_vector=tuple(clip.clip_id for clip in compress(self.clips, ~rows)),
        )

    @classmethod
    def of(
        cls, artifacts: Artifacts, dataset: str | Sequence[str] | None, labels: str, same_names: str = ""
    ) -> LabelledClips:
        """Read the manifests of datasets and label their clips in a label view.

        Speakers of several datasets that are one person have one name in `clips`: see `speakers.people_of`. Raises
        UnknownName, ConfigError or DataError as `Task.load` does.
        """
        manifests = load_manifests(artifacts, dataset)
        people = people_of(manifests, same_names)
        name = "+".join(manifest.dataset for manifest in manifests)
        source = [clip for manifest in manifests for clip in manifest.usable]
        named = [clip for manifest in manifests for clip in named_clips(manifest, manifest.usable, len(manifests))]
        named = [replace(clip, speaker=people.get(clip.speaker, clip.speaker)) for clip in named]
        viewed = view_labels(named, labels)
        if not any(viewed.labels):
            raise DataError(f"--labels {labels} leaves no clip of '{name}'. Choose another label view.")

        def relabel(clips: Sequence[Clip]) -> list[Clip]:
            return [replace(clip, label=label) for clip, label in zip(clips, viewed.labels, strict=True) if label]

        dropped = tuple(clip.clip_id for clip, label in zip(named, viewed.labels, strict=True) if not label)
        return cls(name, manifests, relabel(source), relabel(named), dropped, viewed, same_names)


def load_manifests(artifacts: Artifacts, datasets: str | Sequence[str] | None = None) -> list[Manifest]:
    """Return the manifests of extracted datasets, without duplicates and sorted by name.

    Raises UnknownName or DataError as `load_manifest` does.
    """
    names: Sequence[str | None] = [datasets] if isinstance(datasets, str) else datasets or [None]
    manifests = {manifest.dataset: manifest for manifest in (load_manifest(artifacts, name) for name in names)}
    return [manifests[name] for name in sorted(manifests)]


def load_manifest(artifacts: Artifacts, dataset: str | None = None) -> Manifest:
    """Return the manifest of one extracted dataset.

    `dataset` may be None if only one dataset is extracted; "folder" finds a dataset named `folder-…`. Raises
    UnknownName if the dataset is not extracted, DataError if the choice is ambiguous or the manifest cannot be used.
    """
    name = _find_extracted(artifacts, dataset)
    path = artifacts.manifest(name)
    manifest = Manifest.from_csv(path)
    if manifest.dataset != name:
        raise DataError(
            f"{path}: its rows name the dataset '{manifest.dataset}'; wanted '{name}'. Run `ser extract` again."
        )
    if without_key := [clip.clip_id for clip in manifest.usable if not clip.key]:
        raise DataError(f"{path}: clip '{without_key[0]}' has no key. Run `ser extract` again.")
    return manifest


def _find_extracted(artifacts: Artifacts, dataset: str | None) -> str:
    """Return the full name of the one extracted dataset that `dataset` refers to."""
    extracted = sorted(path.stem for path in artifacts.manifests.glob("*.csv"))
    if not extracted:
        raise DataError(f"{artifacts.root} has no extracted dataset. Run `ser extract --dataset … --root …` first.")
    matches = [name for name in extracted if dataset in (None, name)]
    matches = matches or [name for name in extracted if name.startswith(f"{dataset}-") and dataset == "folder"]
    if not matches:
        hint = f"Run `ser extract --dataset {dataset}` first" if str(dataset) in registry.names() else ""
        raise UnknownName("extracted dataset", str(dataset), extracted, hint)
    if len(matches) > 1:
        raise DataError(f"several datasets are extracted: {', '.join(matches)}. Pick one with --dataset.")
    return matches[0]


def encoders_of(
    artifacts: Artifacts,
    dataset: str | Sequence[str] | None = None,
    copies: int = 0,
    views: Sequence[str] = ("pooled",),
) -> tuple[list[str], list[str]]:
    """Return the encoders with embeddings of all clips of datasets in some views, and notes on incomplete encoders.

    If there is none, imported embeddings of some of the clips count, too, since nobody can add the others here.

    Augmented copies, `copies` of each clip, count as clips. The notes are sentences, one for each encoder that has
    embeddings of only some of the clips.
    """
    manifests = load_manifests(artifacts, dataset)
    clips = [clip for manifest in manifests for clip in named_clips(manifest, manifest.usable, len(manifests))]
    keys = [clip.key for clip in clips] + (copied_clips(artifacts, manifests, copies, clips).keys if copies else [])
    name = "+".join(manifest.dataset for manifest in manifests) + (f" with {copies} copies each" if copies else "")
    parts = list(dict.fromkeys(part for view in views for part in view.split("+")))
    with_views = "" if parts == ["pooled"] or parts == ["layers"] else f" with {' and '.join(parts)}"
    complete, partial, notes = [], [], []
    for store in find_stores(artifacts.cache):
        n_clips = len(keys) - count_missing(store, keys, parts)
        if n_clips == len(keys):
            complete.append(store.folder.name)
        elif n_clips or count_missing(store, keys, ["pooled"]) < len(keys):
            notes.append(
                f"{store.folder.name} has {n_clips} of the {len(keys)} clips of {name}{with_views}, and is left out"
            )
            partial += [store.folder.name] if n_clips and store.info.is_imported and not copies else []
    return (complete, notes) if complete or not partial else (partial, [])


def named_clips(manifest: Manifest, clips: Sequence[Clip], datasets: int) -> list[Clip]:
    """Return clips of a manifest as a task of `datasets` datasets names them.

    With more than one dataset, clip ids get the name of the dataset as a prefix. Speakers, texts and sessions get the
    name of the corpus, because datasets of one corpus share speakers: RAVDESS speech and RAVDESS song have the same
    actors.
    """
    if datasets == 1:
        return list(clips)
    dataset, corpus = manifest.dataset, corpus_of(manifest.dataset)
    return [
        replace(
            clip,
            clip_id=f"{dataset}:{clip.clip_id}",
            speaker=f"{corpus}:{clip.speaker}",
            extra={name: f"{corpus}:{clip.extra[name]}" for name in PREFIXED if clip.extra.get(name)}
            | {name: clip.extra[name] for name in (PARTITION,) if name in clip.extra},
        )
        for clip in clips
    ]


@dataclass(frozen=True)
class CopiedClips:
    """The augmented copies that belong to the clips of a task."""

    clips: list[Clip]  # the usable copies, as their manifests name them
    clip_rows: list[int]  # for each usable copy, the row of its original clip
    skipped: tuple[str, ...]  # ids of copies without an embedding
    recipe: str  # how the copies were made

    @property
    def keys(self) -> list[str]:
        """The keys of the usable copies."""
        return [copy.key for copy in self.clips]


def copied_clips(
    artifacts: Artifacts, manifests: Sequence[Manifest], per_clip: int, clips: Sequence[Clip]
) -> CopiedClips:
    """Return `per_clip` augmented copies of each clip.

    The copies are in order of their number, then in the order of `clips`: for two copies each of clips 0 and 1,
    `clip_rows` is [0, 1, 0, 1]. Raises DataError if a copy was not extracted.
    """
    extracted = _extracted_copies(artifacts, manifests, per_clip)
    wanted = [
        ((f"{clip.clip_id}#{n}", clip.key), row) for n in range(1, per_clip + 1) for row, clip in enumerate(clips)
    ]
    if missing := [copy_id for (copy_id, key), _ in wanted if (copy_id, key) not in extracted]:
        raise DataError(
            f"{artifacts.root / 'copies'}: {len(missing)} of {len(wanted)} copies are missing, the first is "
            f"'{missing[0]}'. Run `ser extract --augment …` with --copies {per_clip}."
        )
    copies = [(name, extracted[name, key], row) for (name, key), row in wanted]
    usable = [(copy, row) for _, copy, row in copies if SKIPPED not in copy.extra]
    return CopiedClips(
        clips=[copy for copy, _ in usable],
        clip_rows=[row for _, row in usable],
        skipped=tuple(name for name, copy, _ in copies if SKIPPED in copy.extra),
        recipe="; ".join(sorted({recipe_of(copy) for copy, _ in usable})),
    )


def _extracted_copies(
    artifacts: Artifacts, manifests: Sequence[Manifest], per_clip: int
) -> dict[tuple[str, str], Clip]:
    """Return the extracted copies of datasets by their id in a task and the key of their original clip."""
    copies: dict[tuple[str, str], Clip] = {}
    for manifest in manifests:
        path = artifacts.copies(manifest.dataset)
        if not path.exists():
            raise DataError(
                f"dataset '{manifest.dataset}' has no augmented copies. Run `ser extract --augment … --copies "
                f"{per_clip}`."
            )
        prefix = f"{manifest.dataset}:" if len(manifests) > 1 else ""
        clips = Manifest.from_csv(path, check_speakers=False).clips  # a copy has the speaker of its clip
        copies |= {(prefix + copy.clip_id, copy.extra.get(COPY_OF, "")): copy for copy in clips}
    return copies
