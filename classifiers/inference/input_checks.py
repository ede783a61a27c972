"""What makes an answer doubtful, whatever the model says: silence, a click, too short, too long, a narrow band.

A head always finds one of its labels likeliest. Where there is nothing to hear, that is not said; where the sound is
unlike what models are trained on, or little of it is heard, a sentence says so. Music and noise are not recognised.
"""

from __future__ import annotations

import numpy as np

from embedcache.audio.decode import Waveform

FRAME = 0.025  # seconds that a level is taken over
# Of RAVDESS's 1440 clips, all acted in quiet rooms, each third was measured: the quietest has 0.35 s above this level.
AUDIBLE = -60.0  # dB of full scale, root mean square
LEAST = 0.1  # seconds above it: a click has 0.05 at most
SHORT = 0.5  # seconds: a word
CUT = 3.0  # times what is heard: heads over frames hear about half of a clip in training, too
LONG = 30.0  # seconds: longer than the clips of all datasets here but a few


def nothing_audible(wave: Waveform, rate: int) -> str:
    """Why there is nothing to judge in a waveform, as a sentence; "" where there is."""
    seconds = audible(wave, rate)
    if seconds >= LEAST:
        return ""
    if not seconds:
        return f"Silence: nothing is louder than {AUDIBLE:.0f} dB of full scale. Is the microphone on?"
    return f"Only {seconds * 1000:.0f} ms are louder than {AUDIBLE:.0f} dB of full scale: a click, not speech."


def input_notes(seconds: float, rate: int, native: int, hears: float = float("inf")) -> tuple[str, ...]:
    """What sets a clip apart from those that models learn from: its duration, its rate `native` in Hz, a cut.

    `hears` is how many of its seconds reach the model.
    """
    cut = seconds > CUT * hears
    found = {
        f"Short: it lasts {seconds:.2f} s. Say a whole sentence.": seconds < SHORT,
        f"Cut: it lasts {seconds:.1f} s, and the middle {hears:.1f} s alone were heard. Hear it in windows.": cut,
        f"Long: it lasts {seconds:.0f} s and was heard as one clip. Windows show how it changes.": (
            not cut and seconds > LONG
        ),
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
