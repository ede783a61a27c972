"""Sounds that are no speech, at 16 kHz: what a microphone, a broken file or a player gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

RATE = 16_000


def _tone(seconds: float, seed: int) -> np.ndarray:
    hertz = np.random.default_rng(seed).uniform(50, 4000)
    return 0.3 * np.sin(2 * np.pi * hertz * _times(seconds))


def _white(seconds: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 10 ** (rng.uniform(-50, -15) / 20) * rng.standard_normal(len(_times(seconds)))


def _quiet(seconds: float, seed: int) -> np.ndarray:
    return 1e-4 * np.random.default_rng(seed).standard_normal(len(_times(seconds)))


def _click(seconds: float, seed: int) -> np.ndarray:
    sound = np.zeros(len(_times(seconds)))
    sound[np.random.default_rng(seed).integers(len(sound))] = 0.9
    return sound


def _clicks(seconds: float, seed: int) -> np.ndarray:
    sound = np.zeros(len(_times(seconds)))
    sound[:: np.random.default_rng(seed).integers(2000, 5000)] = 0.9
    return sound


def _chord(seconds: float, seed: int) -> np.ndarray:
    root = np.random.default_rng(seed).uniform(110, 440)
    return 0.1 * sum(np.sin(2 * np.pi * root * ratio * _times(seconds)) for ratio in (1, 1.25, 1.5))


def _chirp(seconds: float, seed: int) -> np.ndarray:
    t, rise = _times(seconds), np.random.default_rng(seed).uniform(100, 1000)
    return 0.3 * np.sin(2 * np.pi * (100 + rise * t / 2) * t)


def _times(seconds: float) -> np.ndarray:
    return np.arange(round(seconds * RATE)) / RATE


# Name -> function of a duration in seconds and a random seed that returns the sound (samples,).
JUNK: dict[str, Callable[[float, int], np.ndarray]] = {
    "digital silence": lambda seconds, seed: np.zeros(len(_times(seconds))),
    "an offset": lambda seconds, seed: np.full(len(_times(seconds)), 0.3),
    "noise at -80 dB": _quiet,
    "a click": _click,
    "clicks": _clicks,
    "a tone": _tone,
    "white noise": _white,
    "a chord": _chord,
    "a chirp": _chirp,
}
