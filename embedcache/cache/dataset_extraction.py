"""The extraction of a whole dataset in one call: scan its folder, key its files, load the encoder, encode, save.

`ser extract`, `ser quickstart`, `ser demo` and `ser reproduce` all extract through this module.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..artifacts import Artifacts
from ..audio.augment import Augmentation, copies_of
from ..dataset import comparison_options, registry
from ..encoder import VIEWS, Encoder, Log, no_log, resolve_views
from ..encoders import load_encoder
from ..errors import SerError
from ..files.atomic import atomic_write
from ..manifest import SKIPPED, Clip, Manifest
from ..progress import Progress, silent
from .content_keys import keyed_manifest, refuse_clips_as_speakers
from .extract import Loop, Report, extract
from .ray_extract import on_cluster
from .store import EmbeddingStore


@dataclass(frozen=True)
class Extraction:
    """The result of extracting one dataset with one encoder."""

    manifest: Manifest
    report: Report
    encoder: str
    store: Path  # folder of the shards
    skipped: Path  # file that lists the skipped clips and copies; absent if there are none
    copies: tuple[Manifest, Report] | None  # augmented copies, if there are any
    notes: tuple[str, ...]  # what a person should know of the manifest, a sentence each

    @property
    def comparison(self) -> str:
        """The command that compares heads on the dataset."""
        return f"ser compare --dataset {self.manifest.dataset}{comparison_options(self.manifest)}"


def extract_dataset(
    artifacts: Artifacts,
    dataset: str,
    root: str | Path | None = None,
    encoder: str = "wav2vec2-base",
    device: str = "auto",
    precision: str = "fp32",
    views: Sequence[str] = VIEWS,
    *,
    skip_bad: bool = False,
    keep_known_faults: bool = False,
    speakers_are_clips: bool = False,
    channel: str = "",
    augmentation: Augmentation | None = None,
    cluster: str | None = None,
    progress: Progress = silent,
    log: Log = no_log,
) -> Extraction:
    """Scan a dataset's folder, encode every clip that the cache lacks, and save the manifest.

    `root` is the dataset's folder, by default `$SER_DATA/<dataset>` or `data/<dataset>`. With `augmentation`,
    augmented copies are encoded, too; with `cluster`, the address of a Ray cluster, encoding runs there. In a dataset
    of one's own, nearly as many speakers as clips are an error, unless `speakers_are_clips`. `channel` is the channel
    of all clips for which the dataset names none: `left`, `right`, `mix` or a number from 0. Raises DataError,
    AudioError or EncoderError before anything is encoded; SerError if the user interrupts.
    """
    spec = registry.get(dataset)
    loop = on_cluster(cluster, encoder, device, precision) if cluster is not None else None
    scanned = spec.manifest(root, keep_known_faults).with_channel(channel)
    refuse_clips_as_speakers(scanned, speakers_are_clips)  # before weights are downloaded; again when files are read
    here = device if loop is None else "cpu"  # on a cluster, only the encoder's facts are needed here
    loaded = load_encoder(encoder, here, precision, log=log, memory=artifacts.encoders)
    manifest = keyed_manifest(scanned, artifacts, progress, speakers_are_clips)
    before = _listed_before(artifacts, manifest)
    result = extract_manifest(artifacts, manifest, loaded, views, skip_bad, augmentation, progress, loop)
    return replace(result, notes=(*manifest.notes, *_notes(artifacts, result.manifest, before, spec.n_clips)))


def extract_manifest(
    artifacts: Artifacts,
    manifest: Manifest,
    encoder: Encoder,
    views: Sequence[str] = VIEWS,
    skip_bad: bool = False,
    augmentation: Augmentation | None = None,
    progress: Progress = silent,
    loop: Loop | None = None,
) -> Extraction:
    """Encode every clip of a keyed manifest that the cache lacks, and save the manifest. Raises as `extract` does."""
    store = EmbeddingStore.of(artifacts.cache, encoder.info)
    manifest, report = _encode(manifest, "clips", encoder, store, views, skip_bad, progress, loop)
    manifest.to_csv(artifacts.manifest(manifest.dataset))
    skipped = artifacts.skipped(manifest.dataset)
    _list_skipped(skipped, manifest.skipped)
    copies = None
    if augmentation:
        made = copies_of(manifest, augmentation)
        copies = _encode(made, "copies", encoder, store, views, skip_bad, progress, loop)
        copies[0].to_csv(artifacts.copies(manifest.dataset))
        _list_skipped(skipped, [*manifest.skipped, *copies[0].skipped])
    return Extraction(manifest, report, encoder.info.name, store.folder, skipped, copies, ())


def _list_skipped(path: Path, clips: Sequence[Clip]) -> None:
    """Write the file that lists skipped clips; remove it if there are none."""
    if not clips:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as file:
        rows = ((clip.clip_id, clip.path, clip.extra[SKIPPED]) for clip in clips)
        csv.writer(file).writerows([("clip_id", "path", "reason"), *rows])


def _encode(
    manifest: Manifest,
    noun: str,
    encoder: Encoder,
    store: EmbeddingStore,
    views: Sequence[str],
    skip_bad: bool,
    progress: Progress,
    loop: Loop | None,
) -> tuple[Manifest, Report]:
    """Call `extract`; after Ctrl-C, raise SerError with the number of stored clips."""
    try:
        return extract(manifest, encoder, store, views, skip_bad, progress, loop)
    except KeyboardInterrupt:
        keys = [clip.key for clip in manifest.usable]
        missing = set(store.missing(keys, resolve_views(views, encoder)))
        stored = f"{sum(key not in missing for key in keys)} of {len(manifest)} {noun} are stored"
        raise SerError(f"stopped: {stored}. Run the same command again to continue.") from None


def _listed_before(artifacts: Artifacts, manifest: Manifest) -> int:
    """Return the number of clips in the manifest that this extraction replaces; 0 without such a manifest."""
    path = artifacts.manifest(manifest.dataset)
    return len(Manifest.from_csv(path, check_speakers=False)) if path.exists() else 0


def _notes(artifacts: Artifacts, manifest: Manifest, before: int, published: int | None) -> list[str]:
    notes = []
    if before > len(manifest):
        path = artifacts.manifest(manifest.dataset)
        notes.append(
            f"{path} listed {before} clips before and lists {len(manifest)} now. Extract the whole folder to list all."
        )
    if published and len(manifest) != published:
        notes.append(f"{manifest.dataset} has {published} published clips; this folder has {len(manifest)}.")
    return notes


def peak_memory() -> float | None:
    """The largest memory of this process so far, in GB; None where the system does not measure it (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 << 30 if sys.platform == "darwin" else 1 << 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
