"""A synthetic dataset: eight speakers say one sentence in eight emotions, twice, with the file names of RAVDESS.

The voice is a source-filter model (Fant 1960) in numpy. Its source is a pulse train with a moving pitch, mixed with
breath noise. The filter has four resonances that move from vowel to vowel, and a loudness contour shapes the result.
Emotions differ in pitch, pitch range, level, rate, spectral tilt and breathiness, roughly as the literature describes
them (Scherer 2003). Speakers differ in the same properties, and more than emotions do. A split that mixes speakers
therefore scores visibly higher than a speaker-independent one. The dataset tests whether a pipeline works; it teaches
nothing about emotion.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .datasets.ravdess import EMOTIONS
from .files.atomic import atomic_write

RATE = 16_000  # sample rate in Hz
SEED = 20
SPEAKERS = 8  # number of speakers
TAKES = 2  # number of times that a speaker says the sentence in each emotion
GRID = 800  # in samples: durations are multiples of 50 ms, since a network is slower if all durations differ

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Manner:
    """A manner of speaking, relative to the speaker's average."""

    pitch: float  # factor on the mean pitch
    range: float  # factor on the pitch range
    level: float  # change of the level in dB
    rate: float  # factor on the speaking rate
    tilt: float  # change of the source's spectral tilt in dB per octave; higher is brighter
    breath: float  # share of noise in the source, from 0 to 1


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
# The first three resonances of five vowels in Hz, after Peterson & Barney (1952). The fourth is always 3,500 Hz.
VOWELS = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}
SENTENCES = {"01": "aieoua"}  # RAVDESS's code of a sentence -> its vowels
BANDWIDTHS = (80, 100, 140, 200)  # bandwidths of the four resonances in Hz


def write_sample(root: str | Path) -> Path:
    """Write 128 WAV files of about 0.5 s below `root`: 8 speakers x 8 emotions x 2 takes. Existing files are kept."""
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
    """Return one clip, (samples,) in [-1, 1] at 16 kHz. The same arguments give the same samples."""
    habit = np.random.default_rng([SEED, actor])
    rng = np.random.default_rng([SEED, actor, list(MANNERS).index(emotion), int(sentence), take])
    female = actor % 2 == 0
    mean_pitch = (205 if female else 115) * 2 ** habit.normal(0, 0.2)  # Hz
    tract = (1.14 if female else 0.98) * 2 ** habit.normal(0, 0.07)  # factor on the resonances
    speaker = Manner(
        1.0, 2 ** habit.normal(0, 0.5), habit.normal(0, 4), 2 ** habit.normal(0, 0.2), habit.normal(0, 1.5), 1.0
    )
    acted = _act(MANNERS[emotion], habit, rng)
    n = GRID * round(RATE * 0.45 / (acted.rate * speaker.rate) / GRID)
    pitch = mean_pitch * acted.pitch * _make_melody(n, 0.12 * acted.range * speaker.range, rng)
    source = _make_source(pitch, acted.tilt + speaker.tilt, acted.breath, rng)
    sound = _filter(source, SENTENCES[sentence], tract) * _make_loudness(n, len(SENTENCES[sentence]))
    sound = sound / np.sqrt(np.mean(sound**2)) * 10 ** ((acted.level + speaker.level - 28) / 20)
    noise = 10 ** (-62 / 20) * rng.standard_normal(n)
    clip: Floats = np.clip(sound + noise, -0.99, 0.99)
    return clip


def write_wav(path: Path, wave: Floats, rate: int = RATE) -> None:
    """Write a waveform (samples,) in [-1, 1] to a 16-bit mono WAV file, which is complete or absent afterwards."""
    with atomic_write(path, "wb") as file:
        file.write(wav_bytes(wave, rate))


