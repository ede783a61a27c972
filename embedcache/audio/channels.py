"""Channels of a recording: which one is taken, and what their mean may hide.

By default a recording is mixed to mono by the mean of its channels. That is right for two microphones before one
person. It is wrong for two people on one channel each, and the mean of a signal and its inverse is silence.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

CHOOSE = "Choose a channel with the option --channel or the column `channel` of a table: left, right, or 0, 1, …"

# Level of the mean of all channels, in dB, against the level that it would have if the channels had nothing in common.
# A channel beside silent ones has 0 dB, equal channels more. Only channels that are opposed have less.
CANCELS, CANCELS_PARTLY = -17.0, -6.0
DEAD = -40.0  # level of a channel against the loudest, in dB, below which the channel is silent
AUDIBLE = -80.0  # level in dB of full scale below which a recording is silent, whatever its channels
# Correlation of the channels' levels in frames of 20 ms, below which they hold different sounds. Measured on 150 pairs
# of RAVDESS's clips: two speakers, 0.05 to 0.77; one speaker before two microphones with delay and noise, 0.98 to 1; in
# two rooms with echoes, 0.59 to 0.98, in 95 of 100 pairs above 0.84.
FRAME, SIMILAR = 0.02, 0.8
MIN_FRAMES = 25  # frames from which levels are correlated: half a second
SPEECH_CHANGE = 0.3  # standard deviation of the levels over their mean, below which a recording is no speech

Sound = NDArray[np.float32]  # (samples, channels)


def take_channel(sound: Sound, channel: int | None) -> Sound:
    """Return one channel of a recording, (samples, 1), or all channels for None. Raises IndexError if there is none."""
    return sound if channel is None else sound[:, [channel]]


def find_channel_fault(sound: Sound) -> str:
    """Return why the mean of the channels is no recording of what they hold; "" if it is one."""
    if sound.shape[1] > 1 and max(level(channel) for channel in sound.T) > AUDIBLE and _gain(sound) < CANCELS:
        return "its channels are opposite and cancel each other, so that their mean is silent"
    return ""


def find_channel_doubt(sound: Sound, rate: int) -> str:
    """Return what the mean of the channels hides, as the end of a sentence on a recording; "" if it hides nothing."""
    if sound.shape[1] == 1:
        return ""
    levels = [level(channel) for channel in sound.T]
    if (loudest := max(levels)) <= AUDIBLE:
        return ""
    if min(levels) - loudest < DEAD:
        return "a channel that is silent"
    if _gain(sound) < CANCELS_PARTLY:
        return "channels that cancel each other in part"
    if _least_similarity(sound, round(FRAME * rate)) < SIMILAR:
        return "channels with different sounds, such as two speakers"
    return ""


def mean(sound: Sound) -> NDArray[np.float32]:
    """Return the mean of all channels, (samples,)."""
    mono = sound[:, 0] if sound.shape[1] == 1 else sound.mean(axis=1, dtype=np.float64)
    return np.ascontiguousarray(mono, dtype=np.float32)


def level(wave: NDArray[np.float32]) -> float:
    """Return the level of a waveform without its constant part, in dB of full scale; -inf for digital silence."""
    power = float(np.var(wave, dtype=np.float64)) if len(wave) else 0.0
    return 10 * math.log10(power) if power > 0 else -math.inf


def _gain(sound: Sound) -> float:
    """Return the level of the mean against that of channels with nothing in common, whose powers add, in dB."""
    independent = np.var(sound, axis=0, dtype=np.float64).sum() / sound.shape[1] ** 2
    return level(mean(sound)) - 10 * math.log10(independent)


def _least_similarity(sound: Sound, frame: int) -> float:
    """Return the smallest correlation of a channel's levels, frame by frame, with those of the first channel.

    Returns 1 for a recording that is too short, and for one whose level hardly changes, such as noise.
    """
    frames = len(sound) // frame
    cut = sound[: frames * frame].reshape(frames, frame, -1)
    levels = cut.std(axis=1, dtype=np.float64).T if frames else np.zeros((1, 1))  # (channels, frames)
    change = levels.std(axis=1) / levels.mean(axis=1)
    if frames < MIN_FRAMES or change.max() < SPEECH_CHANGE:
        return 1.0
    return float(np.corrcoef(levels)[0].min())
