"""How the clips sound that a model was fitted on, and how far another sound is from them.

A head ranks one of its labels first for any sound. What it cannot know, and this can tell, is that a sound is unlike
all that it was fitted on: noise, music, a tone, or speech in a noise that the training clips lack. The distance of a
sound is the root mean square of its profile's numbers (`sound_profile.py`) in standard deviations of the training
clips. It is given as a share of `limit`, the distance that 99 % of the training clips keep when their speakers are set
aside: about one clip in a hundred of a new speaker is above 1. The largest distance would be no limit: one silent or
broken training clip doubles it, and then noise is near.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache.audio.channels import level
from embedcache.audio.decode import Waveform
from embedcache.files.untrusted import build

from .sound_profile import NAMES, sound_profile

Floats = NDArray[np.float64]

FOLDS = 5  # groups of speakers that are set aside in turn
SHARE = 0.99  # share of the training clips that are not farther than the limit; all of 100 clips or fewer
MOST_DEVIATIONS = 10.0  # numbers further from the mean count as this far, so that none decides alone
LEAST_DEVIATION = 0.01  # smallest standard deviation, in the units of the numbers: a constant number stays finite
QUIETEST = -120.0  # lowest level, in dB of full scale, which stands for digital silence, too


@dataclass(frozen=True)
class MeasuredSound:
    """What is measured of one sound."""

    profile: Floats  # (12,), see `sound_profile`
    seconds: float  # duration
    level: float  # level without its constant part, in dB of full scale
    native_rate: int  # sample rate of the recording before resampling, in Hz

    @classmethod
    def of(cls, wave: Waveform, rate: int, native_rate: int) -> MeasuredSound:
        """Measure a waveform (samples,) at `rate` Hz of a recording at `native_rate` Hz."""
        loudness = max(QUIETEST, level(wave))
        return cls(sound_profile(wave, rate), len(wave) / rate, loudness, native_rate)


@dataclass(frozen=True)
class TrainingSound:
    """How the training clips of a model sound. A part of the model card, so all fields are numbers."""

    clips: int  # number of clips that were measured
    shortest: float  # duration of the shortest clip, in seconds
    longest: float  # duration of the longest clip, in seconds
    quietest: float  # level of the quietest clip, in dB of full scale
    loudest: float  # level of the loudest clip, in dB of full scale
    lowest_rate: int  # lowest sample rate of a recording, in Hz; it contains nothing above half of this
    mean: tuple[float, ...]  # mean of each number of the profile, in the order of `sound_profile.NAMES`
    deviation: tuple[float, ...]  # standard deviation of each number over the clips
    limit: float  # distance that SHARE of the clips keep, in deviations of the clips of other speakers

    @classmethod
    def of(cls, sounds: Sequence[MeasuredSound], speakers: Sequence[str]) -> TrainingSound:
        """Describe the sounds of training clips, at least one; `speakers` has the speaker of each."""
        profiles = np.stack([sound.profile for sound in sounds])
        mean, deviation = _moments(profiles)
        seconds, levels = ([getattr(sound, name) for sound in sounds] for name in ("seconds", "level"))
        return cls(
            clips=len(sounds),
            shortest=min(seconds),
            longest=max(seconds),
            quietest=min(levels),
            loudest=max(levels),
            lowest_rate=min(sound.native_rate for sound in sounds),
            mean=tuple(mean.tolist()),
            deviation=tuple(deviation.tolist()),
            limit=float(np.quantile(_held_out(profiles, speakers), SHARE, method="higher")),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingSound | None:
        """Return what a model card says; None if it says nothing. Raises ValueError if it is invalid."""
        if not values:
            return None
        sound = build(cls, values)
        lists = (sound.mean, sound.deviation)
        numbers = (*sound.mean, *sound.deviation, sound.shortest, sound.longest, sound.quietest, sound.loudest)
        finite = all(map(math.isfinite, (*numbers, sound.limit)))
        if not finite or any(len(part) != len(NAMES) for part in lists):
            raise ValueError(f"training_sound has invalid numbers; wanted finite ones, and {len(NAMES)} in each list")
        if min(*sound.deviation, sound.limit) <= 0:
            raise ValueError("training_sound has a deviation or a limit that is not above 0")
        return sound

    def distance(self, sound: MeasuredSound) -> float:
        """Return how far a sound is from the training clips, as a share of `limit`: above 1 for one unlike them."""
        distances = _distances(sound.profile[None], np.array(self.mean), np.array(self.deviation))
        return float(distances[0] / self.limit)


def _moments(profiles: Floats) -> tuple[Floats, Floats]:
    return profiles.mean(axis=0), np.maximum(LEAST_DEVIATION, profiles.std(axis=0))


def _distances(profiles: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Return the distance (n,) of each profile, in standard deviations."""
    z = np.clip((profiles - mean) / deviation, -MOST_DEVIATIONS, MOST_DEVIATIONS)
    distances: Floats = np.maximum(np.sqrt(np.mean(z**2, axis=1)), LEAST_DEVIATION)
    return distances


def _held_out(profiles: Floats, speakers: Sequence[str]) -> Floats:
    """Return the distance of each clip from clips of other speakers, or of other clips if there is one speaker.

    If it is farther from all clips, its own among them, it is that distance.
    """
    names = np.unique(np.asarray(speakers), return_inverse=True)[1]
    groups = (names if names.max() else np.arange(len(profiles))) % FOLDS
    distances = _distances(profiles, *_moments(profiles))
    for group in np.unique(groups):
        held = groups == group
        if not held.all():
            others = _distances(profiles[held], *_moments(profiles[~held]))
            distances[held] = np.maximum(distances[held], others)
    return distances
