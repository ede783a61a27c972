"""Sound that the tests make, and a tree of it under RAVDESS's names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile


def noise(seconds: float, rate: int = 16_000, seed: int = 0, channels: int = 1) -> np.ndarray:
    """Noise with a hum in it: (samples,) or (samples, channels)."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate))[:, None] / rate
    sound = 0.1 * rng.standard_normal((len(t), channels)) + 0.3 * np.sin(2 * np.pi * (110 + 10 * seed) * t)
    return sound[:, 0] if channels == 1 else sound


def write(path: Path, sound: np.ndarray, rate: int = 16_000, subtype: str | None = None) -> Path:
    """A sound file, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate, subtype=subtype)
    return path


def ravdess_tree(root: Path, actors: int = 4, emotions: int = 3, takes: int = 2, seconds: float = 0.2) -> Path:
    """Clips under RAVDESS's names whose hum tells the emotion."""
    for actor in range(1, actors + 1):
        for emotion in range(1, emotions + 1):
            for take in range(1, takes + 1):
                name = f"03-01-{emotion:02d}-01-01-{take:02d}-{actor:02d}.wav"
                sound = noise(seconds, seed=100 * actor + 10 * emotion + take)
                t = np.arange(len(sound)) / 16_000
                write(root / f"Actor_{actor:02d}" / name, sound * 0.3 + 0.2 * np.sin(2 * np.pi * 200 * emotion * t))
    return root
