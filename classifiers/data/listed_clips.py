"""The clips of extracted datasets, labelled, before there are vectors: manifests and augmented copies read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from embedcache import Artifacts, DataError, Manifest, UnknownName, find_stores
from embedcache import datasets as registry
from embedcache.audio.augment import recipe_of
from embedcache.cache.store import lacks
from embedcache.manifest import COPY_OF, SKIPPED, Clip

from .labels import Labels, view_labels


@dataclass(frozen=True)
class LabelledClips:
    """The labelled clips of one extracted dataset or of several, before there are vectors."""

    name: str  # of several, `a+b`
    manifests: Sequence[Manifest]
    bare: Sequence[Clip]  # under the names of their own dataset
    clips: Sequence[Clip]  # the same, as a task names them
    dropped: tuple[str, ...]
    labels: Labels

    @classmethod
    def of(cls, artifacts: Artifacts, dataset: str | Sequence[str] | None, labels: str) -> LabelledClips:
        """Raises UnknownName or DataError as `Task.load` does."""
        manifests = load_manifests(artifacts, dataset)
        name = "+".join(manifest.dataset for manifest in manifests)
        bare = [clip for manifest in manifests for clip in manifest.usable]
        named = [clip for manifest in manifests for clip in named_clips(manifest, manifest.usable, len(manifests))]
        seen = view_labels(named, labels)
        if not any(seen.labels):
            raise DataError(f"--labels {labels} leaves no clip of {name}. Choose another view.")

        def labelled(clips: Sequence[Clip]) -> list[Clip]:
            return [replace(clip, label=label) for clip, label in zip(clips, seen.labels, strict=True) if label]

        dropped = tuple(clip.clip_id for clip, label in zip(named, seen.labels, strict=True) if not label)
        return cls(name, manifests, labelled(bare), labelled(named), dropped, seen)


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
    used = [clip for manifest in manifests for clip in named_clips(manifest, manifest.usable, len(manifests))]
    keys = [clip.key for clip in used] + (copied_clips(artifacts, manifests, copies, used).keys if copies else [])
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


def named_clips(manifest: Manifest, clips: Sequence[Clip], datasets: int) -> list[Clip]:
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
class CopiedClips:
    """Copies to be read."""

    keys: list[str]
    of: list[int]  # the row of the clip that each is a copy of
    skipped: tuple[str, ...]  # ids of those that have no vector
    recipe: str


def copied_clips(place: Artifacts, manifests: Sequence[Manifest], each: int, used: Sequence[Clip]) -> CopiedClips:
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
    return CopiedClips(
        keys=[copy.key for copy, _ in usable],
        of=[row for _, row in usable],
        skipped=tuple(name for name, copy, _ in copies if SKIPPED in copy.extra),
        recipe="; ".join(recipes),
    )
