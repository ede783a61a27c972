"""Levels: integers that were not scaled are told from loud and from quiet sound, and odd levels are noted."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.sounds import noise, write
from hypothesis import given
from hypothesis import strategies as st

from embedcache import AudioError, Recording
from embedcache.audio.levels import find_level_doubt, find_narrow_fault, find_sample_fault

SOUND = noise(0.2, seed=3)[:, None].astype(np.float32)  # peak about 0.7


@pytest.mark.parametrize(
    ("scale", "divide"),
    [
        (8.0, "8-bit integers by 128, 16-bit ones by 32768, 24-bit ones by 8388608, 32-bit ones by 2147483648"),
        (128.0, "8-bit integers by 128"),
        (32_767.0, "divide 16-bit integers by 32768, 24-bit ones"),
        (2.0**23 - 1, "divide 24-bit integers by 8388608, 32-bit ones"),
        (2.0**31 - 1, "divide 32-bit integers by 2147483648"),
    ],
)
def test_integers_that_were_stored_as_floats_are_refused_at_any_peak(tmp_path: Path, scale: float, divide: str) -> None:
    path = write(tmp_path / "a.wav", np.rint(SOUND * scale), subtype="FLOAT")
    with pytest.raises(AudioError, match="whole numbers up to [0-9]+: unscaled integers; divide ") as error:
        Recording.load(path).sound()
    assert divide in str(error.value)


@given(st.floats(1.05, 22.0), st.integers(0, 99))
def test_a_recording_beyond_full_scale_is_sound(gain: float, seed: int) -> None:
    loud = (gain * SOUND).astype(np.float32) + np.float32(seed * 1e-3)
    assert ("where 1 is full scale" in find_sample_fault(loud)) == (np.abs(loud).max() > 16)
    assert ("samples above 4" in find_level_doubt(loud)) == (np.abs(loud).max() > 4)


def test_full_scale_and_silence_are_no_integers() -> None:
    square = np.sign(SOUND)
    for sound in (square, 0 * square, square[:0]):
        assert find_sample_fault(sound) == find_narrow_fault(sound) == ""
    assert find_level_doubt(square) == ""


def as_32_bits(integers: np.ndarray, path: Path) -> Recording:
    soundfile.write(path, integers.astype(np.int32), 16_000, subtype="PCM_32")
    return Recording.load(path)


def test_16_bits_in_32_are_told_from_quiet_sound(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="16-bit values in 32 bits, 96 dB too quiet: multiply them by 65536"):
        as_32_bits(np.rint(SOUND * 32_767), tmp_path / "a.wav").sound()
    right = as_32_bits(np.rint(SOUND * 32_767) * 65_536, tmp_path / "b.wav").sound()[0]
    np.testing.assert_allclose(right, SOUND, atol=2**-14)
    noises = np.random.default_rng(0).integers(-3, 4, (3200, 1))
    for dither in (noises, 256 * noises):  # of 32 and of 24 bits
        assert find_level_doubt(as_32_bits(dither, tmp_path / "c.wav").sound()[0]).startswith("silence")
    quiet = SOUND * np.float32(2e-5)  # floats have other steps
    assert find_narrow_fault(quiet) == ""


def test_24_bits_in_32_are_doubted(tmp_path: Path) -> None:
    low = as_32_bits(np.rint(SOUND * (2**23 - 1)), tmp_path / "a.wav").sound()[0]
    assert find_level_doubt(low).startswith("samples in the lowest 24 of 32 bits")
    for sound in (256 * low, np.float32(2**-9) * SOUND, np.rint(SOUND * 2**14) / np.float32(2**23)):
        assert find_level_doubt(sound.astype(np.float32)) == ""


@pytest.mark.parametrize("gain", [0.0, 1e-30, 1e-6])
def test_silence_is_doubted(gain: float) -> None:
    assert find_level_doubt(np.float32(gain) * SOUND).startswith("silence: a signal that varies by less than 0.0001")
    assert find_level_doubt(np.float32(gain) * SOUND + np.float32(0.5)).startswith("silence")


def test_the_loudest_decoded_sound_is_not_doubted() -> None:
    """Noise whose samples are all at full scale, decoded from MP3: the codec exceeds no sound more."""
    import io

    file = io.BytesIO()
    signs = np.sign(np.random.default_rng(0).standard_normal(32_000))
    soundfile.write(file, signs, 16_000, format="MP3")
    sound = Recording.of(file.getvalue(), "a.mp3").sound()[0]
    assert 1.5 < np.abs(sound).max() < 4
    assert find_level_doubt(sound) == find_sample_fault(sound) == ""
