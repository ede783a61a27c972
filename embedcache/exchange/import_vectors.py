"""Import of vectors that another program computed, for the clips of a dataset here or for those that the file lists.

A file with clip ids gives vectors to the clips of a dataset that is extracted, or whose folder is named. A file with
labels and speakers may also be a dataset of its own, without recordings; its clips have keys made of their ids.

Imported vectors get a fingerprint of their own, so that they are never mixed with vectors that `ser extract` made. All
of a file is checked before anything is stored, and what is stored is removed if the import fails: all or nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..artifacts import Artifacts
from ..cache.content_keys import dataset_manifest
from ..cache.store import EmbeddingStore, find_stores, slug
from ..dataset import registry as datasets
from ..encoder import EncoderInfo, Vectors
from ..encoders import find as find_encoder
from ..errors import DataError, StoreError, complain
from ..manifest import COLUMNS, OWN, PARTITION, SKIPPED, Clip, Manifest, common_partition, with_common_labels
from ..progress import Progress, silent
from ..provenance import TrainedOn, parse_training_list, read_store_training_list, write_training_list
from ..text import count, examples, normal_name
from .matching import match_clips
from .vector_file import VectorFile, infinite_rows, open_vectors

BLOCK_BYTES = 32 << 20  # vectors that are held in memory at once
COMPARED = 64  # clips whose vectors are compared with those of fine-tuned encoders in the cache
# Largest difference of the vectors of one recording, as `_difference` measures it. Half precision rounds to 5e-4,
# and another batch or processor changes float32 by less than 1e-4.
SAME = 1e-3
MIN_RATINGS = 10  # clips from which more labels than half of the clips are probably ratings
IMPORT_RECIPE = 1  # recipe version of imported vectors; part of their fingerprint


@dataclass(frozen=True)
class ImportResult:
    """The result of an import."""

    manifest: Manifest  # the dataset
    clips: int  # clips that have vectors of the file now
    cached: int  # clips among them that had the same vectors before
    store: EmbeddingStore
    notes: tuple[str, ...]  # what a person should know, a sentence each


@dataclass(frozen=True)
class _Rows:
    """The clips that the rows of a file stand for."""

    manifest: Manifest
    clips: Sequence[Clip | None]  # for each row of the file its clip; None for a row that is left out
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> list[Clip]:
        """The clips of the rows that are imported."""
        return [clip for clip in self.clips if clip]


def import_vectors(
    path: str | Path,
    artifacts: Artifacts,
    encoder: str,
    dataset: str,
    root: str | Path | None = None,
    table: str | Path | None = None,
    speakers_are_clips: bool = False,
    progress: Progress = silent,
) -> ImportResult:
    """Store the vectors of a file under the encoder name `encoder`, for the clips of `dataset`.

    For a dataset that is extracted or published, the file has clip ids: those of the manifest, or paths or names of
    its files. Any other name makes the file a dataset of its own, for which it has labels and speakers. `table` is a
    table with one row for each vector, as `open_vectors` takes it.

    If the encoder was fine-tuned, the list of its training data is stored, too: the list in the file, or that of a
    fine-tuned encoder in the cache that gives the same vectors.

    Raises StoreError and DataError, before anything is stored: if the name is that of an encoder of `ser`, if the file
    cannot be read, if an id is unknown, if a vector is not finite, if clips with one recording have different vectors,
    and if a clip has other vectors under this name already.
    """
    _check_name(encoder, artifacts)
    file = open_vectors(path, table)
    rows = _rows_of(file, artifacts, dataset, root, speakers_are_clips, progress)
    trained_on = _trained_on(file, rows, artifacts)
    info = _imported_encoder(encoder, file, trained_on)
    _check_namesakes(info, artifacts)
    store = EmbeddingStore.of(artifacts.cache, info)
    missing = set(store.missing([clip.key for clip in rows.kept]))
    notes = _check_vectors(file, rows, store, missing, progress)
    shards: list[Path] = []
    try:
        _store_vectors(file, rows, store, missing, shards, progress)
        if trained_on:
            write_training_list(trained_on, store.folder)
        if rows.manifest.is_vectors_only:
            rows.manifest.to_csv(artifacts.manifest(dataset))
    except BaseException:
        for shard in shards:
            shard.unlink(missing_ok=True)
        raise
    cached = sum(clip.key not in missing for clip in rows.kept)
    notes += _without_vectors(rows.manifest, store)
    return ImportResult(rows.manifest, len(rows.kept), cached, store, (*file.notes, *rows.notes, *notes))


def _check_name(encoder: str, artifacts: Artifacts) -> None:
    """Raise StoreError if a name cannot be that of imported vectors."""
    if not encoder or slug(encoder) != encoder:
        proposal = f", such as {slug(encoder)}" if slug(encoder) else ""
        raise StoreError(
            f"got the encoder name '{encoder}'; wanted letters, digits, '-', '_' and '.'. Choose such a name{proposal}."
        )
    extracted = [store for store in find_stores(artifacts.cache) if store.info.name == encoder]
    if find_encoder(encoder.lower()) or any(not store.info.is_imported for store in extracted):
        raise StoreError(
            f"'{encoder}' is an encoder of ser, whose vectors `ser extract` makes; wanted another name for imported "
            f"vectors, such as --encoder my-{encoder}."
        )


def _check_namesakes(info: EncoderInfo, artifacts: Artifacts) -> None:
    """Raise StoreError if vectors of another kind were imported under the name of an encoder."""
    for store in find_stores(artifacts.cache):
        if store.info.name == info.name and store.info.fingerprint != info.fingerprint:
            raise StoreError(
                f"'{info.name}' has vectors of {store.info.n_layers} layers and {store.info.dim} numbers from another "
                "file; one name stands for one encoder. Choose another --encoder, or remove these vectors with "
                f"`ser cache rm {store.folder.name}`."
            )


def _without_vectors(manifest: Manifest, store: EmbeddingStore) -> list[str]:
    """Return a note if clips of the dataset have no vector in the store."""
    without = len(set(store.missing([clip.key for clip in manifest.usable], ["pooled"])))
    if not without:
        return []
    return [f"{count(without, 'clip')} of {manifest.dataset} have no vectors of it; comparisons leave them out."]


def _rows_of(
    file: VectorFile,
    artifacts: Artifacts,
    dataset: str,
    root: str | Path | None,
    speakers_are_clips: bool,
    progress: Progress,
) -> _Rows:
    """Return the clips of a file's rows. Raises StoreError or DataError if they are not plain."""
    is_known = root or datasets.find(dataset) or artifacts.manifest(dataset).exists() or dataset.startswith(OWN[:-1])
    if is_known:
        manifest = dataset_manifest(dataset, artifacts, root, progress)
        return _by_id(file, manifest) if file.ids else _by_order(file, manifest)
    return _Rows(*_described(file, dataset, speakers_are_clips))


