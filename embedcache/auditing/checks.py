"""What an audit looks for: each check is a short function from what was heard to what it found; `CHECKS` lists them."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..dataset import Dataset
from ..manifest import Clip
from .measure import Measurement

T = TypeVar("T")
K = TypeVar("K")

FAULT, NOTE = "fault", "note"
SILENT = 1e-4  # of full scale: nothing that stays below is speech
LOW = 400 / 32_768  # of full scale: a peak below is very quiet
CLIPPED = 3  # samples at full scale in a row
SECONDS = (0.25, 30.0)  # of an utterance, where the dataset's own range is not known
SLACK = 0.1  # seconds beside a known range: a resampled or re-encoded copy may differ by a little
PUBLISHED_AS = ".wav"  # what published checksums are of
EXAMPLES = 3  # ids in one line

Found = tuple[tuple[str, ...], str]  # the clips that one thing is about, and a line that names it


@dataclass(frozen=True)
class AuditInput:
    """What checks look at."""

    spec: Dataset
    root: Path
    files: tuple[Measurement, ...]
    clips: tuple[Measurement, ...]  # the files without second copies
    checksums: Mapping[str, str]  # clip id -> published SHA-256; empty where none are known
    others: tuple[Path, ...] = ()  # audio below the root that is no clip

    @property
    def readable(self) -> Iterator[Measurement]:
        """The clips that can be used."""
        return (heard for heard in self.clips if not heard.fault)

    @property
    def listed(self) -> list[Clip]:
        """One clip of each id."""
        return [same[0].clip for same in by(self.clips, lambda heard: heard.clip_id).values()]

    @property
    def ids(self) -> set[str]:
        """The distinct clip ids."""
        return {heard.clip_id for heard in self.clips}

    def place(self, path: str | Path) -> str:
        """A path as seen from the root."""
        return os.path.relpath(path, folder_of(self.root))


@dataclass(frozen=True)
class Check:
    """One thing to look for, and what to say about it."""

    kind: str
    severity: str
    said: str
    find: Callable[[AuditInput], Iterable[Found]]
    of_the_publication: bool = False  # the register of known faults may explain it; else it is this copy's own


def folder_of(root: Path) -> Path:
    """The folder of a tree, or that of a CSV."""
    return root if root.is_dir() else root.parent


def _unreadable(case: AuditInput) -> Iterator[Found]:
    for heard in case.clips:
        if heard.fault:
            yield (heard.clip_id,), f"{heard.clip_id}: {heard.fault}"


def _clashing(case: AuditInput) -> Iterator[Found]:
    for clip_id, same in by(case.clips, lambda heard: heard.clip_id).items():
        if len(same) > 1:
            places = [f"{case.place(heard.clip.path)} ({heard.clip.label})" for heard in same]
            yield (clip_id,), f"{clip_id}: {' and '.join(places)}"


def _copied(case: AuditInput) -> Iterator[Found]:
    kept = {id(heard) for heard in case.clips}
    for heard in case.files:
        if id(heard) not in kept:
            yield (heard.clip_id,), case.place(heard.clip.path)


def _missing(case: AuditInput) -> Iterator[Found]:
    spec, here = case.spec, case.ids
    if case.checksums:
        yield from (((clip_id,), clip_id) for clip_id in sorted(set(case.checksums) - here))
    elif spec.n_clips and len(here) < spec.n_clips:
        speakers = (spec.n_speakers or 0) - len({heard.clip.speaker for heard in case.clips})
        lacking = f"; {speakers} of {spec.n_speakers} speakers have none" if speakers > 0 else ""
        yield (), f"{spec.n_clips - len(here)} of {spec.n_clips} clips are not here{lacking}"


def _extra(case: AuditInput) -> Iterator[Found]:
    spec, here = case.spec, case.ids
    if case.checksums:
        yield from (((clip_id,), clip_id) for clip_id in sorted(here - set(case.checksums)))
    elif spec.n_clips and len(here) > spec.n_clips:
        yield (), f"{len(here)} clips, {spec.n_clips} were published"


def _uneven(case: AuditInput) -> Iterator[Found]:
    """Speakers with more or fewer clips of a label than most have.

    Said only where what most have, times the speakers, makes the published number of clips: then all should be equal.
    """
    spec = case.spec
    cells = Counter((clip.label, clip.speaker) for clip in case.listed)
    speakers = sorted({speaker for _, speaker in cells})
    usual = {label: _most([cells[label, speaker] for speaker in speakers]) for label in sorted({c[0] for c in cells})}
    if case.checksums or not spec.n_clips or sum(usual.values()) * (spec.n_speakers or 0) != spec.n_clips:
        return
    for speaker in speakers:
        for label, wanted in usual.items():
            if (have := cells[label, speaker]) != wanted:
                yield (), f"speaker {speaker}, {label}: has {have}, others have {wanted}"


def _one_label(case: AuditInput) -> Iterator[Found]:
    labels = sorted({clip.label for clip in case.listed})
    if len(labels) == 1:
        yield (), f"all {len(case.listed)} clips are '{labels[0]}'"


def _altered(case: AuditInput) -> Iterator[Found]:
    for heard in case.clips:
        published = case.checksums.get(heard.clip_id)
        if published and heard.key and _is_original(heard) and heard.key != published.lower():
            yield (heard.clip_id,), f"{heard.clip_id}: SHA-256 {heard.key[:12]}…, published {published[:12]}…"


def _converted(case: AuditInput) -> Iterator[Found]:
    for heard in case.clips:
        if heard.clip_id in case.checksums and not _is_original(heard):
            yield (heard.clip_id,), case.place(heard.clip.path)


def _contradicting(case: AuditInput) -> Iterator[Found]:
    yield from (_pair(same) for same in _identical(case) if len(_tags(same)) > 1)


def _repeated(case: AuditInput) -> Iterator[Found]:
    yield from (_pair(same) for same in _identical(case) if len(_tags(same)) == 1)


def _silent(case: AuditInput) -> Iterator[Found]:
    for heard in case.readable:
        if heard.swing < SILENT:
            yield (heard.clip_id,), f"{heard.clip_id}: {heard.seconds:.2f} s, peak {heard.peak:.6f}"


def _quiet(case: AuditInput) -> Iterator[Found]:
    for heard in case.readable:
        if heard.peak < LOW and heard.swing >= SILENT:
            yield (heard.clip_id,), f"{heard.clip_id}: peak {heard.peak * 32_768:.0f} of 32768"


def _clipped(case: AuditInput) -> Iterator[Found]:
    for heard in case.readable:
        if heard.clipped >= CLIPPED:
            yield (heard.clip_id,), f"{heard.clip_id}: {heard.clipped} samples in a row"


def _odd_lengths(case: AuditInput) -> Iterator[Found]:
    shortest, longest = case.spec.seconds or SECONDS
    slack = SLACK if case.spec.seconds else 0.0
    for heard in case.readable:
        if not shortest - slack <= heard.seconds <= longest + slack:
            yield (heard.clip_id,), f"{heard.clip_id}: {heard.seconds:.2f} s, wanted {shortest:g} to {longest:g} s"


def _odd_rates(case: AuditInput) -> Iterator[Found]:
    rates = by(case.readable, lambda heard: heard.rate)
    wanted = case.spec.rates or _largest(rates)
    said = f"{'published at' if case.spec.rates else 'most have'} {' or '.join(map(str, wanted))} Hz"
    for rate in sorted(set(rates) - set(wanted)):
        yield _group(rates[rate], f"at {rate} Hz, {said}")


def _odd_channels(case: AuditInput) -> Iterator[Found]:
    channels = by(case.readable, lambda heard: heard.channels)
    usual = _largest(channels)
    for count in sorted(set(channels) - set(usual)):
        yield _group(channels[count], f"{_channels(count)}, most are {_channels(usual[0])}")


def _other_audio(case: AuditInput) -> Iterator[Found]:
    yield from (((), case.place(path)) for path in case.others)


AGAIN = "Copy or download them again"
CHECKS = (
    Check("unreadable", FAULT, f"{AGAIN}, or leave them out with `ser extract --skip-bad`.", _unreadable),
    Check("missing", FAULT, "This copy is not complete; `ser datasets` says where to get the rest.", _missing),
    Check("extra", FAULT, "Not part of what was published: move it away, or use --dataset folder.", _extra),
    Check("uneven", FAULT, "Published, every speaker has as many: look for what is lost or added.", _uneven),
    Check("one label", FAULT, "Nothing to tell apart: see whether labels are taken from the right place.", _one_label),
    Check("altered", FAULT, f"Not the bytes that were published. {AGAIN}.", _altered),
    Check("clashing ids", FAULT, "Two files or labels under one clip id: remove or rename one of each.", _clashing),
    Check("contradiction", FAULT, "One recording, byte for byte, under two labels or speakers.", _contradicting, True),
    Check(
        "silent", FAULT, f"Nothing moves by more than {SILENT:g} of full scale. {AGAIN}, or remove them.", _silent, True
    ),
    Check("duration", FAULT, "Too short or too long for a clip: cut, mend or remove them.", _odd_lengths, True),
    Check("identical", NOTE, "One recording, byte for byte: an example that counts twice.", _repeated, True),
    Check("second copy", NOTE, "The same clip once more, as in a nested tree; left out.", _copied),
    Check("very quiet", NOTE, "Peak below 400 of 32768; used as they are.", _quiet, True),
    Check("clipped", NOTE, f"{CLIPPED} or more samples in a row at full scale; used as they are.", _clipped, True),
    Check("rate", NOTE, "Resampled when they are encoded.", _odd_rates, True),
    Check("channels", NOTE, "Unlike the rest; mixed down to one when they are encoded.", _odd_channels, True),
    Check("not compared", NOTE, f"Checksums are of {PUBLISHED_AS[1:].upper()}; a converted copy differs.", _converted),
    Check("other audio", NOTE, "Below the root, but no clips of this dataset; passed over.", _other_audio),
)


def _identical(case: AuditInput) -> Iterator[list[Measurement]]:
    for same in by((heard for heard in case.clips if heard.key), lambda heard: heard.key).values():
        if len({heard.clip_id for heard in same}) > 1:
            yield same


def _tags(same: Iterable[Measurement]) -> set[tuple[str, str]]:
    return {(heard.clip.label, heard.clip.speaker) for heard in same}


def _pair(same: Sequence[Measurement]) -> Found:
    said = [f"{heard.clip_id} ({heard.clip.label}, speaker {heard.clip.speaker})" for heard in same]
    return tuple(heard.clip_id for heard in same), " = ".join(said)


def _group(same: Sequence[Measurement], said: str) -> Found:
    ids = tuple(heard.clip_id for heard in same)
    more = f", … and {len(ids) - EXAMPLES} more" if len(ids) > EXAMPLES else ""
    return ids, f"{len(ids)} {said}: {', '.join(ids[:EXAMPLES])}{more}"


def _channels(count: int) -> str:
    return {1: "mono", 2: "stereo"}.get(count, f"of {count} channels")


def _is_original(heard: Measurement) -> bool:
    return Path(heard.clip.path).suffix.lower() == PUBLISHED_AS


def by(things: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Things in groups of equal `key`, in the order of their first."""
    groups: defaultdict[K, list[T]] = defaultdict(list)
    for thing in things:
        groups[key(thing)].append(thing)
    return dict(groups)


def _largest(groups: Mapping[int, Sequence[Measurement]]) -> tuple[int, ...]:
    return (max(groups, key=lambda value: len(groups[value])),) if groups else ()


def _most(counts: Sequence[int]) -> int:
    return Counter(counts).most_common(1)[0][0]
