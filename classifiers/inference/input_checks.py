"""Reasons to doubt a prediction, whatever the model: silence, a click, a clip too short or too long, a narrow band.

A head always ranks one of its labels first. A clip without audible sound gets no label. A clip that is unlike the clips
models are trained on, or of which a model used only a part, gets notes: sentences for people. Music and noise are not
recognised.
"""

from __future__ import annotations

import numpy as np

from embedcache.audio.decode import Waveform

from .windows import AudioClip

FRAME = 0.025  # length of the frames whose level is measured, in seconds
# Measured on every third of RAVDESS's 1440 clips, all acted in quiet rooms: the quietest has 0.35 s above this level.
AUDIBLE = -60.0  # root-mean-square level above which a frame is audible, in dB of full scale
MIN_AUDIBLE = 0.1  # shortest audible sound that is judged, in seconds; a click has at most 0.05 s
SHORT = 0.5  # clips below this duration get a note, in seconds; a word lasts about as long
# Clips longer than this many times the part that the model uses get a note. Heads over frames use about half of a clip
# in training, too.
CUT = 3.0
LONG = 30.0  # clips above this duration get a note, in seconds; only a few clips of all datasets here are longer


def nothing_audible(wave: Waveform, rate: int) -> str:
    """Return the reason, as a sentence, why a waveform has too little audible sound to judge; "" if it has enough."""
    seconds = audible_seconds(wave, rate)
    if seconds >= MIN_AUDIBLE:
        return ""
    if not seconds:
        return f"Silence: nothing is louder than {AUDIBLE:.0f} dB of full scale. Is the microphone on?"
    return f"Only {seconds * 1000:.0f} ms are louder than {AUDIBLE:.0f} dB of full scale: a click, not speech."


def input_notes(clip: AudioClip, used_seconds: float = float("inf")) -> tuple[str, ...]:
    """Return notes on how a clip differs from the clips that models are trained on.

    Models use at most the middle `used_seconds` of a clip.
    """
    seconds, rate, native_rate = clip.seconds, clip.rate, clip.native_rate
    cut = seconds > CUT * used_seconds
    notes = {
        f"Short: the clip lasts {seconds:.2f} s. Record a whole sentence.": seconds < SHORT,
        f"Cut: the clip lasts {seconds:.1f} s, and only its middle {used_seconds:.1f} s were used. Predict it in "
        "windows.": cut,
        f"Long: the clip lasts {seconds:.0f} s and was predicted as a whole. Predict it in windows to see how it "
        "changes.": not cut and seconds > LONG,
        f"Narrow: the sample rate of the recording is {native_rate:,} Hz, so it contains nothing above "
        f"{native_rate / 2000:g} kHz.": native_rate < rate,
        f"Channels: the recording has {clip.channel_doubt}. Their mean was predicted. Choose one channel with "
        "--channel.": clip.channel_doubt != "",
        f"Level: the recording has {clip.level_doubt}. Write it again from its source.": clip.level_doubt != "",
    }
    return tuple(note for note, applies in notes.items() if applies)


def audible_seconds(wave: Waveform, rate: int) -> float:
    """Return the seconds of a waveform whose level, after removing the mean, is above `AUDIBLE`."""
    if not len(wave):
        return 0.0
    width = round(FRAME * rate)
    frames = np.pad(wave - wave.mean(), (0, -len(wave) % width)).reshape(-1, width)
    level = np.sqrt(np.mean(frames**2, axis=1, dtype=np.float64))
    return FRAME * int(np.count_nonzero(level > 10 ** (AUDIBLE / 20)))