def _by_id(file: VectorFile, manifest: Manifest) -> _Rows:
    """Return the clip of each id. Raises StoreError for ids that are unknown or listed twice."""
    ids = file.ids or ()
    found = match_clips(ids, manifest)
    if unknown := [f"{clip_id}: no clip of {manifest.dataset}" for clip_id in ids if clip_id not in found]:
        advice = f"Name them as the manifest does (such as {manifest.clips[0].clip_id}), or leave them out."
        raise StoreError(*complain(f"{file.path}: {len(unknown)} of {len(ids)} ids are unknown", unknown, advice))
    clips = [found[clip_id] for clip_id in ids]
    times = Counter(clip.clip_id for clip in clips)
    if twice := [f"{clip_id}: {n} rows" for clip_id, n in times.items() if n > 1]:
        raise StoreError(*complain(f"{file.path}: has clips more than once", twice, "Keep one row a clip."))
    return _with_notes(file, manifest, clips)


def _by_order(file: VectorFile, manifest: Manifest) -> _Rows:
    """Return the clips of a dataset without recordings in their order, if labels and speakers are those of the file."""
    clips = manifest.clips
    here = [tuple(map(normal_name, (clip.label, clip.speaker))) for clip in clips]
    there = [tuple(map(normal_name, pair)) for pair in zip(*_labels_and_speakers(file), strict=True)]
    if not manifest.is_vectors_only or here != there:
        raise StoreError(
            f"{file.path}: has no clip ids; wanted clip_id (n,) with ids of {manifest.dataset}, such as "
            f"{clips[0].clip_id}. Or make the file a dataset of its own: choose another name with --dataset."
        )
    note = (
        f"the file has no clip ids; its rows are taken in the order of {manifest.dataset}, whose labels and speakers "
    )
    return _Rows(manifest, clips, (f"{note}they have.",))


