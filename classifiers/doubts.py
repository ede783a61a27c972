"""What makes an answer doubtful, whatever the model says: silence, a click, too short, too long, a narrow band.

A head always names one of its labels. Where there is nothing to hear it is not asked; where the sound is unlike what
models are trained on, the answer comes with a sentence that says so. Music and noise are not recognised as such.
"""

from __future__ import annotations

import numpy as np

from embedcache.audio import Waveform

FRAME = 0.025  # seconds that a level is taken over
# Of RAVDESS's 1440 clips, all acted in quiet rooms, each third was measured: the quietest has 0.35 s above this level.
AUDIBLE = -60.0  # dB of full scale, root mean square
LEAST = 0.1  # seconds above it: a click has 0.05 at most
SHORT = 0.5  # seconds: a word
LONG = 30.0  # seconds: longer than the clips of all datasets here but a few


def nothing(wave: Waveform, rate: int) -> str:
    """Why there is nothing to judge in a waveform, as a sentence; "" where there is."""
    seconds = audible(wave, rate)
    if seconds >= LEAST:
        return ""
    if not seconds:
        return f"Silence: nothing is louder than {AUDIBLE:.0f} dB of full scale. Is the microphone on?"
    return f"Only {seconds * 1000:.0f} ms are louder than {AUDIBLE:.0f} dB of full scale: a click, not speech."


def doubts(seconds: float, rate: int, native: int) -> tuple[str, ...]:
    """What sets a clip apart from those that models learn from: its duration, or its rate `native` in Hz."""
    found = {
        f"Short: it lasts {seconds:.2f} s. Say a whole sentence.": seconds < SHORT,
        f"Long: it lasts {seconds:.0f} s and was heard as one clip. Windows show how it changes.": seconds > LONG,
        f"Narrow: it has {native:,} samples a second, so nothing above {native / 2000:g} kHz is heard.": native < rate,
    }
    return tuple(sentence for sentence, holds in found.items() if holds)


def audible(wave: Waveform, rate: int) -> float:
    """Seconds of a waveform whose level, without its mean, is above `AUDIBLE`."""
    width = round(FRAME * rate)
    beyond = -len(wave) % width
    if not len(wave):
        return 0.0
    frames = np.pad(wave - wave.mean(), (0, beyond)).reshape(-1, width)
    level = np.sqrt(np.mean(frames**2, axis=1, dtype=np.float64))
    return FRAME * int(np.count_nonzero(level > 10 ** (AUDIBLE / 20)))
