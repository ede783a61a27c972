"""What the values of samples tell: samples that are no sound on a scale from -1 to 1, and levels to doubt.

Integers that a program stored as floats, or in wider integers, without scaling them look like very loud or very quiet
sound. They are told from it by their steps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .channels import mean

Sound = NDArray[np.float32]  # (samples, channels)

# Largest amplitude, where 1 is full scale: 24 dB above it. Floats may exceed full scale: recorders with floats, mixing,
# and decoders of MP3 and AAC do.
MAX_AMPLITUDE = 16.0
# Amplitude above which a clip is doubted: 12 dB above full scale. Measured on MP3, AAC, Opus and Vorbis of 16 to 128
# kbit/s, which were decoded again: hard-clipped speech reaches 2.1, noise whose samples are all at full scale 3.9.
LOUD = 4.0
SILENT = 1e-4  # a clip whose mixdown has a smaller half range is silent
# Largest values of integers by their number of bits, which are full scale.
FULL_SCALE = {8: 2.0**7, 16: 2.0**15, 24: 2.0**23, 32: 2.0**31}
# Smallest peak, in steps of 32 bits, that is taken for a sound of 16 bits: 42 dB above their step. Less is noise.
LEAST_PEAK = 256.0


def find_array_fault(wave: object, dimensions: tuple[int, ...] = (1,)) -> str:
    """Return what an object is if it is no array of floats with one of these numbers of dimensions, or ""."""
    if not isinstance(wave, np.ndarray) or isinstance(wave, np.ma.MaskedArray):
        return type(wave).__name__
    is_waveform = wave.ndim in dimensions and wave.shape[1:] != (0,) and np.issubdtype(wave.dtype, np.floating)
    return "" if is_waveform else f"{wave.dtype} {wave.shape}"


def find_sample_fault(sound: Sound, most: float = MAX_AMPLITUDE) -> str:
    """Return why samples are no sound: NaN, infinity, whole numbers, or above `most`. "" if nothing is wrong."""
    if bad := int(np.count_nonzero(~np.isfinite(sound))):
        return f"{bad} of {sound.size} samples are NaN or infinite"
    loudest = peak(sound)
    if 1 < loudest <= FULL_SCALE[32] and bool((sound == np.rint(sound)).all()):
        return f"all samples are whole numbers up to {loudest:.0f}: unscaled integers; divide {_divisors(loudest)}"
    return f"a sample is {loudest:.1e}, where 1 is full scale" if loudest > most else ""


def find_narrow_fault(sound: Sound) -> str:
    """Return why a whole recording is no sound: integers of 16 bits that were stored as such of 32 bits, or "".

    Its samples are then multiples of the step of 32 bits, not all of them of that of 24 bits, and below -96 dB.
    """
    low, high = LEAST_PEAK / FULL_SCALE[32], FULL_SCALE[16] / FULL_SCALE[32]
    if low <= peak(sound) <= high and _is_of_steps(sound, 32) and not _is_of_steps(sound, 24):
        return "its samples are 16-bit values in 32 bits, 96 dB too quiet: multiply them by 65536"
    return ""


def find_level_doubt(sound: Sound) -> str:
    """Return what a recording has if its level is odd, as the end of a sentence on it; "" if it is not."""
    if half_range(sound) < SILENT:
        return f"silence: a signal that varies by less than {SILENT:g} of full scale"
    if peak(sound) > LOUD:
        return f"samples above {LOUD:g}, where 1 is full scale"
    if peak(sound) <= FULL_SCALE[24] / FULL_SCALE[32] and _is_of_steps(sound, 32) and not _is_of_steps(sound, 24):
        return "samples in the lowest 24 of 32 bits, as 24-bit values that were not multiplied by 256"
    return ""


def peak(sound: Sound) -> float:
    """Return the largest absolute sample; 0 if there is none."""
    return float(max(sound.max(initial=0), -sound.min(initial=0)))


def half_range(sound: Sound) -> float:
    """Return half the distance from the lowest to the highest sample of the mean of the channels; 0 for no samples."""
    return float(np.ptp(mean(sound)) / 2) if len(sound) else 0.0


def _is_of_steps(sound: Sound, bits: int) -> bool:
    """Whether all samples are multiples of the step of integers of so many bits."""
    steps = sound * np.float32(FULL_SCALE[bits])  # exact, since the factor is a power of two
    return bool((steps == np.rint(steps)).all())


def _divisors(loudest: float) -> str:
    """Return by what integers up to a value are divided: `8-bit integers by 128, 16-bit ones by 32768, …`."""
    able = [(bits, full) for bits, full in FULL_SCALE.items() if full >= loudest]
    return ", ".join(f"{bits}-bit ones by {full:.0f}" for bits, full in able).replace("ones", "integers", 1)
