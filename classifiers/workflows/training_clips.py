"""How the clips sound that a model is fitted on, read from their files, for the model card."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embedcache import Artifacts, AudioError
from embedcache.audio.clip_recordings import recording_of
from embedcache.auditing.measure import read_all
from embedcache.manifest import Clip
from embedcache.progress import Progress, silent

from ..data.listed_clips import LabelledClips
from ..data.task import Task
from ..saved.training_sound import MeasuredSound, TrainingSound
from .configurations import ComparisonConfig

MOST = 500  # clips that are measured, spread evenly over all; enough for 12 means, and read in some seconds


def training_sound(
    artifacts: Artifacts, config: ComparisonConfig, task: Task, progress: Progress = silent
) -> TrainingSound | None:
    """Return how the clips of a task sound; None for imported vectors, and if no file of a clip can be read.

    Files that cannot be read are left out: the vectors are there, and the recordings may be elsewhere by now.
    """
    rates = {info.sample_rate for info in task.encoder_infos}
    if not rates or 0 in rates:
        return None
    listed = LabelledClips.of(artifacts, config.datasets, config.labels, config.same_names)
    ids = set(task.ids.tolist())
    used = [row for row, clip in enumerate(listed.clips) if clip.clip_id in ids]
    chosen = [used[place] for place in np.unique(np.linspace(0, len(used) - 1, min(MOST, len(used))).astype(int))]
    found = read_all(_Measure(min(rates)), [listed.source_clips[row] for row in chosen], progress)
    pairs = [(sound, listed.clips[row].speaker) for sound, row in zip(found, chosen, strict=True) if sound]
    return TrainingSound.of(*zip(*pairs, strict=True)) if pairs else None


@dataclass(frozen=True)
class _Measure:
    rate: int  # sample rate of the model, in Hz

    def __call__(self, clip: Clip) -> MeasuredSound | None:
        try:
            mixed = recording_of(clip).mixdown(self.rate)
        except AudioError:
            return None
        return MeasuredSound.of(mixed.wave, self.rate, mixed.native_rate)
