"""The loop: manifest -> what is missing -> waveforms -> encoder -> shards.

Memory does not grow with the number of clips: rows are held until a shard is due, and a shard is due when it is large
enough or when losing it to a kill would hurt. Whatever ends the loop, rows that were encoded are committed first.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from .audio import Recording, Waveform
from .encoder import VIEWS, Batch, Encoder, Vectors
from .errors import AudioError, EncoderError, complain
from .manifest import SKIPPED, Clip, Manifest
from .progress import Progress, silent
from .store import EmbeddingStore

SHARD_BYTES = 64 << 20
# A kill costs at most this many seconds of work, or this share of the run so far: long runs make fewer, larger shards.
LOSS_SECONDS, LOSS_SHARE = 5.0, 0.02
BATCH_SECONDS = 60.0  # of audio in one call of the encoder


@dataclass(frozen=True)
class Report:
    """What one extraction did."""

    clips: int  # with a vector, after it
    encoded: int  # distinct recordings, by this run
    cached: int  # clips whose vector was stored before; the rest are copies of encoded ones
    audio_seconds: float  # encoded
    wall_seconds: float
    skipped: tuple[Clip, ...] = ()


@dataclass
class _Shelf:
    """Rows that wait for their shard."""

    store: EmbeddingStore
    keys: list[str] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)

    def add(self, keys: Sequence[str], batch: Batch) -> None:
        self.keys += keys
        self.batches.append(batch)
        held = sum(rows.nbytes for batch in self.batches for rows in batch.values())
        now = time.monotonic()
        if held >= SHARD_BYTES or now - self.last >= max(LOSS_SECONDS, LOSS_SHARE * (now - self.begun)):
            self.commit()

    def commit(self) -> None:
        if self.keys:
            rows = {view: np.concatenate([batch[view] for batch in self.batches]) for view in self.batches[0]}
            self.store.write(self.keys, rows)
        self.keys, self.batches, self.last = [], [], time.monotonic()


def extract(
    manifest: Manifest,
    encoder: Encoder,
    store: EmbeddingStore,
    views: Sequence[str] = VIEWS,
    skip_bad: bool = False,
    progress: Progress = silent,
) -> tuple[Manifest, Report]:
    """Encode every clip of a keyed manifest (see `add_keys`) that the store lacks.

    Gives the manifest, in which clips that were skipped say why, and a report. Raises AudioError, before anything is
    encoded, where a clip cannot be read or is too short or too long for the encoder, unless `skip_bad`.
    """
    begin = time.monotonic()
    manifest = _set_aside(manifest, encoder, skip_bad)
    usable = manifest.usable
    wanted = set(store.missing([clip.key for clip in usable], views))
    todo = list({clip.key: clip for clip in usable if clip.key in wanted}.values())
    seconds = sum(clip.seconds for clip in todo)
    shelf = _Shelf(store)
    if todo:
        with progress("encoding", total=seconds, unit="s of audio") as advance:
            try:
                for clips, waves in _batches(todo, encoder.info.sample_rate):
                    batch = encoder.encode(waves, views)
                    _refuse_nan(clips, batch)
                    shelf.add([clip.key for clip in clips], batch)
                    _trim()
                    advance(sum(clip.seconds for clip in clips))
            finally:
                shelf.commit()
    cached = sum(clip.key not in wanted for clip in usable)
    return manifest, Report(len(usable), len(todo), cached, seconds, time.monotonic() - begin, manifest.skipped)


def encode_files(encoder: Encoder, recordings: Sequence[Recording], view: str) -> Vectors:
    """Vectors of files that are in no store: (n, …) of one view. Raises AudioError as `extract` does."""
    rate = encoder.info.sample_rate
    waves = [recording.waveform(rate) for recording in recordings]
    faults = [_fault(str(r.path), len(wave) / rate, encoder) for r, wave in zip(recordings, waves, strict=True)]
    if complaints := [fault for fault in faults if fault]:
        raise AudioError("\n".join(complaints))
    batch = encoder.encode(waves, [view])
    _refuse_nan([Clip("", str(r.path), str(r.path), "", "") for r in recordings], batch)
    return batch[view]


def _set_aside(manifest: Manifest, encoder: Encoder, skip_bad: bool) -> Manifest:
    """The manifest with a reason at each clip that this encoder cannot take; or AudioError with all of them."""
    clips = []
    for clip in manifest.clips:
        fault = clip.extra.get(SKIPPED) or _fault(clip.path, clip.seconds, encoder)
        clips.append(replace(clip, extra={**clip.extra, SKIPPED: fault}) if fault else clip)
    checked = Manifest(manifest.dataset, tuple(clips))
    faults = [clip.extra[SKIPPED] for clip in checked.skipped]
    if faults and (not skip_bad or not checked.usable):
        what = f"{len(faults)} of {len(clips)} clips of {manifest.dataset} cannot be used"
        raise AudioError(complain(what, faults, "Mend or remove them, or leave them out with --skip-bad."))
    return checked


def _fault(path: str, seconds: float, encoder: Encoder) -> str:
    if seconds < encoder.shortest:
        return (
            f"{path}: lasts {seconds * 1000:.0f} ms, {encoder.info.name} needs {encoder.shortest * 1000:.0f} ms for "
            "one frame. Remove it, or record it again."
        )
    if seconds > encoder.longest:
        return (
            f"{path}: lasts {seconds:.0f} s, {encoder.info.name} takes clips of up to {encoder.longest:.0f} s. "
            "Cut it into utterances."
        )
    return ""


def _batches(clips: Sequence[Clip], rate: int) -> Iterator[tuple[list[Clip], list[Waveform]]]:
    """Clips and waveforms in groups of up to BATCH_SECONDS; one group is decoded while another is encoded."""
    groups: list[list[Clip]] = [[]]
    held = 0.0
    for clip in clips:
        if groups[-1] and held + clip.seconds > BATCH_SECONDS:
            groups.append([])
            held = 0.0
        groups[-1].append(clip)
        held += clip.seconds
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = pool.submit(_decode, groups[0], rate)
        for group, following in zip(groups, [*groups[1:], []], strict=True):
            waves = ahead.result()
            ahead = pool.submit(_decode, following, rate)
            yield group, waves


def _decode(clips: Sequence[Clip], rate: int) -> list[Waveform]:
    return [_waveform(clip, rate) for clip in clips]


def _waveform(clip: Clip, rate: int) -> Waveform:
    """The waveform that the clip's key belongs to: a file that changed since must not be stored under it."""
    recording = Recording.load(clip.path)
    if recording.key != clip.key:
        raise AudioError(f"{clip.path}: changed while it was being extracted. Run again once it is complete.")
    return recording.waveform(rate)


def _trim() -> None:
    """Give freed memory back to the system where the C library is glibc.

    Every clip length leaves buffers of its own size in glibc's heaps: on 1440 clips of RAVDESS, 1.5 GB of them.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)


def _refuse_nan(clips: Sequence[Clip], batch: Batch) -> None:
    for rows in batch.values():
        for clip, row in zip(clips, rows, strict=True):
            if not np.isfinite(row).all():
                raise EncoderError(
                    f"{clip.path}: its vector is not finite. Leave the clip out, or check the checkpoint."
                )
