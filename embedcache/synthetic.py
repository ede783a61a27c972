"""A synthetic sample: eight made-up speakers say one sentence in eight emotions, twice, under RAVDESS's names.

A source-filter voice in numpy (Fant 1960): pulses at a moving pitch plus breath, through four resonances that move
from vowel to vowel, and a loudness contour. Emotions differ in pitch, its range, loudness, rate, tilt and breath, much
as they are said to (Scherer 2003); speakers differ in all of these too, and more, so that a split that is blind to
speakers scores visibly higher than one that is not. It shows that a pipeline works, and nothing about emotion.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .datasets.ravdess import EMOTIONS
from .files.atomic import atomic_write

RATE = 16_000
SEED = 20
SPEAKERS = 8
TAKES = 2  # of the sentence
GRID = 800  # samples: lengths are multiples of 50 ms, for a network pays for every new length

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Manner:
    """How something is said, as factors on the speaker's own habit."""

    pitch: float  # factor on the mean pitch
    range: float  # factor on its movement
    level: float  # dB
    rate: float  # factor on the speed
    tilt: float  # dB an octave on the source: higher is brighter
    breath: float  # share of noise in the source


MANNERS = {
    "neutral": Manner(1.00, 0.60, 0, 1.00, 0.0, 0.05),
    "calm": Manner(0.93, 0.50, -5, 0.86, -1.5, 0.10),
    "happy": Manner(1.28, 1.50, 4, 1.10, 1.5, 0.05),
    "sad": Manner(0.90, 0.45, -8, 0.80, -2.5, 0.14),
    "angry": Manner(1.22, 1.20, 9, 1.16, 3.5, 0.03),
    "fearful": Manner(1.42, 0.80, 1, 1.24, 0.8, 0.16),
    "disgust": Manner(0.97, 1.00, 0, 0.90, 0.5, 0.20),
    "surprised": Manner(1.45, 2.00, 5, 1.02, 1.0, 0.08),
}
# First three resonances in Hz of five vowels (after Peterson & Barney 1952); a fourth lies at 3,500.
VOWELS = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}
SENTENCES = {"01": "aieoua"}
BANDWIDTHS = (80, 100, 140, 200)


def write_sample(root: str | Path) -> Path:
    """Write the sample's WAV files below `root`: 8 speakers x 8 emotions x 2 takes, about 0.5 s each."""
    root = Path(root)
    for actor in range(1, SPEAKERS + 1):
        for code, emotion in EMOTIONS.items():
            for sentence in SENTENCES:
                for take in range(1, TAKES + 1):
                    path = root / f"Actor_{actor:02d}" / f"03-01-{code}-01-{sentence}-{take:02d}-{actor:02d}.wav"
                    if not path.exists():
                        write_wav(path, voice(actor, emotion, sentence, take))
    return root


def voice(actor: int, emotion: str, sentence: str, take: int) -> Floats:
    """One clip (samples,) in [-1, 1] at 16 kHz; the same arguments give the same samples."""
    habit = np.random.default_rng([SEED, actor])
    rng = np.random.default_rng([SEED, actor, list(MANNERS).index(emotion), int(sentence), take])
    female = actor % 2 == 0
    base = (205 if female else 115) * 2 ** habit.normal(0, 0.2)  # Hz
    tract = (1.14 if female else 0.98) * 2 ** habit.normal(0, 0.07)  # factor on the resonances
    own = Manner(
        1.0, 2 ** habit.normal(0, 0.5), habit.normal(0, 4), 2 ** habit.normal(0, 0.2), habit.normal(0, 1.5), 1.0
    )
    quirk = _blend(MANNERS[emotion], habit, rng)
    n = GRID * round(RATE * 0.45 / (quirk.rate * own.rate) / GRID)
    pitch = base * quirk.pitch * _melody(n, 0.12 * quirk.range * own.range, rng)
    source = _source(pitch, quirk.tilt + own.tilt, quirk.breath, rng)
    sound = _filter(source, SENTENCES[sentence], tract) * _loudness(n, len(SENTENCES[sentence]))
    sound = sound / np.sqrt(np.mean(sound**2)) * 10 ** ((quirk.level + own.level - 28) / 20)
    noise = 10 ** (-62 / 20) * rng.standard_normal(n)
    clip: Floats = np.clip(sound + noise, -0.99, 0.99)
    return clip


