"""Windows: they hear everything once, and sound that arrives in pieces gives those of the whole."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.sounds import noise, write
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.inference.input_checks import audible_seconds, input_notes, nothing_audible
from classifiers.inference.windows import (
    AudioClip,
    Windows,
    WindowStream,
    clip_from_recording,
    clip_from_waveform,
    spans,
)
from embedcache import AudioError, Recording


@given(st.integers(1, 5000), st.integers(1, 700), st.data())
def test_windows_hear_every_sample_and_end_with_the_sound(length: int, window: int, data: st.DataObject) -> None:
    hop = data.draw(st.integers(1, window))
    found = spans(length, window, hop)
    assert found[0][0] == 0
    assert found[-1][1] == length
    assert {b - a for a, b in found} == {min(length, window)}
    steps = np.diff([a for a, _ in found])
    assert all(steps[:-1] == hop)
    assert all((steps > 0) & (steps <= hop))


@settings(deadline=None, max_examples=25)
@given(st.sampled_from([8000, 16_000, 22_050, 44_100, 48_000]), st.floats(0.01, 1.2), st.data())
def test_sound_in_pieces_gives_the_windows_of_the_whole(native: int, seconds: float, data: st.DataObject) -> None:
    windows = Windows(0.3, data.draw(st.sampled_from([0.3, 0.1, 0.07])))
    wave = noise(seconds, native).astype(np.float32)
    edges = sorted(data.draw(st.lists(st.integers(0, len(wave)), max_size=6)))
    stream = WindowStream(native, 16_000, windows)
    came = [sound for piece in np.split(wave, edges) for sound in stream.push(piece)] + stream.close()
    whole = clip_from_waveform(wave, native, 16_000).wave
    expected = spans(len(whole), *windows.samples(16_000))
    assert [round(sound.begin * 16_000) for sound in came] == [a for a, _ in expected]
    for sound, (a, b) in zip(came, expected, strict=True):
        np.testing.assert_allclose(sound.wave, whole[a:b], atol=1e-6)


def test_what_arrives_is_forgotten_once_it_was_heard() -> None:
    stream = WindowStream(48_000, 16_000, Windows(0.5, 0.25))
    for _ in range(200):
        stream.push(noise(0.1, 48_000).astype(np.float32))
        assert len(stream._buffer) <= 0.5 * 16_000 + 0.25 * 16_000 + 2000
    assert stream.length > 19 * 16_000
    windows = stream.push(noise(60.0, 48_000).astype(np.float32))
    # windows share memory: each keeps at most itself and the chunk with which it was complete
    assert all(sound.wave.base.size <= 0.5 * 16_000 + 1.25 * 16_000 for sound in windows)
    assert (
        sum({id(base): base.nbytes for base in (sound.wave.base for sound in windows)}.values()) < 4 * 2 * 60 * 16_000
    )
    assert len(stream._buffer) <= 2 * 16_000


def test_a_file_is_cut_as_its_waveform_is(tmp_path) -> None:
    recording = Recording.load(write(tmp_path / "two.flac", noise(1.0, 44_100, channels=2), 44_100))
    whole = clip_from_recording(recording, 16_000)
    assert (whole.native_rate, whole.seconds) == (44_100, pytest.approx(1.0, abs=1e-3))
    parts = whole.cut(Windows(0.4, 0.3))
    assert whole.cut(None) == [whole]
    assert [part.begin for part in parts] == pytest.approx([0, 0.3, 0.6])
    np.testing.assert_array_equal(parts[1].wave, whole.wave[4800:11_200])


@pytest.mark.parametrize(
    ("window", "hop"), [(3, 0), (3, -1), (1, 2), (float("inf"), 1), (float("nan"), 1), (1, float("nan"))]
)
def test_windows_that_would_not_hear_all_are_refused(window: float, hop: float) -> None:
    with pytest.raises(
        ValueError, match=r"wanted 0.01 <= hop <= window <= 3600\. A hop longer than the window would skip sound"
    ):
        Windows(window, hop)


@pytest.mark.parametrize(
    ("wave", "rate", "said"),
    [
        (np.zeros(10, np.int16), 16_000, r"got int16 \(10,\); wanted floats.*Divide 16-bit samples by 32768"),
        (np.zeros((2, 2, 2)), 16_000, r"got float64 \(2, 2, 2\)"),
        ([0.0], 16_000, "got list"),
        (np.array([0.0, np.nan]), 16_000, "1 of 2 samples are NaN or infinite"),
        (np.array([0.0, 1e30]), 16_000, "a sample is 1.0e\\+30, where 1 is full scale"),
        (np.zeros((10, 0)), 16_000, r"got float64 \(10, 0\)"),
        (np.zeros(10), 7, "got a sample rate of 7 Hz; wanted 100 to 768,000 Hz"),
    ],
)
def test_what_is_no_waveform_is_refused(wave: object, rate: int, said: str) -> None:
    with pytest.raises(AudioError, match=said):
        clip_from_waveform(wave, rate, 16_000)
    with pytest.raises(AudioError, match=said):
        WindowStream(rate, 16_000, Windows()).push(wave)


def test_silence_and_a_click_are_nothing_to_judge_and_a_quiet_voice_is() -> None:
    silence, click = np.zeros(48_000, np.float32), np.zeros(48_000, np.float32)
    click[20_000:20_016] = 0.9
    assert nothing_audible(silence, 16_000).startswith("Silence: nothing is louder than -60 dB")
    assert nothing_audible(silence + 0.5, 16_000).startswith("Silence")  # a constant is no sound
    assert nothing_audible(click, 16_000).startswith("Only 25 ms are louder")
    assert nothing_audible(0.01 * noise(1.0).astype(np.float32), 16_000) == ""
    assert audible_seconds(noise(1.0).astype(np.float32), 16_000) == pytest.approx(1.0)


def clip(seconds: float, native_rate: int = 16_000, channel_doubt: str = "") -> AudioClip:
    return AudioClip(np.zeros(round(seconds * 16_000), np.float32), 16_000, native_rate, channel_doubt=channel_doubt)


def test_doubts_are_said() -> None:
    assert input_notes(clip(2.0, 44_100)) == ()
    assert [one.partition(":")[0] for one in input_notes(clip(0.2, 8000))] == ["Short", "Narrow"]
    assert "above 4 kHz" in input_notes(clip(0.2, 8000))[1]
    assert [one.partition(":")[0] for one in input_notes(clip(45.0))] == ["Long"]
    (cut,) = input_notes(clip(45.0), used_seconds=3.0)
    assert cut.startswith("Cut: the clip lasts 45.0 s, and only its middle 3.0 s were used. Predict it in windows.")
    assert input_notes(clip(5.0), used_seconds=3.0) == ()
    (level,) = input_notes(replace(clip(2.0), level_doubt="samples above 4, where 1 is full scale"))
    assert level == ("Level: the recording has samples above 4, where 1 is full scale. Write it again from its source.")
    (channels,) = input_notes(clip(2.0, channel_doubt="a channel that is silent"))
    assert channels.startswith("Channels: the recording has a channel that is silent. Their mean was predicted.")


@pytest.mark.parametrize("chunk", [7, 1600, 16_000])
def test_live_sound_is_checked_as_a_waveform_is(chunk: int) -> None:
    sound = noise(1.2).astype(np.float32)

    def live(wave: np.ndarray, axis: int = 0) -> None:
        stream = WindowStream(16_000, 16_000, Windows(0.5, 0.25))
        for piece in np.split(wave, range(chunk, 19_200, chunk), axis=axis):
            stream.push(piece)
        stream.close()

    live(sound)
    live(np.stack([sound, noise(1.2, seed=1).astype(np.float32)], axis=1))
    with pytest.raises(AudioError, match=rf"got \(2, {chunk}\); wanted \(samples, channels\). Transpose the array"):
        live(np.stack([sound, sound]), axis=1)
    with pytest.raises(AudioError, match=rf"got \(1, {chunk}\); wanted \(samples, channels\). Transpose the array"):
        live(sound[None], axis=1)
    with pytest.raises(AudioError, match="its channels are opposite and cancel each other"):
        live(np.stack([sound, -sound], axis=1))
    with pytest.raises(AudioError, match="its channels are opposite"):
        live(np.stack([sound, -sound], axis=1)[:3000])  # noticed at the end
    stream = WindowStream(16_000, 16_000, Windows())
    stream.push(sound)
    with pytest.raises(AudioError, match=r"got \(9600, 2\); wanted 1 channel, as before. Start a new stream"):
        stream.push(sound.reshape(-1, 2))


def test_arrays_that_are_no_recording_are_refused() -> None:
    sound = noise(1.0).astype(np.float32)
    with pytest.raises(AudioError, match=r"got \(2, 16000\); wanted \(samples, channels\). Transpose the array"):
        clip_from_waveform(np.stack([sound, sound]), 16_000, 16_000)
    with pytest.raises(AudioError, match="16-bit values in 32 bits, 96 dB too quiet: multiply them by 65536"):
        clip_from_waveform(np.rint(sound * 2**15) / np.float32(2**31), 16_000, 16_000)
    assert clip_from_waveform(9 * sound, 16_000, 16_000).level_doubt == "samples above 4, where 1 is full scale"
    with pytest.raises(AudioError, match="its channels are opposite and cancel each other"):
        clip_from_waveform(np.stack([sound, -sound], axis=1), 16_000, 16_000)
