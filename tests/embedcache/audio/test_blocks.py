"""Decoding in blocks gives the samples of the whole file, and finds what is wrong with it."""

import io

import numpy as np
import pytest
import soundfile
from helpers.sounds import noise

from embedcache import AudioError, Recording
from embedcache.audio import decode

WAVE = np.stack([noise(23.3, 44_100), 0.5 * noise(23.3, 44_100, seed=1)], 1)


def recording(kind: str, cut: float = 1.0) -> Recording:
    file = io.BytesIO()
    soundfile.write(file, WAVE, 44_100, format=kind)
    return Recording.of(file.getvalue()[: round(cut * len(file.getvalue()))], f"a.{kind}")


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_blocks_are_the_whole_file(kind: str) -> None:
    blocks = list(recording(kind).blocks())
    whole, rate = recording(kind).sound()
    np.testing.assert_array_equal(np.concatenate([block.sound for block in blocks]), whole)
    assert {block.rate for block in blocks} == {rate}
    assert blocks[0].declared == pytest.approx(23.3, abs=0.01)
    assert len(blocks) == 3
    assert max(len(block.sound) for block in blocks) < 10.1 * rate


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_file_that_is_cut_is_found_out(kind: str) -> None:
    with pytest.raises(AudioError, match=r"truncated|cannot be decoded"):
        list(recording(kind, cut=0.6).blocks())


def test_blocks_have_bounds_of_time_and_of_samples_in_a_block() -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((3_000_000, 8), np.float32), 600_000, format="FLAC")
    sizes = [block.sound.size for block in Recording.of(file.getvalue(), "a").blocks()]
    assert (max(sizes), sum(sizes)) == (10_000_000, 24_000_000)
    with pytest.raises(AudioError, match="lasts 5 s; wanted at most 2 s"):
        next(Recording(recording("WAV").path, file.getvalue(), longest=2.0).blocks())


def test_blocks_of_ffmpeg_have_a_bound_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "BLOCK_SAMPLES", 100_000)
    sizes = [block.sound.size for block in recording("MP3").blocks()]
    assert 100_000 <= max(sizes) < 105_000
    assert sum(sizes) == recording("MP3").sound()[0].size


def test_who_stops_reading_ends_the_decoder() -> None:
    blocks = recording("MP3").blocks()
    next(blocks)
    blocks.close()


def test_the_number_of_samples_is_bounded() -> None:
    for kind in ("WAV", "MP3"):
        sound = recording(kind)
        with pytest.raises(AudioError, match="more than 1,000,000 samples|wanted at most 1,000,000 samples"):
            Recording(sound.path, sound.data, max_samples=1_000_000).waveform(16_000)
