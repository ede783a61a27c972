"""How the clips sound that a model is fitted on, read from their files, for the model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from embedcache import Artifacts, SerError
from embedcache.audio.augment import transformed
from embedcache.audio.clip_recordings import recording_of
from embedcache.auditing.measure import read_all
from embedcache.encoder import Log, no_log
from embedcache.manifest import COPY_OF, Clip
from embedcache.progress import Progress, silent
from embedcache.text import count

from ..data.listed_clips import LabelledClips, copied_clips
from ..data.task import Task
from ..inference.input_checks import nothing_audible
from ..saved.training_sound import MeasuredSound, TrainingSound
from .configurations import ComparisonConfig

MOST = 500  # clips that are measured, spread evenly over all; enough for 12 means, and read in some seconds
MOST_LONG = 20  # recordings that are decoded for clips that are parts of them: each may last an hour

Item = TypeVar("Item")


def training_sound(
    artifacts: Artifacts, config: ComparisonConfig, task: Task, progress: Progress = silent, log: Log = no_log
) -> TrainingSound | None:
    """Return how the clips of a task sound, with their augmented copies; None if that cannot be known.

    It is not known of imported vectors, and if no file of a clip can be read. Files that cannot be read are left out:
    the vectors are there, and the recordings may be elsewhere by now. `log` receives a note then. So are silent clips,
    which `check_input` does not compare either.
    """
    rates = {info.sample_rate for info in task.encoder_infos}
    if not rates or 0 in rates:
        return None
    chosen = _chosen(_trained_on(artifacts, config, task))
    found = read_all(_Measure(min(rates)), [clip for clip, _ in chosen], progress)
    pairs = [(sound, speaker) for sound, (_, speaker) in zip(found, chosen, strict=True) if sound]
    if len(pairs) < len(chosen):
        others = "" if pairs else ", so sounds that are unlike the training clips will get no note"
        log(
            f"note: how the training clips sound was measured on {len(pairs)} of {count(len(chosen), 'clip')}; the "
            f"others are silent, or their files cannot be read{others}."
        )
    return TrainingSound.of(*zip(*pairs, strict=True)) if pairs else None


def _trained_on(artifacts: Artifacts, config: ComparisonConfig, task: Task) -> list[tuple[Clip, str]]:
    """Return the clips of a task and their copies, as their manifests name them, each with its speaker."""
    listed = LabelledClips.of(artifacts, config.datasets, config.labels, config.same_names)
    ids = set(task.ids.tolist())
    named = list(zip(listed.source_clips, listed.clips, strict=True))
    clips = [(source, clip.speaker) for source, clip in named if clip.clip_id in ids]
    if not config.copies:
        return clips
    copied = copied_clips(artifacts, listed.manifests, config.copies, listed.clips)
    return clips + [(copy, named[row][1].speaker) for copy, row in zip(copied.clips, copied.clip_rows, strict=True)]


def _chosen(clips: Sequence[tuple[Clip, str]]) -> list[tuple[Clip, str]]:
    """Return at most MOST clips, parts of at most MOST_LONG recordings, spread evenly over all."""
    long = set(_spread(list(dict.fromkeys(clip.path for clip, _ in clips if clip.span)), MOST_LONG))
    return _spread([pair for pair in clips if not pair[0].span or pair[0].path in long], MOST)


def _spread(items: Sequence[Item], most: int) -> list[Item]:
    places = np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).astype(int))
    return [items[place] for place in places]


@dataclass(frozen=True)
class _Measure:
    rate: int  # sample rate of the model, in Hz

    def __call__(self, clip: Clip) -> MeasuredSound | None:
        """Return what is measured of a clip or a copy; None if it cannot be read or is silent."""
        try:
            mixed = recording_of(clip).mixdown(self.rate)
            wave = transformed(mixed.wave, self.rate, clip) if COPY_OF in clip.extra else mixed.wave
        except SerError:  # also of a copy that cannot be made again with the libraries of this machine
            return None
        return None if nothing_audible(wave, self.rate) else MeasuredSound.of(wave, self.rate, mixed.native_rate)
