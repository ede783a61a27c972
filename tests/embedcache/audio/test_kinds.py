"""Kinds of files by their first bytes: audio is told from raw sound, and other files from audio."""

import gzip
import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.encoded import EXACT, LOSSY, SOUNDFILE, STREAMS, encoded
from helpers.sounds import noise, write
from hypothesis import given, settings
from hypothesis import strategies as st

from embedcache import AudioError, Recording, read
from embedcache.audio.kinds import STARTS, bytes_to_tell, is_audio_file, other_kind

SOUND = noise(1.0).astype(np.float32)
FORMATS = (*LOSSY, *STREAMS, *SOUNDFILE, *EXACT)


def begins(data: bytes, step: int = 1) -> bytes:
    """As much of the bytes as `is_audio_file` asks for while they arrive."""
    have = step
    while have < min(bytes_to_tell(data[:have]), len(data)):
        have += step
    return data[:have]


@pytest.mark.parametrize("step", [1, 16_384])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_kind_of_file_is_told_from_raw_sound(kind: str, step: int) -> None:
    assert is_audio_file(begins(encoded(SOUND, kind), step))


@pytest.mark.parametrize("kind", ["AU", "CAF", "RIFX"])
def test_kinds_that_libsndfile_writes_are_told_from_raw_sound(kind: str) -> None:
    file = io.BytesIO()
    endian = "BIG" if kind == "RIFX" else None
    soundfile.write(file, SOUND, 16_000, "PCM_16", endian, "WAV" if endian else kind)
    assert is_audio_file(begins(file.getvalue()))


@settings(deadline=None)
@given(st.binary(min_size=0, max_size=9000))
def test_raw_sound_is_raw_whatever_its_first_sample(rest: bytes) -> None:
    """Also if it begins as a frame of MP3, AAC or a transport stream does, with loud or quiet sound after that."""
    voice = np.rint(9000 * SOUND).astype("<i2").tobytes()
    for start in (b"\xff\xfb\x90\x64", b"\xff\xf1\x50\x80\x10\x1f\xfc", b"G@\x11\x10", b"", b"\0\0\xff\xff"):
        assert not is_audio_file(begins(start + voice))
        assert is_audio_file(begins(start + rest)) == any(
            (start + rest).startswith(known, at) for at, known, _ in STARTS
        )


OTHERS = {
    "html.wav": (b"\r\n<!DOCTYPE html><html>", "is HTML or XML that begins with '<!DOCTYPE html><html>'; wanted WAV"),
    "error.mp3": (b'{"error": "not found"}', 'is JSON that begins with \'{"error": "not found"}\'; wanted WAV'),
    "text.flac": ("Für später\n".encode() * 900, "is text that begins with 'Für später"),
    "note.wav": (b"\xef\xbb\xbf404: Not Found", "is text that begins with '404: Not Found'; wanted WAV"),
    "zip.wav": (gzip.compress(b"RIFF"), "is compressed with gzip; wanted WAV"),
    "zeros.wav": (bytes(5000), "is all zeros (5,000 bytes); wanted WAV"),
    "script.wav": (b"#!/bin/sh\nexit", "is a script; wanted WAV"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_called_what_they_are(tmp_path: Path, name: str) -> None:
    data, said = OTHERS[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(AudioError) as error:
        read(tmp_path / name, 16_000)
    assert f"{name}: {said}" in str(error.value)
    assert str(error.value).endswith("Copy or download it again, or remove it.")


@pytest.mark.parametrize("before", [b"", b"\n\r\n ", b"\xef\xbb\xbf\n"])
def test_a_pointer_is_found_behind_blanks(before: bytes) -> None:
    with pytest.raises(AudioError, match="is a git-LFS pointer, not audio. Run `git lfs pull`"):
        Recording.of(before + b"version https://git-lfs.github.com/spec/v1\noid", "a.wav")


def test_sound_is_of_no_other_kind() -> None:
    for kind in FORMATS:
        assert other_kind(encoded(SOUND, kind)) == ""
    assert other_kind(b"#!AMR\n\x3c") == ""
    assert other_kind(np.rint(9000 * SOUND).astype("<i2").tobytes()) == ""


def test_what_to_do_fits_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.wav")
    Path("link.wav").symlink_to("gone.wav")
    advice = {
        "pipe.wav": "Write the sound to a file, or read it from standard input with `ser predict MODEL -`.",
        "/dev/null": "Write the sound to a file, or read it",
        ".": "wanted a file. Name a file in the folder.",
        "none.wav": "No such file or directory. Check the path.",
        "link.wav": "it links to gone.wav, where nothing is. Check the path.",
        "~/a.wav": "Check the path. `~` means the home folder only to a shell, without quotes.",
        "https://example.org/a.wav": "https://example.org/a.wav: is an address; wanted a file. Download it first.",
    }
    for path, said in advice.items():
        with pytest.raises(AudioError) as error:
            Recording.load(path)
        assert said in str(error.value)
        assert "Copy it again" not in str(error.value)
    write(Path("session:/a.wav"), SOUND)
    assert Recording.load("session:/a.wav").seconds() == 1


@pytest.mark.parametrize("rate", ["16000", None, 0, 10**9, 16_000.5, float("nan"), True, -1, 99])
def test_a_rate_that_is_none_is_said_without_blaming_the_file(tmp_path: Path, rate: object) -> None:
    path = write(tmp_path / "a.wav", SOUND)
    with pytest.raises(AudioError, match="^got (the|a) sample rate") as error:
        read(path, rate)
    assert "a.wav" not in str(error.value)
    assert len(read(path, np.int64(8000))) == len(read(path, 8000.0)) == 8000


@pytest.mark.parametrize("channel", ["left", 1.0, -1, True])
def test_a_channel_that_is_no_number_is_said(tmp_path: Path, channel: object) -> None:
    path = write(tmp_path / "a.wav", noise(0.1, channels=2))
    with pytest.raises(AudioError, match=r"got the channel .*; wanted its number, counted from 0, or None"):
        Recording.load(path, channel)


def test_content_is_bytes_of_any_kind() -> None:
    data = encoded(SOUND, "wav")
    for kind in (bytes, bytearray, memoryview):
        assert Recording.of(kind(data), "a").key == Recording.of(data, "a").key
    with pytest.raises(AudioError, match="a: got str; wanted bytes. Pass the content of a file"):
        Recording.of("a.wav", "a")
