"""The data on which a recipe runs: the manifests of its datasets, of all clips or of a part of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embedcache import Artifacts, DataError, Manifest, dataset_manifest
from embedcache import datasets as registry
from embedcache.dataset import find_root
from embedcache.manifest import KNOWN_FAULT, SKIPPED, Clip
from embedcache.progress import Progress
from embedcache.text import count

from .recipe import Recipe


@dataclass(frozen=True)
class Gap:
    """Clips of a published dataset that cannot be used here."""

    text: str  # dataset and number of clips
    is_published: bool  # whether the clips are faulty as published, so that nobody can use them


@dataclass(frozen=True)
class RecipeData:
    """The manifests of a recipe, and the clips that they lack."""

    artifacts: Artifacts  # output folder that holds the manifests, and later the runs
    gaps: tuple[Gap, ...]


def prepare_data(
    artifacts: Artifacts, recipe: Recipe, root: Path | None, quick: bool, progress: Progress
) -> RecipeData:
    """Store the manifests of a recipe's datasets. `root` is the folder of the dataset, if the recipe has only one.

    If the recipe or a quick run uses a part of the clips, the manifests are stored in an output folder of their own.
    Raises DataError if a dataset is not on this machine.
    """
    if root and len(recipe.datasets) > 1:
        raise DataError(
            f"--root is the folder of one dataset; {recipe.name} uses {', '.join(recipe.datasets)}. Set SER_DATA to "
            "their common folder, or choose one dataset with --dataset."
        )
    if not root:
        _refuse_absent(artifacts, recipe)
    manifests = [dataset_manifest(name, artifacts, root, progress) for name in recipe.datasets]
    gaps = tuple(gap for manifest in manifests for gap in _gaps(manifest))
    most = recipe.quick.clips if quick else clips_per_group(manifests, recipe.most)
    if most is None:
        return RecipeData(artifacts, gaps)
    own = Artifacts(artifacts.root / "reproduce" / (f"{recipe.name}-quick" if quick else recipe.name))
    for manifest in manifests:
        part = Manifest(manifest.dataset, _first_of_each_group(manifest.usable, most))
        part.to_csv(own.manifest(manifest.dataset))
    return RecipeData(own, gaps)


def is_here(artifacts: Artifacts, dataset: str) -> bool:
    """Whether a dataset is on this machine: its manifest in the output folder, or its own folder."""
    if artifacts.manifest(dataset).exists():
        return True
    try:
        find_root(registry.get(dataset), None)
    except DataError:
        return False
    return True


def clips_per_group(manifests: Sequence[Manifest], most: int | None) -> int | None:
    """Return the limit of clips per dataset, speaker and label that leaves at most `most` clips, but at least 1.

    None means that there is no limit. Example: two groups of 5 and 2 clips and `most` 6 give the limit 4, which leaves
    4 + 2 clips.
    """
    counts = Counter((clip.dataset, clip.speaker, clip.label) for manifest in manifests for clip in manifest.usable)
    if most is None or sum(counts.values()) <= most:
        return None
    limit = 1
    while sum(min(limit + 1, size) for size in counts.values()) <= most:
        limit += 1
    return limit


def _refuse_absent(artifacts: Artifacts, recipe: Recipe) -> None:
    """Raise DataError if a dataset of the recipe is not on this machine. The message says how to get it."""
    absent = [name for name in recipe.datasets if not is_here(artifacts, name)]
    if not absent:
        return
    present = ",".join(name for name in recipe.datasets if name not in absent)
    part = f", or use --dataset {present} for a result that is not a reproduction" if present else ""
    raise DataError(
        f"{recipe.name} needs datasets that are not on this machine: {', '.join(absent)}. Get them as described "
        f"below{part}.",
        *(registry.get(name).how_to_get() for name in absent),
    )


def _gaps(manifest: Manifest) -> list[Gap]:
    """Return the clips that are absent, that cannot be used, and that are faulty as published."""
    spec = registry.find(manifest.dataset)
    gaps = []
    if spec and spec.n_clips and len(manifest) < spec.n_clips:
        gaps.append(Gap(f"{manifest.dataset}: {spec.n_clips - len(manifest)} of {spec.n_clips} clips", False))
    published = sum(clip.extra[SKIPPED].startswith(KNOWN_FAULT) for clip in manifest.skipped)
    if unusable := len(manifest.skipped) - published:
        gaps.append(Gap(f"{manifest.dataset}: {count(unusable, 'clip')} that cannot be used", False))
    if published:
        gaps.append(Gap(f"{manifest.dataset}: {count(published, 'clip')} faulty as published", True))
    return gaps


def _first_of_each_group(clips: Sequence[Clip], limit: int) -> tuple[Clip, ...]:
    """Return the first `limit` clips of each speaker and label, in their order."""
    taken: Counter[tuple[str, str]] = Counter()
    kept = []
    for clip in clips:
        taken[clip.speaker, clip.label] += 1
        if taken[clip.speaker, clip.label] <= limit:
            kept.append(clip)
    return tuple(kept)