def wav_bytes(wave: Floats, rate: int = RATE) -> bytes:
    """Return the bytes of a 16-bit mono WAV file with the waveform (samples,) in [-1, 1]."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, wave, rate, subtype="PCM_16", format="WAV")
    return file.getvalue()


def _act(manner: Manner, habit: np.random.Generator, rng: np.random.Generator) -> Manner:
    """Return the manner of an emotion as one speaker acts it in one take.

    Each property moves away from the neutral manner by a random strength, 0.8 on average. The speaker's part of the
    strength comes from `habit` and is the same in all takes; the smaller part of the take comes from `rng`.
    """
    strength = np.clip(habit.normal(0.8, 0.3, 6) + rng.normal(0, 0.1, 6), 0.1, 1.6)
    neutral = MANNERS["neutral"]
    values = []
    for name, weight in zip(Manner.__dataclass_fields__, strength, strict=True):
        begin, end = getattr(neutral, name), getattr(manner, name)
        values.append(begin + weight * (end - begin))
    return Manner(*values)


def _make_melody(n: int, depth: float, rng: np.random.Generator) -> Floats:
    """Return the pitch contour as a factor (n,): a falling line with two accents and a tremor."""
    t = np.linspace(0, 1, n)
    accent = np.exp(-((t - rng.uniform(0.2, 0.45)) ** 2) / 0.01) + 0.6 * np.exp(
        -((t - rng.uniform(0.6, 0.85)) ** 2) / 0.008
    )
    tremor = 0.01 * np.cumsum(rng.standard_normal(n)) / np.sqrt(n)
    factor: Floats = 2 ** (depth * (1.5 * accent - 1.2 * t) + tremor)
    return factor


def _make_source(pitch: Floats, tilt: float, breath: float, rng: np.random.Generator) -> Floats:
    """Return the source (n,): the harmonics of `pitch` (n,), in Hz, mixed with breath noise.

    The harmonics reach up to 7 kHz and fall by 9 dB per octave; `tilt` in dB per octave is added to that slope.
    """
    first = np.cos(2 * np.pi * np.cumsum(pitch) / RATE)
    source = np.zeros_like(pitch)
    previous, harmonic = np.ones_like(pitch), first
    for k in range(1, int(7000 / pitch.max()) + 1):
        source += k ** ((-9 + tilt) / 6.02) * harmonic
        previous, harmonic = harmonic, 2 * first * harmonic - previous  # cos((k + 1) x), by Chebyshev's recurrence
    noise = rng.standard_normal(len(pitch))
    mixed: Floats = (1 - breath) * source / np.sqrt(np.mean(source**2)) + breath * noise
    return mixed


def _filter(source: Floats, vowels: str, tract: float) -> Floats:
    """Return the source (n,) filtered by the resonances of the vowels, which follow each other with cross-fades."""
    from scipy.signal import lfilter

    n = len(source)
    centres = (np.arange(len(vowels)) + 0.5) / len(vowels)
    t = np.linspace(0, 1, n)
    sound: Floats = np.zeros(n)
    for vowel, centre in zip(vowels, centres, strict=True):
        share = np.clip(1.5 - np.abs(t - centre) * len(vowels), 0, 1)
        filtered = source
        for hertz, width in zip((*VOWELS[vowel], 3500), BANDWIDTHS, strict=True):
            radius = np.exp(-np.pi * width / RATE)
            angle = 2 * np.pi * min(hertz * tract, 7500) / RATE
            poles = [1, -2 * radius * np.cos(angle), radius**2]
            filtered = lfilter([sum(poles)], poles, filtered)
        sound += share * filtered
    return sound


def _make_loudness(n: int, syllables: int) -> Floats:
    """Return the loudness contour as a factor (n,): one maximum for each syllable, and silence at both ends."""
    t = np.linspace(0, 1, n)
    ends: Floats = np.clip(np.minimum(t, 1 - t) * 20, 0, 1)
    loudness: Floats = ends * (0.35 + 0.65 * np.abs(np.sin(np.pi * syllables * t)))
    return loudness
