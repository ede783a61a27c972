"""Sounds to try the page with, made here: no dataset's recording goes into the project."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from embedcache.synthetic import RATE, voice

SPEAKS = 5  # sentences of a made-up voice, half a second each
PAUSE = 0.1  # seconds between them
CHORD = (220.0, 277.2, 329.6, 440.0)  # Hz

Floats = NDArray[np.float64]


def _voice(actor: int, emotion: str) -> Floats:
    pause = np.zeros(int(PAUSE * RATE))
    return np.concatenate([part for take in range(SPEAKS) for part in (voice(actor, emotion, "01", take), pause)])


def _chord(seconds: float = 3.0) -> Floats:
    t = np.arange(int(seconds * RATE)) / RATE
    chord: Floats = 0.1 * np.exp(-0.7 * t) * np.sum([np.sin(2 * np.pi * hertz * t) for hertz in CHORD], axis=0)
    return chord


EXAMPLES: dict[str, Callable[[], Floats]] = {
    "A high, lively voice": lambda: _voice(2, "happy"),
    "A low, quiet voice": lambda: _voice(1, "sad"),
    "A loud, tense voice": lambda: _voice(3, "angry"),
    "A chord": _chord,
    "Silence": lambda: np.zeros(3 * RATE),
}
