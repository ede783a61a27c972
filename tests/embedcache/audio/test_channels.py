"""Channels: which one is a clip, and what their mean hides."""

from pathlib import Path

import numpy as np
import pytest
from helpers.sounds import noise, write
from hypothesis import given
from hypothesis import strategies as st

from embedcache import AudioError, DataError, Recording, add_keys, audit, datasets
from embedcache.audio.channels import find_channel_doubt, find_channel_fault, level, mean
from embedcache.manifest import parse_channel

RATE = 16_000


def speech(seed: int, seconds: float = 2.0) -> np.ndarray:
    """Noise in syllables: bursts at times that the seed decides."""
    rng = np.random.default_rng(seed)
    syllables = np.repeat(rng.random(round(seconds * 5)) ** 2, RATE // 5)
    return (0.3 * syllables * rng.standard_normal(len(syllables))).astype(np.float32)


def stereo(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.stack([left, right], axis=1).astype(np.float32)


ONE, OTHER = speech(1), speech(2)
HUM = 0.3 * np.sin(2 * np.pi * 110 * np.arange(len(ONE)) / RATE)


def test_a_channel_has_a_name_or_a_number() -> None:
    names = ("", "mix", "left", "Right", "L", "r", " 1 ", "1.0", "12")
    assert [parse_channel(name) for name in names] == [None, None, 0, 1, 0, 1, 1, 1, 12]


@pytest.mark.parametrize("name", ["up", "-1", "1.5", "²", "9999"])
def test_another_channel_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=f"got the channel '{name}'; wanted left, right, mix, or a number from 0"):
        parse_channel(name)


def test_the_level_is_that_of_the_root_mean_square_without_the_offset() -> None:
    wave = np.tile([0.1, -0.1], 100).astype(np.float32)
    assert level(wave) == pytest.approx(-20, abs=1e-4)
    assert level(wave + np.float32(0.5)) == pytest.approx(-20, abs=1e-3)
    assert level(np.zeros(10, np.float32)) == level(np.empty(0, np.float32)) == -np.inf


@given(seed=st.integers(0, 99), factor=st.floats(0.9, 1.1))
def test_opposed_channels_are_a_fault(seed: int, factor: float) -> None:
    wave = speech(seed)
    assert "opposite" in find_channel_fault(stereo(wave, -factor * wave))


@pytest.mark.parametrize(
    "sound", [stereo(ONE, ONE), stereo(ONE, OTHER), stereo(ONE, 0 * ONE), ONE[:, None], 0 * ONE[:, None]]
)
def test_other_channels_are_none(sound: np.ndarray) -> None:
    assert find_channel_fault(sound) == ""


DOUBTS = {
    "one channel": (ONE[:, None], ""),
    "the same twice": (stereo(ONE, ONE), ""),
    "the same, louder": (stereo(ONE, 0.2 * ONE), ""),
    "two microphones": (stereo(ONE, np.roll(ONE, 30) + 0.01 * OTHER), ""),
    "noise": (noise(2.0, channels=2), ""),
    "silence": (stereo(0 * ONE, 0 * ONE), ""),
    "a moment": (stereo(ONE[:1600], OTHER[:1600]), ""),
    "two speakers": (stereo(ONE, OTHER), "different sounds"),
    "a speaker and a hum": (stereo(ONE, HUM), "different sounds"),
    "a dead channel": (stereo(ONE, 1e-4 * OTHER), "a channel that is silent"),
    "a channel of zeros": (stereo(0 * ONE, ONE), "a channel that is silent"),
    "partly opposed": (stereo(ONE, -0.7 * ONE), "cancel each other in part"),
    "three speakers": (np.stack([ONE, ONE, OTHER], axis=1), "different sounds"),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_what_the_mean_of_channels_hides(name: str) -> None:
    sound, doubt = DOUBTS[name]
    found = find_channel_doubt(np.asarray(sound, np.float32), RATE)
    assert doubt in found if doubt else not found


def test_a_channel_is_the_recording_of_that_channel(tmp_path: Path) -> None:
    both = write(tmp_path / "both.wav", stereo(ONE, OTHER))
    left = write(tmp_path / "left.wav", ONE)
    for rate in (RATE, 8000):
        np.testing.assert_array_equal(Recording.load(both, 0).waveform(rate), Recording.load(left).waveform(rate))
    keys = {Recording.load(both, channel).key for channel in (None, 0, 1)}
    assert len(keys) == 3
    with pytest.raises(AudioError, match=r"left.wav: has 1 channel; wanted channel 1, counted from 0"):
        Recording.load(left, 1).waveform(RATE)


def test_opposed_channels_are_refused_until_one_is_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", stereo(ONE, -ONE))
    with pytest.raises(
        AudioError, match=r"a.wav: its channels are opposite .* Choose a channel with the option --channel"
    ):
        Recording.load(path).waveform(RATE)
    assert len(Recording.load(path, 1).waveform(RATE)) == len(ONE)


@pytest.mark.parametrize("n", [2, 3, 11, 24])
def test_one_channel_among_silent_ones_is_not_opposed(n: int) -> None:
    sound = np.zeros((len(ONE), n), np.float32)
    sound[:, n // 2] = ONE
    assert find_channel_fault(sound) == ""
    assert find_channel_doubt(sound, RATE) == "a channel that is silent"


def test_equal_channels_are_one_recording(tmp_path: Path) -> None:
    """Otherwise, one person on both channels of a call would be two speakers."""
    write(tmp_path / "call.wav", stereo(ONE, ONE))
    (tmp_path / "my.csv").write_text("path,label,speaker,channel\ncall.wav,sad,ann,left\ncall.wav,sad,bob,right\n")
    with pytest.raises(DataError, match="lists the same recording, byte for byte, under two speakers"):
        add_keys(datasets.get("folder").manifest(tmp_path / "my.csv")).check()


def test_channels_that_are_counted_from_1_are_told(call: Path) -> None:
    for cells in ("1,2", "1,1", "2,3"):
        first, second = cells.split(",")
        call.write_text(f"path,label,speaker,channel\ncall.wav,sad,ann,{first}\nother.wav,happy,bob,{second}\n")
        with pytest.raises(DataError, match=r"channels are counted from 0. Write left, right, or 0, 1"):
            datasets.get("folder").manifest(call)


def test_the_mean_of_channels_is_that_of_float64() -> None:
    np.testing.assert_array_equal(mean(stereo(ONE, OTHER)), ((ONE.astype(float) + OTHER) / 2).astype(np.float32))


@pytest.fixture
def call(tmp_path: Path) -> Path:
    """A recording of two speakers, a channel each, and the table of both."""
    write(tmp_path / "call.wav", stereo(ONE, OTHER))
    (tmp_path / "my.csv").write_text("path,label,speaker,channel\ncall.wav,sad,ann,left\ncall.wav,happy,bob,1\n")
    return tmp_path / "my.csv"


def test_a_column_makes_each_channel_a_clip(call: Path) -> None:
    manifest = add_keys(datasets.get("folder").manifest(call)).check()
    assert [(c.clip_id, c.speaker, c.channel) for c in manifest.clips] == [
        ("call.wav#1", "bob", 1),
        ("call.wav#left", "ann", 0),
    ]
    assert len(set(manifest.keys)) == 2
    assert manifest.notes == ()


def test_a_wrong_channel_in_a_table_is_told(call: Path) -> None:
    call.write_text("path,label,speaker,channel\ncall.wav,sad,ann,phone\n")
    with pytest.raises(DataError, match="row 2: got the channel 'phone'; wanted left, right, mix"):
        datasets.get("folder").manifest(call)


def test_channels_that_differ_are_said_until_one_is_chosen(call: Path) -> None:
    call.write_text("path,label,speaker\ncall.wav,sad,ann\n")
    manifest = datasets.get("folder").manifest(call)
    (note,) = add_keys(manifest).notes
    assert note.startswith("channels with different sounds, such as two speakers, in 1 clip: call.wav. The mean of the")
    assert [add_keys(manifest.with_channel(name)).notes for name in ("left", "mix")] == [(), ()]
    found = {f.kind: f.lines for f in audit(datasets.get("folder"), call).findings}
    assert found["channel sound"] == ("1 with channels with different sounds, such as two speakers: call.wav",)
    assert "channel sound" not in {f.kind for f in audit(datasets.get("folder"), call, channel="right").findings}


def test_an_audit_looks_at_the_mixdown(tmp_path: Path) -> None:
    write(tmp_path / "opposed.wav", stereo(ONE, -ONE))
    write(tmp_path / "offset.wav", ONE + 0.05)
    rows = "opposed.wav,sad,ann\noffset.wav,happy,bob\n"
    (tmp_path / "my.csv").write_text(f"path,label,speaker\n{rows}")
    found = {f.kind: f.lines for f in audit(datasets.get("folder"), tmp_path / "my.csv").findings}
    assert "cancel each other" in found["unreadable"][0]
    assert found["offset"] == ("offset.wav: mean +0.050 of full scale",)
