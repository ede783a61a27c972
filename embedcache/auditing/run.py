"""Audit a copy of a dataset before anything is extracted.

Every file is read once, and the checks in `checks.CHECKS` examine the measurements. A finding is a fault, which should
be corrected before extraction, or a note, which is for information. A problem that the dataset's list of known
faults explains is a note: the dataset was published with the problem, and `ser` handles it.
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
from .checks import CHECKS, FAULT, NOTE, AuditInput, Check, Hit, folder_of, group_by
from .measure import Measurement, measure_all


@dataclass(frozen=True)
class Finding:
    """All problems of one kind in a dataset."""

    severity: str  # "fault" or "note"
    kind: str  # short name of the problem
    clips: tuple[str, ...]  # ids of the clips that have the problem; empty if they cannot be named
    said: str  # what the problem means and what to do
    lines: tuple[str, ...]  # one line for each clip, pair of clips, or speaker and label
    source: str = ""  # who else reports the problem


@dataclass(frozen=True)
class Audit:
    """The result of an audit: what a copy of a dataset holds, and the problems found. Clips are counted by clip id."""

    dataset: str
    title: str
    root: str
    clips: int  # number of clips in this copy
    published: int | None  # number of clips in the published dataset; None if unknown
    left_out: int  # number of clips left out because of known faults
    hours: float  # total duration of the clips that can be decoded, in hours
    labels: Mapping[str, Mapping[str, int]]  # label -> gender -> number of clips
    speakers: Mapping[str, int]  # speaker -> number of clips
    genders: Mapping[str, int]  # gender -> number of clips
    texts: Mapping[str, int]  # text -> number of clips, for clips whose text is known
    findings: tuple[Finding, ...]  # faults first

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that should be corrected."""
        return tuple(finding for finding in self.findings if finding.severity == FAULT)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain types that JSON can hold."""
        return asdict(self)


def audit(
    spec: Dataset,
    root: str | Path | None = None,
    progress: Progress = silent,
    keep_known_faults: bool = False,
    speakers_are_clips: bool = False,
    channel: str = "",
) -> Audit:
    """Check every file of a dataset below `root` before anything is extracted.

    If `root` is None, the folder is chosen as in `find_root`. All files are read in any case; `keep_known_faults` only
    decides whether clips with known faults are reported as kept or as left out. Nearly as many speakers as clips are a
    fault in a dataset of one's own, unless `speakers_are_clips`. `channel` is as in `extract_dataset`. A file that
    cannot be read is a finding, not an error.
    Raises DataError as `Dataset.manifest` does: if the folder does not exist, if it holds no clips, if file names do
    not parse, or if it holds another dataset.
    """
    root = find_root(spec, root)
    scanned = spec.manifest(root, keep_known_faults=True).with_channel(channel)
    clips = scanned.clips
    files = measure_all(clips, progress)
    checksums = spec.checksums() if spec.checksums else {}
    own, other = _without_second_copies(files), _find_other_audio(root, clips)
    data = AuditInput(spec, root, files, own, checksums, other, speakers_are_clips, scanned.notes)
    faulty = {clip_id for fault in spec.known_faults if fault.left_out for clip_id in fault.clips}
    left_out = set() if keep_known_faults else faulty & data.ids
    return _summarize(data, run_checks(data, keep_known_faults), left_out)


def run_checks(data: AuditInput, keep_known_faults: bool = False) -> tuple[Finding, ...]:
    """Run all checks. Return their findings and the known faults of the clips in this copy, faults first."""
    known_faults = [fault for fault in data.spec.known_faults if data.ids & set(fault.clips)]
    confirmed: dict[KnownFault, list[str]] = {fault: [] for fault in known_faults}
    findings = []
    for check in CHECKS:
        unexplained = []
        for hit in check.find(data):
            if check.may_be_published and (fault := _explaining_fault(known_faults, hit)):
                confirmed[fault].append(check.kind)
            else:
                unexplained.append(hit)
        if unexplained:
            findings.append(_make_finding(check, unexplained))
    findings += [_report_known_fault(data, fault, kinds, keep_known_faults) for fault, kinds in confirmed.items()]
    return tuple(sorted(findings, key=lambda finding: finding.severity != FAULT))


def _make_finding(check: Check, hits: Sequence[Hit]) -> Finding:
    clips = tuple(clip_id for ids, _ in hits for clip_id in ids)
    return Finding(check.severity, check.kind, clips, check.explanation, tuple(line for _, line in hits))


def _explaining_fault(known_faults: Iterable[KnownFault], hit: Hit) -> KnownFault | None:
    """Return the known fault that explains a hit, or None.

    A known fault explains a hit that has exactly its clips. If its clips are left out, it also explains a hit that has
    only some of them.
    """
    ids = set(hit[0])
    for fault in known_faults:
        if ids == set(fault.clips) or (ids and fault.left_out and ids <= set(fault.clips)):
            return fault
    return None


def _report_known_fault(data: AuditInput, fault: KnownFault, kinds: Iterable[str], keep: bool) -> Finding:
    present = tuple(clip_id for clip_id in fault.clips if clip_id in data.ids)
    treatment = fault.treatment
    if fault.left_out:
        treatment = "kept, as requested" if keep else "left out; --keep-known-faults keeps them"
    confirmation = f" Confirmed in this copy: {', '.join(dict.fromkeys(kinds))}." if kinds else ""
    text = f"{treatment[:1].upper()}{treatment[1:]}.{confirmation}"
    return Finding(NOTE, "known fault", present, text, (f"{' and '.join(present)}: {fault.description}",), fault.source)


def _summarize(data: AuditInput, findings: tuple[Finding, ...], left_out: Collection[str]) -> Audit:
    clips = data.unique_clips
    labels = group_by(clips, lambda clip: clip.label)
    return Audit(
        dataset=clips[0].dataset,
        title=data.spec.title,
        root=str(data.root),
        clips=len(clips),
        published=data.spec.n_clips,
        left_out=len(left_out),
        hours=sum(measurement.seconds for measurement in data.clips) / 3600,
        labels={label: _count_values(clip.gender for clip in labels[label]) for label in sorted(labels)},
        speakers=_count_values(clip.speaker for clip in clips),
        genders=_count_values(clip.gender for clip in clips),
        texts=_count_values(clip.extra["text"] for clip in clips if clip.extra.get("text")),
        findings=findings,
    )


def _without_second_copies(files: Iterable[Measurement]) -> tuple[Measurement, ...]:
    """Keep the first of the files that share id, content, label and speaker.

    The files come in the order of a manifest, so the first has the shortest path. Manifests with keys keep it, too.
    """
    first: dict[tuple[str, ...], Measurement] = {}
    for file in files:
        first.setdefault((file.clip_id, file.key, file.clip.label, file.clip.speaker), file)
    return tuple(first.values())


def _find_other_audio(root: Path, clips: Iterable[Clip]) -> tuple[Path, ...]:
    clip_paths = {os.path.realpath(clip.path) for clip in clips}
    return tuple(path for path in audio_files(folder_of(root)) if os.path.realpath(path) not in clip_paths)


def _count_values(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
