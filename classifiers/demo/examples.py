"""Example sounds for the page. They are synthesised, so that the project contains no recording of a dataset."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from embedcache.synthetic import RATE, voice

SENTENCES = 5  # sentences of a synthetic voice, half a second each
PAUSE = 0.1  # pause after a sentence, in seconds
CHORD = (220.0, 277.2, 329.6, 440.0)  # frequencies, in Hz

Floats = NDArray[np.float64]


def _voice(actor: int, emotion: str) -> Floats:
    pause = np.zeros(int(PAUSE * RATE))
    return np.concatenate([part for take in range(SENTENCES) for part in (voice(actor, emotion, "01", take), pause)])


def _chord(seconds: float = 3.0) -> Floats:
    t = np.arange(int(seconds * RATE)) / RATE
    chord: Floats = 0.1 * np.exp(-0.7 * t) * np.sum([np.sin(2 * np.pi * hertz * t) for hertz in CHORD], axis=0)
    return chord


# Name on the page -> function that returns the sound, (samples,) at `RATE`.
EXAMPLES: dict[str, Callable[[], Floats]] = {
    "A high, lively voice": lambda: _voice(2, "happy"),
    "A low, quiet voice": lambda: _voice(1, "sad"),
    "A loud, tense voice": lambda: _voice(3, "angry"),
    "A chord": _chord,
    "Silence": lambda: np.zeros(3 * RATE),
}