def write_wav(path: Path, wave: Floats, rate: int = RATE) -> None:
    """A 16-bit mono WAV file, complete or absent."""
    with atomic_write(path, "wb") as file:
        file.write(wav_bytes(wave, rate))


def wav_bytes(wave: Floats, rate: int = RATE) -> bytes:
    """A 16-bit mono WAV file."""
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, wave, rate, subtype="PCM_16", format="WAV")
    return out.getvalue()


def _blend(manner: Manner, habit: np.random.Generator, rng: np.random.Generator) -> Manner:
    """An emotion as one speaker acts it: stronger or weaker, by a habit, and by the moment."""
    strength = np.clip(habit.normal(0.8, 0.3, 6) + rng.normal(0, 0.1, 6), 0.1, 1.6)
    neutral = MANNERS["neutral"]
    values = []
    for name, s in zip(Manner.__dataclass_fields__, strength, strict=True):
        a, b = getattr(neutral, name), getattr(manner, name)
        values.append(a + s * (b - a))
    return Manner(*values)


def _melody(n: int, depth: float, rng: np.random.Generator) -> Floats:
    """A falling line with an accent or two and a tremor, as a factor (n,)."""
    t = np.linspace(0, 1, n)
    accent = np.exp(-((t - rng.uniform(0.2, 0.45)) ** 2) / 0.01) + 0.6 * np.exp(
        -((t - rng.uniform(0.6, 0.85)) ** 2) / 0.008
    )
    tremor = 0.01 * np.cumsum(rng.standard_normal(n)) / np.sqrt(n)
    factor: Floats = 2 ** (depth * (1.5 * accent - 1.2 * t) + tremor)
    return factor


def _source(pitch: Floats, tilt: float, breath: float, rng: np.random.Generator) -> Floats:
    """Harmonics of the pitch below 7 kHz that fall by 9 dB an octave, plus the tilt, and breath noise."""
    first = np.cos(2 * np.pi * np.cumsum(pitch) / RATE)
    source = np.zeros_like(pitch)
    before, harmonic = np.ones_like(pitch), first
    for k in range(1, int(7000 / pitch.max()) + 1):
        source += k ** ((-9 + tilt) / 6.02) * harmonic
        before, harmonic = harmonic, 2 * first * harmonic - before  # cos((k + 1) x), by Chebyshev's recurrence
    noise = rng.standard_normal(len(pitch))
    mixed: Floats = (1 - breath) * source / np.sqrt(np.mean(source**2)) + breath * noise
    return mixed


def _filter(source: Floats, vowels: str, tract: float) -> Floats:
    """Each stretch of the source through the resonances of its vowel; neighbours are cross-faded."""
    from scipy.signal import lfilter

    n = len(source)
    centres = (np.arange(len(vowels)) + 0.5) / len(vowels)
    t = np.linspace(0, 1, n)
    sound: Floats = np.zeros(n)
    for vowel, centre in zip(vowels, centres, strict=True):
        share = np.clip(1.5 - np.abs(t - centre) * len(vowels), 0, 1)
        stretch = source
        for hertz, width in zip((*VOWELS[vowel], 3500), BANDWIDTHS, strict=True):
            radius = np.exp(-np.pi * width / RATE)
            angle = 2 * np.pi * min(hertz * tract, 7500) / RATE
            poles = [1, -2 * radius * np.cos(angle), radius**2]
            stretch = lfilter([sum(poles)], poles, stretch)
        sound += share * stretch
    return sound


def _loudness(n: int, syllables: int) -> Floats:
    """A bump a syllable, silence at both ends."""
    t = np.linspace(0, 1, n)
    ends: Floats = np.clip(np.minimum(t, 1 - t) * 20, 0, 1)
    loudness: Floats = ends * (0.35 + 0.65 * np.abs(np.sin(np.pi * syllables * t)))
    return loudness