def _labels_and_speakers(file: VectorFile) -> tuple[Sequence[str], Sequence[str]]:
    return file.columns.get("label", ()), file.columns.get("speaker", ())


def _with_notes(file: VectorFile, manifest: Manifest, clips: Sequence[Clip]) -> _Rows:
    """Return the clips without those that are left out of the dataset, and notes on what differs from the manifest."""
    skipped = [clip.clip_id for clip in clips if SKIPPED in clip.extra]
    kept = [None if SKIPPED in clip.extra else clip for clip in clips]
    notes = [f"{examples(skipped)}: left out of {manifest.dataset}, and so of the import."] if skipped else []
    for column, texts in zip(("label", "speaker"), _labels_and_speakers(file), strict=True):
        pairs = zip(clips, texts, strict=False)
        other = [f"{c.clip_id} ({t})" for c, t in pairs if normal_name(t) != normal_name(getattr(c, column))]
        if other:
            notes.append(
                f"the file has another {column} than the manifest for {count(len(other), 'clip')}: {examples(other)}. "
                "That of the manifest is used."
            )
    return _Rows(manifest, kept, tuple(notes))


def _described(
    file: VectorFile, dataset: str, speakers_are_clips: bool
) -> tuple[Manifest, list[Clip], tuple[str, ...]]:
    """Return the dataset that a file describes. Raises DataError if labels or speakers are missing."""
    if slug(dataset) != dataset:
        raise DataError(f"got the dataset name '{dataset}'; wanted letters, digits, '-', '_' and '.'. Choose another.")
    if lacking := [column for column in ("label", "speaker") if column not in file.columns]:
        raise DataError(
            f"{file.path}: has no {' and no '.join(lacking)} (n,), which a dataset of its own needs, and "
            f"'{dataset}' is not extracted. Add them, or name the dataset of its clips with --dataset and --root."
        )
    origin = _digest(file)
    clips, notes = with_common_labels([_described_clip(file, dataset, origin, row) for row in range(file.n_clips)])
    labels = {clip.label for clip in clips}
    if len(clips) >= MIN_RATINGS and len(labels) > len(clips) / 2:
        raise DataError(
            f"{file.path}: has {len(labels)} labels for {len(clips)} clips, such as '{clips[0].label}'; wanted "
            "classes. Are these ratings? Replace them by classes."
        )
    manifest = Manifest(dataset, tuple(clips)).check()
    if not speakers_are_clips and (doubt := manifest.doubt_about_speakers()):
        raise DataError(
            doubt,
            "If not, correct the column `speaker`. If each clip is of another person, add the option "
            "--speakers-are-clips.",
        )
    return manifest, clips, (f"'{dataset}' is a new dataset, of the labels and speakers in the file.", *notes)


