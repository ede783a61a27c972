"""A sentence about what duration and level of the clips alone tell about their labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from embedcache.auditing.baseline import uar_of_nearest_mean
from embedcache.auditing.measure import measure_level, read_all
from embedcache.manifest import Clip
from embedcache.progress import Progress, silent

from ..data.csv_text import number_text
from ..evaluation.predictions import Predictions
from .hardest_clips import ClipFacts

MOST_MEASURED = 5000  # clips of a dataset whose recordings are read for their level, about 10 s
METHOD = "It is fitted on other speakers; a head that is not better has learned no more."
NOT_MEASURED = f"The level is measured for at most {MOST_MEASURED} clips; `ser audit` measures it for all."
NOT_FOUND = "The level is not known, because not all recordings can be read."


def measured_levels(facts: ClipFacts, progress: Progress = silent) -> dict[str, float]:
    """Return the level in dB of each clip of a manifest by key, without those that are silent or cannot be read.

    Returns an empty dictionary for more than MOST_MEASURED clips.
    """
    clips = list({clip.key: clip for clip in facts.clips.values()}.values())
    if len(clips) > MOST_MEASURED:
        return {}
    levels = zip(clips, read_all(measure_level, clips, progress), strict=True)
    return {clip.key: level for clip, level in levels if math.isfinite(level)}


def baselines_text(p: Predictions, facts: ClipFacts, levels: Mapping[str, float] | None = None) -> str:
    """Return the UARs of the test clips' durations and levels alone, as sentences; "" if a duration is not known.

    They are the UARs of the nearest class mean, on speakers it was not fitted on, whatever the protocol of the run.
    `levels` are those of `measured_levels`, or None if no recordings are read.
    """
    ids, first = np.unique(p.clip_ids, return_index=True)
    clips = [facts.clips[i] for i in ids.tolist() if i in facts.clips]
    if len(clips) < len(ids) or not all(clip.seconds > 0 for clip in clips):
        return ""
    y, speakers = p.truth[first], p.speakers[first]
    features = _features(clips, levels or {})
    uars = {name: uar_of_nearest_mean(columns, y, speakers) for name, columns in features.items()}
    if any(map(math.isnan, uars.values())):
        return ""
    scores = ", ".join(f"{name} {number_text(uar)}" for name, uar in uars.items())
    chance = number_text(1 / len(np.unique(y)))
    text = f"UAR of a nearest class mean on {scores}; chance is {chance}. {METHOD}"
    if levels is None or "level" in features:
        return text
    return f"{text} {NOT_MEASURED if len(facts.clips) > MOST_MEASURED else NOT_FOUND}"


def _features(clips: Sequence[Clip], levels: Mapping[str, float]) -> dict[str, NDArray[np.float64]]:
    """Return the features (n, d) of n clips by name. The level is left out if that of a clip is not known."""
    duration = np.log([clip.seconds for clip in clips])[:, None]
    if not all(clip.key in levels for clip in clips):
        return {"duration": duration}
    level = np.array([levels[clip.key] for clip in clips])[:, None]
    return {"duration": duration, "level": level, "both": np.hstack([duration, level])}
