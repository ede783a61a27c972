"""The extraction loop: from a manifest to shards with the embeddings that the store lacks.

Clips are sorted by duration and grouped into packs of up to `encoder.pack` seconds of audio, the longest clips first,
so that clips of similar duration are encoded together. Three stages run at the same time: decoding in threads,
encoding, and writing in a thread.

Memory does not grow with the number of clips. It holds the packs that are being encoded, PACKS_AHEAD decoded packs
(64 kB for a second of audio at 16 kHz), the rows of one shard that is being written and the rows collected for the next
shard. A shard is written when it is large enough or when losing its rows to a kill would cost too much work. If the
loop ends early, for whatever reason, the rows that the encoder has returned are committed first.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..audio.augment import transformed
from ..audio.clip_recordings import forget_files, recording_of
from ..audio.decode import Waveform
from ..encoder import VIEWS, Batch, Encoder, EncoderInfo, count_samples, describe_length, join, resolve_views
from ..encoders import folder_of
from ..errors import AudioError, EncoderError, SerError, StoreError, complain
from ..manifest import COPY_OF, KNOWN_FAULT, SKIPPED, Clip, Manifest
from ..progress import Advance, Progress, silent
from ..provenance import LIST, read_checkpoint_training_list, write_training_list
from ..text import one_line
from .store import EmbeddingStore, find_stores

SHARD_BYTES = 64 << 20  # rows of this size are written as a shard
# A kill costs at most this many seconds of work, or this share of the run so far: long runs make fewer, larger shards.
LOSS_SECONDS, LOSS_SHARE = 5.0, 0.02
PACKS_AHEAD = 2  # packs that are decoded before the encoder needs them
MAX_DECODERS = 8  # threads that decode, unless the caller sets their number

Item = TypeVar("Item")
# Encodes clips, stores the given views and reports the seconds of audio that are done.
Loop = Callable[[Sequence[Clip], Encoder, Sequence[str], EmbeddingStore, Advance], None]


@dataclass(frozen=True)
class Report:
    """The result of one extraction."""

    clips: int  # clips that have a vector after the extraction
    encoded: int  # distinct recordings that this extraction encoded
    cached: int  # clips whose vector was stored before; the remaining clips are copies of encoded ones
    audio_seconds: float  # duration of the encoded recordings, in seconds
    wall_seconds: float  # wall time of the extraction, in seconds
    skipped: tuple[Clip, ...] = ()  # clips without a vector; `extra["skipped"]` holds the reason


def extract(
    manifest: Manifest,
    encoder: Encoder,
    store: EmbeddingStore,
    views: Sequence[str] = VIEWS,
    skip_bad: bool = False,
    progress: Progress = silent,
    loop: Loop | None = None,
) -> tuple[Manifest, Report]:
    """Encode every clip of a keyed manifest (see `add_keys`) whose views the store lacks.

    The clips are encoded in this process, or by `loop`. Returns the manifest, in which each skipped clip holds the
    reason, and a report. Raises AudioError if a clip cannot be read or is too short or too long for the encoder, unless
    `skip_bad`: before anything is encoded, except for a file that fails when it is read again. Raises EncoderError for
    a view that the encoder does not provide, and if a vector is not finite.
    """
    begin = time.monotonic()
    names = resolve_views(views, encoder)
    manifest = _mark_unusable(manifest, encoder, skip_bad)
    first = work = _MissingRows.of(manifest.usable, names, store)
    _store_provenance(encoder.info, store.folder)  # before the first shard, so that no shard is ever without it
    while work.clips and (error := _encode_missing(work, encoder, store, progress, loop)):
        if not skip_bad:
            raise error
        manifest = _mark_unusable(_mark_failed(manifest, error), encoder, skip_bad)
        work = _MissingRows.of(manifest.usable, names, store)
    done = first.without({clip.key for clip in first.clips} - {clip.key for clip in manifest.usable})
    wall = time.monotonic() - begin
    report = Report(len(manifest.usable), len(done.clips), done.cached, done.seconds, wall, manifest.skipped)
    return manifest, report


def _encode_missing(
    work: _MissingRows, encoder: Encoder, store: EmbeddingStore, progress: Progress, loop: Loop | None
) -> AudioError | None:
    """Encode and store rows. If a clip fails, the rows before it are stored, and the error is returned."""
    try:
        with progress("encoding", total=work.seconds, unit="s of audio") as advance:
            (loop or _extract_here)(work.clips, encoder, work.views, store, advance)
    except AudioError as error:
        if error.key:
            return error
        raise
    finally:
        forget_files()
    return None


def _mark_failed(manifest: Manifest, error: AudioError) -> Manifest:
    """Return the manifest with the error at the clips that failed while they were encoded.

    Their key is removed, so that a later extraction tries them again, as it does with files that cannot be read.
    """

    def mark(clip: Clip) -> Clip:
        failed = clip.key == error.key
        return replace(clip, key="", extra={**clip.extra, SKIPPED: str(error)}) if failed else clip

    return Manifest(manifest.dataset, tuple(map(mark, manifest.clips)))


def _mark_unusable(manifest: Manifest, encoder: Encoder, skip_bad: bool) -> Manifest:
    """Return the manifest with a reason at each clip that the encoder cannot take.

    Raises AudioError with all reasons if there are any, unless `skip_bad`, and if no clip is usable. The known faults
    of a dataset are reasons to leave a clip out, but no error.
    """
    limits = encoder.info.name, encoder.info.sample_rate, encoder.shortest, encoder.longest
    clips = []
    for clip in manifest.clips:
        fault = clip.extra.get(SKIPPED) or too_short_or_long(one_line(clip.place), clip.seconds, *limits)
        clips.append(replace(clip, extra={**clip.extra, SKIPPED: fault}) if fault else clip)
    checked = Manifest(manifest.dataset, tuple(clips))
    faults = [clip.extra[SKIPPED] for clip in checked.skipped if not clip.extra[SKIPPED].startswith(KNOWN_FAULT)]
    if (faults and not skip_bad) or not checked.usable:
        summary = f"{len(faults)} of {len(clips)} clips of {manifest.dataset} cannot be used"
        raise AudioError(*complain(summary, faults, "Repair or remove them, or leave them out with --skip-bad."))
    return checked


def too_short_or_long(
    path: str,
    seconds: float,
    name: str,
    rate: int,
    shortest: float,
    longest: float,
    advice: str = "Cut it into utterances.",
) -> str:
    """Return why a clip of this duration is too short or too long for a model, and what to do; "" if it fits.

    `name` is the name of the encoder or model, and `rate` the sample rate of its waveforms; `shortest` and `longest`
    are its limits in seconds. `advice` says what to do with a clip that is too long.
    """
    samples, needed = count_samples(seconds, rate), count_samples(shortest, rate)
    if samples < needed:
        limit = f"{name} needs at least {needed}. Remove it, or record it again."
        return f"{path}: has {describe_length(samples, rate)}; {limit}"
    if seconds > longest:
        return f"{path}: lasts {seconds:.0f} s, {name} takes clips of up to {longest:.0f} s. {advice}"
    return ""


@dataclass(frozen=True)
class _MissingRows:
    """The clips and views that a store lacks."""

    clips: list[Clip]  # one clip for each distinct recording
    views: list[str]  # views that at least one of these clips lacks
    cached: int  # usable clips that lack no view

    @property
    def seconds(self) -> float:
        """The duration of the clips, in seconds."""
        return sum(clip.seconds for clip in self.clips)

    def without(self, keys: set[str]) -> _MissingRows:
        """Return the rows without those of some clips."""
        return replace(self, clips=[clip for clip in self.clips if clip.key not in keys])

    @classmethod
    def of(cls, usable: Sequence[Clip], views: Sequence[str], store: EmbeddingStore) -> _MissingRows:
        """Look up every clip and view in the store."""
        keys = [clip.key for clip in usable]
        missing = {view: store.missing(keys, [view]) for view in views}
        incomplete = {key for lacking in missing.values() for key in lacking}
        distinct = {clip.key: clip for clip in usable if clip.key in incomplete}
        cached = sum(clip.key not in incomplete for clip in usable)
        return cls(list(distinct.values()), [view for view in views if missing[view]], cached)


def _store_provenance(info: EncoderInfo, folder: Path) -> None:
    """Write the training list of a fine-tuned encoder to its store.

    Raises EncoderError if the list is missing, although this checkpoint, or another of equal tensors, was fine-tuned.
    """
    _refuse_disguised(info, folder.parent)
    if info.trained_on and not (folder / LIST).exists():
        trained_on = read_checkpoint_training_list(folder_of(info.checkpoint), info.trained_on)
        if trained_on:
            write_training_list(trained_on, folder)


def _refuse_disguised(info: EncoderInfo, cache: Path) -> None:
    """Raise EncoderError if a checkpoint without a training list has the tensors of a fine-tuned one in the cache."""
    if info.trained_on or not info.tensors_sha256:
        return
    for store in find_stores(cache):
        other = store.info
        if other.trained_on and other.tensors_sha256 == info.tensors_sha256:
            raise EncoderError(
                f"{info.name}: has the weights of the fine-tuned checkpoint {other.name} ({other.checkpoint}), but not "
                "the list of its training clips. Use that checkpoint, or copy it again, whole."
            )


def _extract_here(
    clips: Sequence[Clip], encoder: Encoder, views: Sequence[str], store: EmbeddingStore, advance: Advance
) -> None:
    """Run the extraction loop in this process."""
    with _ShardBuffer(store) as buffer, closing(encode_packs(clips, encoder, views)) as batches:
        for pack, batch in batches:
            buffer.add([clip.key for clip in pack], batch)
            advance(sum(clip.seconds for clip in pack))


def encode_packs(
    clips: Sequence[Clip], encoder: Encoder, views: Sequence[str], threads: int | None = None
) -> Generator[tuple[list[Clip], Batch]]:
    """Yield packs of clips with their rows, in order.

    `threads` is the number of threads that decode, and the largest number of threads that encode. By default up to
    MAX_DECODERS threads decode, and `encoder.lanes` threads encode. A single lane encodes in the caller's own thread,
    because in any other thread the C library returns large buffers to the system after each use.
    """
    lanes = min(encoder.lanes, threads or encoder.lanes)
    decoders = ThreadPoolExecutor(threads or min(MAX_DECODERS, os.cpu_count() or 1))
    encoders = ThreadPoolExecutor(lanes)
    decoded = _prefetch(_decode_packs(clips, encoder, decoders), PACKS_AHEAD)
    try:
        if lanes == 1:
            for pack, waves in decoded:
                yield pack, _encode(encoder, pack, waves, views)
        else:
            batches = ((pack, encoders.submit(_encode, encoder, pack, waves, views)) for pack, waves in decoded)
            for pack, batch in _prefetch(batches, lanes):
                yield pack, batch.result()
    finally:
        for pool in (encoders, decoders):
            pool.shutdown(cancel_futures=True)


def _decode_packs(
    clips: Sequence[Clip], encoder: Encoder, decoders: ThreadPoolExecutor
) -> Iterator[tuple[list[Clip], list[Future[Waveform]]]]:
    """Yield packs of clips, and start to decode each pack when it is taken."""
    for pack in packs(clips, encoder.pack):
        yield pack, [decoders.submit(_waveform, clip, encoder.info.sample_rate) for clip in pack]


def packs(clips: Sequence[Clip], seconds: float) -> Iterator[list[Clip]]:
    """Yield packs of clips of up to `seconds` together, the longest clips first; a longer clip is a pack of its own.

    For example, clips of 1, 9, 2 and 3 seconds make packs of 9, 3 and 2 + 1 seconds if `seconds` is 4. Spans of one
    file follow each other, so that the file is decoded once.
    """
    pack: list[Clip] = []
    total = 0.0
    for clip in sorted(clips, key=lambda clip: (clip.path if clip.span else "", -clip.seconds)):
        if pack and total + clip.seconds > seconds:
            yield pack
            pack, total = [], 0.0
        pack.append(clip)
        total += clip.seconds
    if pack:
        yield pack


def _prefetch(items: Iterator[Item], count: int) -> Iterator[Item]:
    """Yield the items in order, but take up to `count` items from the iterator before they are needed."""
    taken: deque[Item] = deque()
    for item in items:
        taken.append(item)
        if len(taken) > count:
            yield taken.popleft()
    yield from taken


def _waveform(clip: Clip, rate: int) -> Waveform:
    """Return the waveform of a clip at `rate` Hz.

    Raises AudioError with the clip's key if the file cannot be decoded, or no longer has this key.
    """
    try:
        recording = recording_of(clip)
        if recording.key != clip.extra.get(COPY_OF, clip.key):
            raise AudioError(f"{clip.path}: changed during the extraction. Run again when the file is complete.")
        wave = recording.waveform(rate)
    except AudioError as error:
        error.key = clip.key
        raise
    return transformed(wave, rate, clip) if COPY_OF in clip.extra else wave


def _encode(encoder: Encoder, clips: Sequence[Clip], waves: Sequence[Future[Waveform]], views: Sequence[str]) -> Batch:
    batch = encoder.encode([wave.result() for wave in waves], views)
    refuse_nan([clip.place for clip in clips], batch)
    return batch


def refuse_nan(paths: Sequence[str], batch: Batch) -> None:
    """Raise EncoderError with the path of the clip if a row of the batch is not finite."""
    for view, rows in batch.items():
        for path, row in zip(paths, rows, strict=True):
            if not np.isfinite(row).all():
                advice = ["leave the clip out", "check the checkpoint"]
                if row.dtype == np.float16:
                    advice.insert(0, "leave this view out, because float16 ends at 65504")
                raise EncoderError(f"{path}: the vector is not finite ('{view}'). Either {', or '.join(advice)}.")


@dataclass
class _ShardBuffer:
    """Rows that wait for their shard. One shard is written in a thread while the rows of the next are collected."""

    store: EmbeddingStore
    keys: list[str] = field(default_factory=list)  # content keys of the rows that wait
    batches: list[Batch] = field(default_factory=list)  # these rows
    started: float = field(default_factory=time.monotonic)  # start of the run, in seconds
    committed: float = field(default_factory=time.monotonic)  # last commit, in seconds
    writer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    writing: Future[None] | None = None  # the shard that is being written

    def add(self, keys: Sequence[str], batch: Batch) -> None:
        """Add rows, and commit if the shard is large enough or losing it would cost too much work."""
        self.keys += keys
        self.batches.append(batch)
        if self.writing and self.writing.done():
            self._wait()  # raises the error of a full disk now and not with the next shard
        nbytes = sum(rows.nbytes for batch in self.batches for rows in batch.values())
        now = time.monotonic()
        allowed = max(LOSS_SECONDS, LOSS_SHARE * (now - self.started))
        if nbytes >= SHARD_BYTES or now - self.committed >= allowed:
            self.commit()

    def commit(self) -> None:
        """Wait for the shard before, then start to write the rows that wait. Raises the error of the shard before."""
        self._wait()
        if self.keys:
            self.writing = self.writer.submit(_write_batches, self.store, self.keys, self.batches)
        self.keys, self.batches, self.committed = [], [], time.monotonic()

    def __enter__(self) -> _ShardBuffer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Commit the rows that wait. If the loop was ended by an error, a failed commit does not hide that error."""
        try:
            self.commit()
            self._wait()
        except StoreError as failed_commit:
            if error is None:
                raise
            if isinstance(error, SerError):
                raise type(error)(*error.args, *failed_commit.args) from failed_commit
        finally:
            self.writer.shutdown()

    def _wait(self) -> None:
        writing, self.writing = self.writing, None
        if writing:
            writing.result()


def _write_batches(store: EmbeddingStore, keys: Sequence[str], batches: Sequence[Batch]) -> None:
    store.write(keys, {view: join([batch[view] for batch in batches]) for view in batches[0]})
