"""What is wrong with a copy of a dataset, before any extraction.

Every file is read once, and `faults.CHECKS` look at what was heard. A finding is a `fault` (mend it before numbers are
made) or a `note` (know it). What the dataset's own register of known faults explains is a note: it was published so,
and is dealt with.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..dataset import Dataset, KnownFault, audio_files, find_root
from ..manifest import Clip
from ..progress import Progress, silent
from .checks import CHECKS, FAULT, NOTE, AuditInput, Check, Found, by, folder_of
from .measure import Measurement, listen_all


@dataclass(frozen=True)
class Finding:
    """One kind of thing that is wrong or worth knowing."""

    severity: str  # FAULT or NOTE
    kind: str
    clips: tuple[str, ...]  # the ids that it is about, where they are known
    said: str  # what it means, what to do
    lines: tuple[str, ...]  # one for each clip, pair or cell
    source: str = ""  # who else says so


@dataclass(frozen=True)
class Audit:
    """What a copy of a dataset holds, counted by clip id, and what was found."""

    dataset: str
    title: str
    root: str
    clips: int
    published: int | None  # clips that the whole dataset has
    left_out: int  # of them, as known to be faulty
    hours: float  # of the files that can be read
    labels: Mapping[str, Mapping[str, int]]  # label -> gender -> clips
    speakers: Mapping[str, int]
    genders: Mapping[str, int]
    texts: Mapping[str, int]  # of the clips whose text is known
    findings: tuple[Finding, ...]  # faults first

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that should be mended."""
        return tuple(finding for finding in self.findings if finding.severity == FAULT)

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain types, for JSON."""
        return asdict(self)


def audit(
    spec: Dataset, root: str | Path | None = None, progress: Progress = silent, keep_known_faults: bool = False
) -> Audit:
    """Look at every file of a dataset below `root` (see `find_root` for None) before anything is extracted.

    All files are read, whatever `keep_known_faults` is: it decides what is said of those that are known to be faulty.
    Files that cannot be read are findings. Raises DataError where `Dataset.manifest` does: no such folder, no clips,
    names that do not parse, another dataset.
    """
    root = find_root(spec, root)
    clips = spec.manifest(root, keep_known_faults=True).clips
    files = listen_all(clips, progress)
    case = AuditInput(
        spec, root, files, _distinct(files), spec.checksums() if spec.checksums else {}, _others(root, clips)
    )
    left_out = {clip_id for fault in spec.known_faults if fault.left_out for clip_id in fault.clips}
    return _counted(case, findings(case, keep_known_faults), set() if keep_known_faults else left_out & case.ids)


def findings(case: AuditInput, keep_known_faults: bool = False) -> tuple[Finding, ...]:
    """What all checks find, faults first, and the known faults of the clips that are here."""
    known = [fault for fault in case.spec.known_faults if case.ids & set(fault.clips)]
    seen: dict[KnownFault, list[str]] = {fault: [] for fault in known}
    told = []
    for check in CHECKS:
        left = []
        for found in check.find(case):
            if check.of_the_publication and (fault := _explains(known, found)):
                seen[fault].append(check.kind)
            else:
                left.append(found)
        if left:
            told.append(_finding(check, left))
    told += [_known(case, fault, kinds, keep_known_faults) for fault, kinds in seen.items()]
    return tuple(sorted(told, key=lambda finding: finding.severity != FAULT))


def _finding(check: Check, found: Sequence[Found]) -> Finding:
    clips = tuple(clip_id for ids, _ in found for clip_id in ids)
    return Finding(check.severity, check.kind, clips, check.said, tuple(line for _, line in found))


def _explains(known: Iterable[KnownFault], found: Found) -> KnownFault | None:
    """The known fault that has just these clips; of one whose clips are left out, any of them."""
    ids = set(found[0])
    return next((f for f in known if ids == set(f.clips) or (ids and f.left_out and ids <= set(f.clips))), None)


def _known(case: AuditInput, fault: KnownFault, kinds: Iterable[str], keep: bool) -> Finding:
    here = tuple(clip_id for clip_id in fault.clips if clip_id in case.ids)
    done = fault.treatment
    if fault.left_out:
        done = "kept, as asked" if keep else "left out; --keep-known-faults keeps them"
    confirmed = f" Seen here: {', '.join(dict.fromkeys(kinds))}." if kinds else ""
    lines = (f"{' and '.join(here)}: {fault.what}",)
    return Finding(NOTE, "known fault", here, f"{done[:1].upper()}{done[1:]}.{confirmed}", lines, fault.source)


def _counted(case: AuditInput, found: tuple[Finding, ...], left_out: Collection[str]) -> Audit:
    clips = case.listed
    labels = by(clips, lambda clip: clip.label)
    return Audit(
        dataset=clips[0].dataset,
        title=case.spec.title,
        root=str(case.root),
        clips=len(clips),
        published=case.spec.n_clips,
        left_out=len(left_out),
        hours=sum(heard.seconds for heard in case.clips) / 3600,
        labels={label: _count(clip.gender for clip in labels[label]) for label in sorted(labels)},
        speakers=_count(clip.speaker for clip in clips),
        genders=_count(clip.gender for clip in clips),
        texts=_count(clip.extra["text"] for clip in clips if clip.extra.get("text")),
        findings=found,
    )


def _distinct(files: Iterable[Measurement]) -> tuple[Measurement, ...]:
    """One of each id, content, label and speaker; as in a manifest with keys, that with the shortest path."""
    first: dict[tuple[str, ...], Measurement] = {}
    for heard in files:
        first.setdefault((heard.clip_id, heard.key, heard.clip.label, heard.clip.speaker), heard)
    return tuple(first.values())


def _others(root: Path, clips: Iterable[Clip]) -> tuple[Path, ...]:
    own = {os.path.realpath(clip.path) for clip in clips}
    return tuple(path for path in audio_files(folder_of(root)) if os.path.realpath(path) not in own)


def _count(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
