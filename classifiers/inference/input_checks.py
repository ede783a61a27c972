"""Reasons to doubt a prediction: silence, a click, a sound unlike the training clips, a clip too short or too long.

A head always ranks one of its labels first. A clip without audible sound gets no label, and equal probabilities. A clip
that is unlike the training clips of a model keeps its label, but is given less confidence, the less the farther it is
from them. Both get notes, sentences for people, as do clips that are shorter, longer, quieter, louder or of a narrower
band than the training clips, and those of which a model used only a part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embedcache.audio.channels import level
from embedcache.audio.decode import Waveform, middle

from ..saved.training_sound import MeasuredSound, TrainingSound
from .windows import AudioClip

FRAME = 0.025  # length of the frames whose level is measured, in seconds
# Measured on every third of RAVDESS's 1440 clips, all acted in quiet rooms: the quietest has 0.35 s above this level.
AUDIBLE = -60.0  # root-mean-square level above which a frame is audible, in dB of full scale
MIN_AUDIBLE = 0.1  # shortest audible sound that is judged, in seconds; a click has at most 0.05 s
SHORT = 0.5  # clips below this duration get a note, in seconds, if the training clips are unknown; that of a word
# Clips longer than this many times the part that the model uses get a note. Heads over frames use about half of a clip
# in training, too.
CUT = 3.0
LONG = 30.0  # clips above this duration get a note, in seconds, if the training clips are unknown; few are longer
FACTOR = 2.0  # clips so many times shorter than the shortest training clip, or longer than the longest, get a note
FAR = 20.0  # clips so much quieter than the quietest training clip, or louder than the loudest, get a note, in dB


@dataclass(frozen=True)
class ExpectedInput:
    """What models expect of a clip."""

    used_seconds: float = float("inf")  # longest part of a clip that the models use, in seconds: its middle
    sounds: tuple[TrainingSound, ...] = ()  # how the training clips of each model sound, of models that know it


@dataclass(frozen=True)
class CheckedInput:
    """What was found of a clip: reasons to doubt its prediction."""

    silence: str  # why there is too little audible sound to judge, as a sentence; "" if there is enough
    notes: tuple[str, ...]  # reasons to doubt the prediction, as sentences
    distance: float | None = None  # distance from the training clips, see `TrainingSound.distance`; None if unknown

    @property
    def weight(self) -> float:
        """What the probabilities of the models count, from 0 to 1, against equal probabilities for all labels.

        The square was chosen, not fitted: a sound of a distance just above 1 loses little, one of 2 three quarters.
        """
        return 0.0 if self.silence else 1.0 if self.distance is None else min(1.0, self.distance**-2)


def check_input(clip: AudioClip, expected: ExpectedInput) -> CheckedInput:
    """Check a clip before its prediction is shown. The distance is that from the model to which the clip is least like.

    Silence is looked for in the part of the clip that the models use.
    """
    silence = nothing_audible(middle(clip.wave, round(min(expected.used_seconds, clip.seconds) * clip.rate)), clip.rate)
    if silence:
        return CheckedInput(silence, (silence,))
    if not expected.sounds:
        return CheckedInput("", input_notes(clip, expected.used_seconds))
    measured = MeasuredSound.of(clip.wave, clip.rate, clip.native_rate)
    distance, sound = max(((sound.distance(measured), sound) for sound in expected.sounds), key=lambda pair: pair[0])
    return CheckedInput("", _unlike(distance) + input_notes(clip, expected.used_seconds, sound), distance)


def _unlike(distance: float) -> tuple[str, ...]:
    """Return a note on a sound that is unlike the training clips; none for one that is like them."""
    if distance <= 1:
        return ()
    return (
        f"Unlike the training clips: the sound is {distance:.2g} times as far from their average as all but 1 % of "
        "them, so the confidence was lowered. Is it one voice, without noise or music?",
    )


def nothing_audible(wave: Waveform, rate: int) -> str:
    """Return the reason, as a sentence, why a waveform has too little audible sound to judge; "" if it has enough."""
    seconds = audible_seconds(wave, rate)
    if seconds >= MIN_AUDIBLE:
        return ""
    if not seconds:
        return f"Silence: nothing is louder than {AUDIBLE:.0f} dB of full scale. Is the microphone on?"
    seconds = min(seconds, len(wave) / rate)  # the last frame is padded
    return f"Only {seconds * 1000:.0f} ms are louder than {AUDIBLE:.0f} dB of full scale: a click, not speech."


def input_notes(
    clip: AudioClip, used_seconds: float = float("inf"), sound: TrainingSound | None = None
) -> tuple[str, ...]:
    """Return notes on how a clip differs from the clips that a model was fitted on, `sound` if it is known how.

    Models use at most the middle `used_seconds` of a clip.
    """
    seconds, native_rate = clip.seconds, clip.native_rate
    cut = seconds > CUT * used_seconds
    short, long = (sound.shortest / FACTOR, sound.longest * FACTOR) if sound else (SHORT, LONG)
    rate = min(clip.rate, sound.lowest_rate) if sound else clip.rate
    theirs = f" The training clips last {sound.shortest:.1f} to {sound.longest:.1f} s." if sound else ""
    notes = {
        f"Short: the clip lasts {seconds:.2f} s.{theirs or ' Record a whole sentence.'}": seconds < short,
        f"Cut: the clip lasts {seconds:.1f} s, and only its middle {used_seconds:.1f} s were used. Predict it in "
        "windows.": cut,
        f"Long: the clip lasts {seconds:.0f} s and was predicted as a whole.{theirs} Predict it in windows to see how "
        "it changes.": not cut and seconds > long,
        f"Narrow: the sample rate of the recording is {native_rate:,} Hz, so it contains nothing above "
        f"{native_rate / 2000:g} kHz. The training clips reach {rate / 2000:g} kHz.": native_rate < rate,
        f"Channels: the recording has {clip.channel_doubt}. Their mean was predicted. Choose one channel with "
        "--channel.": clip.channel_doubt != "",
        f"Level: the recording has {clip.level_doubt}. Write it again from its source.": clip.level_doubt != "",
        **(_level_note(clip, sound) if sound else {}),
    }
    return tuple(note for note, applies in notes.items() if applies)


def _level_note(clip: AudioClip, sound: TrainingSound) -> dict[str, bool]:
    """Return a note on a clip that is far quieter or louder than the training clips, and whether it applies."""
    found = level(clip.wave)
    text = f"Level: {found:.0f} dB of full scale; the training clips have {sound.quietest:.0f} to {sound.loudest:.0f}."
    return {text: not sound.quietest - FAR <= found <= sound.loudest + FAR}


def audible_seconds(wave: Waveform, rate: int) -> float:
    """Return the seconds of a waveform whose level, after removing the mean, is above `AUDIBLE`."""
    if not len(wave):
        return 0.0
    width = round(FRAME * rate)
    frames = np.pad(wave - wave.mean(), (0, -len(wave) % width)).reshape(-1, width)
    level = np.sqrt(np.mean(frames**2, axis=1, dtype=np.float64))
    return FRAME * int(np.count_nonzero(level > 10 ** (AUDIBLE / 20)))