def _digest(file: VectorFile) -> str:
    """Return the SHA-256 of a file's columns and vectors, so that another dataset of the same name has other keys."""
    digest = hashlib.sha256(repr(sorted(file.columns.items())).encode())
    for block in file.blocks(max(1, BLOCK_BYTES // (4 * file.dim * file.n_layers))):
        digest.update(np.ascontiguousarray(block["layers"]).tobytes())
    return digest.hexdigest()


def _described_clip(file: VectorFile, dataset: str, origin: str, row: int) -> Clip:
    cells = {name: texts[row] for name, texts in file.columns.items() if texts[row]}
    clip_id = file.ids[row] if file.ids else f"row-{row + 1:06d}"
    extra = {name: value for name, value in cells.items() if name not in COLUMNS}
    extra |= {"file": cells["path"]} if "path" in cells else {}
    extra |= {PARTITION: common_partition(cells[PARTITION])} if PARTITION in cells else {}
    key = hashlib.sha256(f"vectors of {dataset}, {origin}\n{clip_id}".encode()).hexdigest()
    label, speaker = cells.get("label", ""), cells.get("speaker", "")
    return Clip(dataset, clip_id, "", label, speaker, cells.get("gender", ""), extra, key)


def _trained_on(file: VectorFile, rows: _Rows, artifacts: Artifacts) -> TrainedOn | None:
    """Return the training list of a file's encoder; None if it was not fine-tuned, as far as can be told.

    Raises StoreError if the list is lost.
    """
    if file.encoder and file.encoder.trained_on:
        return parse_training_list(file.trained_on, file.encoder.trained_on, file.path)
    first = next(file.blocks(min(COMPARED, file.n_clips)))
    keys = [clip.key if clip else "" for clip in rows.clips[: len(first["layers"])]]
    for store in find_stores(artifacts.cache):
        if store.info.trained_on and any(_equal_in(store, view, keys, vectors) for view, vectors in first.items()):
            return read_store_training_list(store.info, store.folder)
    return None


def _equal_in(store: EmbeddingStore, view: str, keys: Sequence[str], vectors: Vectors) -> bool:
    """Whether a store has some of the keys (n,), with these vectors (n, …) of the view."""
    missing = {"", *store.missing(keys, [view])}
    places = [place for place, key in enumerate(keys) if key not in missing]
    if not places:
        return False
    stored = store.rows([keys[place] for place in places], view)
    found = vectors[places]
    return isinstance(stored, np.ndarray) and stored.shape == found.shape and _difference(stored, found) <= SAME


def _imported_encoder(name: str, file: VectorFile, trained_on: TrainedOn | None) -> EncoderInfo:
    sha256 = trained_on.sha256 if trained_on else ""
    origin = f" from {file.encoder.fingerprint}" if file.encoder else ""
    return EncoderInfo(
        name=name,
        checkpoint="",
        weights_sha256="",
        sample_rate=0,
        n_layers=file.n_layers,
        dim=file.dim,
        precision="fp32",
        preprocessing=f"imported as {name}{origin}" + (f", trained on {sha256}" if sha256 else ""),
        recipe_version=IMPORT_RECIPE,
        trained_on=sha256,
    )


def _blocks(
    file: VectorFile, rows: _Rows, progress: Progress, verb: str
) -> Iterator[tuple[list[Clip], dict[str, Vectors]]]:
    """Yield the clips that are imported and their vectors, a block at a time."""
    step = max(1, BLOCK_BYTES // (4 * file.dim * (file.n_layers + 1)))
    with progress(verb, total=file.n_clips, unit="clips") as advance:
        for number, block in enumerate(file.blocks(step)):
            clips = rows.clips[number * step : (number + 1) * step]
            kept = [row for row, clip in enumerate(clips) if clip]
            yield [clip for clip in clips if clip], {view: vectors[kept] for view, vectors in block.items()}
            advance(len(clips))


@dataclass
class _Findings:
    """What is found while vectors are checked."""

    not_finite: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    alike: int = 0  # clips that share a recording with an earlier clip, and have nearly its vectors
    largest: float = 0.0  # largest difference of these vectors


def _check_vectors(
    file: VectorFile, rows: _Rows, store: EmbeddingStore, missing: set[str], progress: Progress
) -> list[str]:
    """Return a note if clips with one recording have vectors that differ a little.

    Raises StoreError if a vector is not finite, if clips with one recording have different vectors, or if a clip has
    other vectors in the store.
    """
    found = _Findings()
    times = Counter(clip.key for clip in rows.kept)
    first: dict[str, tuple[Clip, Vectors]] = {}  # of the keys that several rows have
    for clips, block in _blocks(file, rows, progress, "checking"):
        _note_infinite(clips, block["layers"], found)
        _compare_stored(clips, block["layers"], store, missing, found)
        for clip, vectors in zip(clips, block["layers"], strict=True):
            if times[clip.key] > 1:
                _compare_first(*first.setdefault(clip.key, (clip, vectors)), clip, vectors, found)
    if found.not_finite:
        n = count(len(found.not_finite), "vector")
        summary = f"{file.path}: {n} with NaN, infinity or numbers too large for float32"
        raise StoreError(*complain(summary, found.not_finite, "Leave these clips out, or compute them again."))
    if found.differing:
        advice = "One name stands for one encoder: choose another --encoder, or remove the stored vectors with "
        advice += f"`ser cache rm {store.folder.name}`."
        raise StoreError(*complain(f"{file.path}: one recording has several vectors", found.differing, advice))
    alike = f"{count(found.alike, 'clip')} are the recording of another clip, and their vectors differ by at most "
    return [f"{alike}{found.largest:.1e}; those of the first are stored."] if found.largest else []


def _note_infinite(clips: Sequence[Clip], layers: Vectors, found: _Findings) -> None:
    found.not_finite += [clips[row].clip_id for row in infinite_rows(layers)]


def _compare_stored(
    clips: Sequence[Clip], layers: Vectors, store: EmbeddingStore, missing: set[str], found: _Findings
) -> None:
    rows = [row for row, clip in enumerate(clips) if clip.key not in missing]
    if not rows:
        return
    for row, vectors in zip(rows, store.read([clips[row].key for row in rows], "layers"), strict=True):
        if not (difference := _difference(vectors, layers[row])) <= SAME:
            found.differing.append(f"{clips[row].clip_id}: differs from what is stored by {difference:.1e}")


def _compare_first(one: Clip, vectors: Vectors, clip: Clip, others: Vectors, found: _Findings) -> None:
    if clip is one:
        return
    difference = _difference(vectors, others)
    if not difference <= SAME:
        found.differing.append(
            f"{one.clip_id} and {clip.clip_id}: one recording, but vectors differ by {difference:.1e}"
        )
    found.alike += 1
    found.largest = max(found.largest, difference)


def _difference(a: Vectors, b: Vectors) -> float:
    """Return the largest difference of two numbers at one place, relative to the larger of them plus a usual number.

    The usual number is the median, so a vector with one large number does not hide differences of the others.
    """
    usual = float(np.median(np.abs(a))) or float(np.abs(a).max()) or 1.0
    return float((np.abs(a - b) / (np.maximum(np.abs(a), np.abs(b)) + usual)).max())


def _store_vectors(
    file: VectorFile, rows: _Rows, store: EmbeddingStore, missing: set[str], shards: list[Path], progress: Progress
) -> None:
    """Store the vectors of the missing keys, of each key once, and add the paths of their shards to `shards`."""
    waiting = set(missing)
    for clips, block in _blocks(file, rows, progress, "importing"):
        new = _first_rows(clips, waiting)
        waiting -= set(new)
        if new:
            numbers = list(new.values())
            shards.append(store.write(list(new), {view: vectors[numbers] for view, vectors in block.items()}))


def _first_rows(clips: Sequence[Clip], wanted: set[str]) -> dict[str, int]:
    """Return the first row of each wanted key: of clips with the keys a, b, b, c and without a, {"b": 1, "c": 3}."""
    first: dict[str, int] = {}
    for row, clip in enumerate(clips):
        if clip.key in wanted:
            first.setdefault(clip.key, row)
    return first
