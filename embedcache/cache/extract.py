"""The loop: manifest -> what is missing -> packs of waveforms -> encoder -> shards.

Three stages overlap: decoding in threads, encoding, and writing in a thread. A pack is as many clips as last for
`encoder.pack` seconds together, the longest first, so that a clip lies among its likes.

Memory does not grow with the number of clips. At once there are AHEAD packs of waveforms besides those being encoded
(64 kB a second of audio at 16 kHz), the rows of a shard that is being written, and those that wait for the next, which
is due when it is large enough or when losing it to a kill would hurt. Whatever ends the loop, rows that came back from
the encoder are committed first.
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
from ..audio.decode import Recording, Waveform
from ..encoder import VIEWS, Batch, Encoder, EncoderInfo, join, resolve_views
from ..encoders import folder_of
from ..errors import AudioError, EncoderError, SerError, StoreError, complain
from ..manifest import COPY_OF, KNOWN_FAULT, SKIPPED, Clip, Manifest
from ..progress import Advance, Progress, silent
from ..provenance import LIST, lay, of_checkpoint
from .store import EmbeddingStore

SHARD_BYTES = 64 << 20
# A kill costs at most this many seconds of work, or this share of the run so far: long runs make fewer, larger shards.
LOSS_SECONDS, LOSS_SHARE = 5.0, 0.02
AHEAD = 2  # packs that are decoded before their turn

Item = TypeVar("Item")
Loop = Callable[[Sequence[Clip], Encoder, Sequence[str], EmbeddingStore, Advance], None]  # encode, store, tell seconds


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
    """Rows that wait for their shard. One shard is written, in a thread, while the next one's rows gather."""

    store: EmbeddingStore
    keys: list[str] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)
    writer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    writing: Future[None] | None = None

    def add(self, keys: Sequence[str], batch: Batch) -> None:
        self.keys += keys
        self.batches.append(batch)
        if self.writing and self.writing.done():
            self._wait()  # a full disk is heard of now, not with the next shard
        held = sum(rows.nbytes for batch in self.batches for rows in batch.values())
        now = time.monotonic()
        if held >= SHARD_BYTES or now - self.last >= max(LOSS_SECONDS, LOSS_SHARE * (now - self.begun)):
            self.commit()

    def commit(self) -> None:
        """Start to write what is held, once the shard before is written; its error, if any, is raised here."""
        self._wait()
        if self.keys:
            self.writing = self.writer.submit(_write, self.store, self.keys, self.batches)
        self.keys, self.batches, self.last = [], [], time.monotonic()

    def __enter__(self) -> _Shelf:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Commit what is held, and wait for it. What ended the loop is not hidden by a shard that cannot be written."""
        try:
            self.commit()
            self._wait()
        except StoreError as second:
            if error is None:
                raise
            if isinstance(error, SerError):
                raise type(error)(f"{error}\n{second}") from second
        finally:
            self.writer.shutdown()

    def _wait(self) -> None:
        writing, self.writing = self.writing, None
        if writing:
            writing.result()


def _write(store: EmbeddingStore, keys: Sequence[str], batches: Sequence[Batch]) -> None:
    store.write(keys, {view: join([batch[view] for batch in batches]) for view in batches[0]})


def extract(
    manifest: Manifest,
    encoder: Encoder,
    store: EmbeddingStore,
    views: Sequence[str] = VIEWS,
    skip_bad: bool = False,
    progress: Progress = silent,
    loop: Loop | None = None,
) -> tuple[Manifest, Report]:
    """Encode every clip of a keyed manifest (see `add_keys`) that the store lacks; in this process, or by a `loop`.

    Gives the manifest, in which clips that were skipped say why, and a report. Raises AudioError, before anything is
    encoded, where a clip cannot be read or is too short or too long for the encoder, unless `skip_bad`; EncoderError
    for a view that the encoder does not give, and where a vector is not finite.
    """
    begin = time.monotonic()
    asked = resolve_views(views, encoder)
    manifest = _set_aside(manifest, encoder, skip_bad)
    usable = manifest.usable
    keys = [clip.key for clip in usable]
    lacking = {view: store.missing(keys, [view]) for view in asked}
    wanted = {key for missing in lacking.values() for key in missing}
    todo = list({clip.key: clip for clip in usable if clip.key in wanted}.values())
    seconds = sum(clip.seconds for clip in todo)
    _lay_provenance(encoder.info, store.folder)  # before the first shard: none is ever without
    if todo:
        needed = [view for view in asked if lacking[view]]
        with progress("encoding", total=seconds, unit="s of audio") as advance:
            (loop or _here)(todo, encoder, needed, store, advance)
    cached = sum(clip.key not in wanted for clip in usable)
    return manifest, Report(len(usable), len(todo), cached, seconds, time.monotonic() - begin, manifest.skipped)


def _here(
    clips: Sequence[Clip], encoder: Encoder, views: Sequence[str], store: EmbeddingStore, advance: Advance
) -> None:
    """The loop in this process."""
    with _Shelf(store) as shelf, closing(encoded(clips, encoder, views)) as batches:
        for pack, batch in batches:
            shelf.add([clip.key for clip in pack], batch)
            advance(sum(clip.seconds for clip in pack))


def _set_aside(manifest: Manifest, encoder: Encoder, skip_bad: bool) -> Manifest:
    """The manifest with a reason at each clip that this encoder cannot take; or AudioError with all of them."""
    clips = []
    for clip in manifest.clips:
        fault = clip.extra.get(SKIPPED) or misfit(clip.path, clip.seconds, encoder)
        clips.append(replace(clip, extra={**clip.extra, SKIPPED: fault}) if fault else clip)
    checked = Manifest(manifest.dataset, tuple(clips))
    faults = [clip.extra[SKIPPED] for clip in checked.skipped if not clip.extra[SKIPPED].startswith(KNOWN_FAULT)]
    if (faults and not skip_bad) or not checked.usable:
        what = f"{len(faults)} of {len(clips)} clips of {manifest.dataset} cannot be used"
        raise AudioError(complain(what, faults, "Mend or remove them, or leave them out with --skip-bad."))
    return checked


def _lay_provenance(info: EncoderInfo, store: Path) -> None:
    """Lay the list of a fine-tuned encoder into its store. Raises EncoderError where the checkpoint has lost it."""
    if info.trained_on and not (store / LIST).exists():
        found = of_checkpoint(folder_of(info.checkpoint), info.trained_on)
        if found:
            lay(found, store)


def misfit(path: str, seconds: float, encoder: Encoder) -> str:
    """Why an encoder cannot take a clip that lasts so long; "" where it can."""
    return too_short_or_long(path, seconds, encoder.info.name, encoder.shortest, encoder.longest)


def too_short_or_long(
    path: str, seconds: float, who: str, shortest: float, longest: float, else_: str = "Cut it into utterances."
) -> str:
    """Why `who` cannot take a clip that lasts so long, and what to do; "" where it can."""
    if seconds < shortest:
        needs = f"{who} needs {shortest * 1000:.0f} ms for one frame. Remove it, or record it again."
        return f"{path}: lasts {seconds * 1000:.0f} ms, {needs}"
    if seconds > longest:
        return f"{path}: lasts {seconds:.0f} s, {who} takes clips of up to {longest:.0f} s. {else_}"
    return ""


def encoded(
    clips: Sequence[Clip], encoder: Encoder, views: Sequence[str], threads: int | None = None
) -> Generator[tuple[list[Clip], Batch]]:
    """Packs of clips with their rows, in order; decoded and encoded in so many threads, all that help by default.

    One lane is the caller's own thread: in any other, the C library returns large buffers to the system after each use.
    """
    rate, lanes = encoder.info.sample_rate, min(encoder.lanes, threads or encoder.lanes)
    decoders, encoders = ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)), ThreadPoolExecutor(lanes)
    begun = ((p, [decoders.submit(_waveform, clip, rate) for clip in p]) for p in packs(clips, encoder.pack))
    decoded = _ahead(begun, AHEAD)
    try:
        if lanes == 1:
            for pack, waves in decoded:
                yield pack, _encode(encoder, pack, waves, views)
        else:
            work = ((pack, encoders.submit(_encode, encoder, pack, waves, views)) for pack, waves in decoded)
            for pack, batch in _ahead(work, lanes):
                yield pack, batch.result()
    finally:
        for pool in (encoders, decoders):
            pool.shutdown(cancel_futures=True)


def _ahead(items: Iterator[Item], count: int) -> Iterator[Item]:
    """The same items, `count` of them taken before they are asked for."""
    held: deque[Item] = deque()
    for item in items:
        held.append(item)
        if len(held) > count:
            yield held.popleft()
    yield from held


def packs(clips: Sequence[Clip], seconds: float) -> Iterator[list[Clip]]:
    """Clips in groups that last up to `seconds`, the longest first; a longer clip is a group of its own."""
    pack: list[Clip] = []
    held = 0.0
    for clip in sorted(clips, key=lambda clip: -clip.seconds):
        if pack and held + clip.seconds > seconds:
            yield pack
            pack, held = [], 0.0
        pack.append(clip)
        held += clip.seconds
    if pack:
        yield pack


def _encode(encoder: Encoder, clips: Sequence[Clip], waves: Sequence[Future[Waveform]], views: Sequence[str]) -> Batch:
    batch = encoder.encode([wave.result() for wave in waves], views)
    refuse_nan([clip.path for clip in clips], batch)
    return batch


def _waveform(clip: Clip, rate: int) -> Waveform:
    """The waveform that the clip's key belongs to: a file that changed since must not be stored under it."""
    recording = Recording.load(clip.path)
    if recording.key != clip.extra.get(COPY_OF, clip.key):
        raise AudioError(f"{clip.path}: changed while it was being extracted. Run again once it is complete.")
    wave = recording.waveform(rate)
    return transformed(wave, rate, clip) if COPY_OF in clip.extra else wave


def refuse_nan(paths: Sequence[str], batch: Batch) -> None:
    """Raise EncoderError, naming the clip, for a row that is not finite."""
    for view, rows in batch.items():
        for path, row in zip(paths, rows, strict=True):
            if not np.isfinite(row).all():
                ways = ["leave the clip out", "check the checkpoint"]
                if row.dtype == np.float16:
                    ways.insert(0, "do without this view, for float16 ends at 65504")
                raise EncoderError(f"{path}: its vector is not finite ('{view}'). Either {', or '.join(ways)}.")
