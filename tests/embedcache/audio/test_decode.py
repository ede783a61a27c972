"""Decoding: what is right stays right, what is wrong is named."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.sounds import noise, write

from embedcache import AudioError, Recording, read


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_formats_decode_to_the_same_sound(tmp_path: Path, suffix: str) -> None:
    sound = 0.5 * np.sin(2 * np.pi * 220 * np.arange(16_000) / 16_000)
    wave = read(write(tmp_path / f"a.{suffix}", sound), 16_000)
    assert wave.dtype == np.float32
    if suffix in ("wav", "flac"):
        np.testing.assert_allclose(wave, sound, atol=1 / 32768)
    else:  # lossy: the same tone at the same level
        assert abs(len(wave) - 16_000) < 2500
        assert np.fft.rfft(wave[:16_000], 16_000).__abs__().argmax() == 220
        assert np.sqrt(np.mean(wave**2)) == pytest.approx(np.sqrt(np.mean(sound**2)), rel=0.1)


@pytest.mark.parametrize(
    ("subtype", "step"), [("PCM_16", 2**-15), ("PCM_24", 2**-23), ("FLOAT", 1e-7), ("PCM_U8", 2**-7)]
)
def test_sample_formats(tmp_path: Path, subtype: str, step: float) -> None:
    sound = noise(0.1)
    np.testing.assert_allclose(read(write(tmp_path / "a.wav", sound, subtype=subtype), 16_000), sound, atol=step)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    sound = noise(0.1, channels=channels)
    mean = sound if channels == 1 else sound.mean(axis=1)
    np.testing.assert_allclose(read(write(tmp_path / "a.wav", sound, subtype="FLOAT"), 16_000), mean, atol=1e-6)


def tone(hertz: float, rate: int, seconds: float = 0.3) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


RATES = [8_000, 22_050, 24_414, 44_100, 48_000, 96_000]
INNER = slice(400, -400)  # samples without the ends, where a filter reaches beyond the sound


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("hertz", [100.0, 1_234.5, 3_400.0])
def test_a_tone_is_the_same_tone_at_another_rate(tmp_path: Path, rate: int, hertz: float) -> None:
    """The oracle is the sine itself, sampled at the other rate: pitch, phase, level and length stay."""
    wave = read(write(tmp_path / "a.wav", tone(hertz, rate), rate, "FLOAT"), 16_000)
    assert abs(len(wave) - 0.3 * 16_000) <= 1
    np.testing.assert_allclose(wave[INNER], tone(hertz, 16_000)[: len(wave)][INNER], atol=1e-4)


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
def test_what_the_lower_rate_cannot_hold_is_filtered_out(tmp_path: Path, rate: int) -> None:
    """A tone above 8 kHz would come back as another tone below it."""
    wave = read(write(tmp_path / "a.wav", tone(9_500.0, rate), rate, "FLOAT"), 16_000)
    assert np.abs(wave[INNER]).max() < 1e-4


@pytest.mark.parametrize("rate", [8_000, 48_000])
def test_resampling_agrees_with_scipys(tmp_path: Path, rate: int) -> None:
    """Of noise below 2 kHz, which both filters pass whole."""
    from scipy.signal import butter, resample_poly, sosfiltfilt

    sound = sosfiltfilt(butter(8, 2_000, fs=rate, output="sos"), noise(0.5, rate=rate)).astype(np.float32)
    wave = read(write(tmp_path / "a.wav", sound, rate, "FLOAT"), 16_000)
    up, down = (2, 1) if rate == 8_000 else (1, 3)
    np.testing.assert_allclose(wave[INNER], resample_poly(sound, up, down, window=("kaiser", 12.0))[INNER], atol=2e-3)


def test_nothing_is_trimmed_or_padded(tmp_path: Path) -> None:
    sound = np.concatenate([np.zeros(5000), noise(0.1), np.zeros(3333)])
    assert len(read(write(tmp_path / "a.wav", sound), 16_000)) == len(sound)


def truncated_wav(path: Path) -> None:
    data = write(path, noise(1.0)).read_bytes()
    path.write_bytes(data[: len(data) // 2])


truncated_flac = truncated_ogg = truncated_wav


def truncated_rf64(path: Path) -> None:
    soundfile.write(path, noise(1.0), 16_000, format="RF64")
    path.write_bytes(path.read_bytes()[:16_000])


def truncated_w64(path: Path) -> None:
    soundfile.write(path, noise(1.0), 16_000, format="W64")
    path.write_bytes(path.read_bytes()[:-2])


def with_nan(path: Path) -> None:
    sound = noise(0.2).astype(np.float32)
    sound[7] = np.nan
    write(path, sound, subtype="FLOAT")


def wav_of(code: int, *datas: bytes) -> Callable[[Path], object]:
    """A WAV file of 16 bits with a code of the format and chunks of samples."""
    chunks = [(b"fmt ", struct.pack("<HHIIHH", code, 1, 16_000, 32_000, 2, 16)), *((b"data", data) for data in datas)]
    body = b"WAVE" + b"".join(name + struct.pack("<I", len(content)) + content for name, content in chunks)
    return lambda path: path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


BAD = {
    "empty.wav": (lambda p: p.write_bytes(b""), "is empty (0 bytes)"),
    "film.wav": (
        lambda p: p.write_bytes(b"\0\0\0\x20ftypisom" + bytes(500)),
        "is MP4 or QuickTime, and cannot be decoded",
    ),
    "web.ogg": (lambda p: p.write_bytes(b"\x1aE\xdf\xa3" + bytes(500)), "is Matroska or WebM, and cannot be decoded"),
    "old.wav": (
        lambda p: p.write_bytes(b"RIFF\0\1\0\0AVI LIST" + bytes(500)),
        "is an AVI video, and cannot be decoded",
    ),
    "tool.wav": (lambda p: p.write_bytes(b"\x7fELF" + bytes(500)), "is a program; wanted WAV, FLAC, OGG or MP3"),
    "tool.mp3": (lambda p: p.write_bytes(b"MZ\x90" + bytes(500)), "is a program"),
    "text.wav": (lambda p: p.write_text("This is not audio. " * 20), "is text that begins with 'This is not"),
    "cut.wav": (truncated_wav, "is truncated: its header declares 1.00 s, it holds 0.50 s"),
    "cut.flac": (truncated_flac, "cut.flac"),
    "cut.ogg": (truncated_ogg, "cut.ogg"),
    "rf64.wav": (truncated_rf64, "is truncated: its header declares 1.00 s, it holds 0.5"),
    "real.ra": (lambda p: p.write_bytes(b".ra\xfd" + bytes(100)), "cannot be decoded (its format is not one of those"),
    "w64.wav": (truncated_w64, "is truncated: its header declares 1.00 s, it holds 1.00 s (31,998 of 32,000 bytes)"),
    "nan.wav": (with_nan, "1 of 3200 samples are NaN or infinite"),
    "twice.wav": (wav_of(1, bytes(100), bytes(100)), "has two chunks of samples, one after the other. Write it again"),
    "float16.wav": (wav_of(3, bytes(100)), "cannot be decoded (its header contradicts itself); wanted"),
    "none.wav": (lambda p: write(p, np.zeros(0)), "holds no samples"),
    "lfs.wav": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "git-LFS pointer",
    ),
    "long.wav": (lambda p: write(p, np.zeros(3601 * 100), 100), "lasts 3601 s; wanted at most 3600 s"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_with_what_to_do(tmp_path: Path, name: str) -> None:
    make, said = BAD[name]
    make(tmp_path / name)
    with pytest.raises(AudioError) as error:
        read(tmp_path / name, 16_000)
    assert said in str(error.value)
    assert str(tmp_path / name) in str(error.value)


def test_every_truncation_of_a_wav_is_noticed(tmp_path: Path) -> None:
    data = write(tmp_path / "a.wav", noise(0.05)).read_bytes()
    for cut in range(1, len(data)):
        (tmp_path / "b.wav").write_bytes(data[:cut])
        with pytest.raises(AudioError):
            read(tmp_path / "b.wav", 16_000)


def test_a_wav_that_was_streamed_is_read_to_its_end(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "a.wav", noise(0.5)).read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "b.wav").write_bytes(data)
    assert len(read(tmp_path / "b.wav", 16_000)) == 8000


def test_a_missing_file_is_an_audio_error(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="cannot be read"):
        read(tmp_path / "no.wav", 16_000)


def test_the_key_is_that_of_the_bytes(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.wav", noise(0.1)), write(tmp_path / "b" / "c.wav", noise(0.1))
    assert Recording.load(a).key == Recording.load(b).key
    soundfile.write(b, noise(0.1, seed=1), 16_000)
    assert Recording.load(a).key != Recording.load(b).key


def test_every_truncation_of_an_ogg_is_noticed(tmp_path: Path) -> None:
    data = write(tmp_path / "a.ogg", noise(0.5)).read_bytes()
    read(tmp_path / "a.ogg", 16_000)
    for cut in range(1, len(data), 7):
        (tmp_path / "b.ogg").write_bytes(data[:cut])
        with pytest.raises(AudioError):
            read(tmp_path / "b.ogg", 16_000)


def test_rf64_is_wav(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(0.5), 16_000, format="RF64")
    assert len(read(tmp_path / "a.wav", 16_000)) == 8000


FOREIGN = [ValueError("no"), EOFError(), struct.error("short"), OverflowError(), KeyError(1), MemoryError(), OSError(5)]
RAISERS = {
    "soundfile": "soundfile.SoundFile.read",
    "soxr": "soxr.resample",
    "ffmpeg": "embedcache.audio.ffmpeg.decode",
    "formats": "embedcache.audio.formats.is_exact",
}


@pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", RAISERS)
def test_whatever_a_decoder_raises_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    path = write(tmp_path / "clip.wav", noise(0.1), subtype="MS_ADPCM" if where == "ffmpeg" else None)
    monkeypatch.setattr(RAISERS[where], fail)
    with pytest.raises(AudioError) as failed:
        read(path, 8_000)
    assert str(failed.value).startswith(f"{path}: cannot be decoded (")
    assert "Replace or remove the file." in str(failed.value)


@pytest.mark.parametrize("what", ["key", "declared_seconds"])
def test_a_key_and_a_duration_name_the_file_too(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def fail(data: bytes) -> bool:
        raise IndexError("out of range")

    monkeypatch.setattr("embedcache.audio.formats.is_exact", fail)
    recording = Recording.of(b"bytes\xff", "a.wav")
    with pytest.raises(AudioError, match=r"a.wav: cannot be decoded \(out of range\)"):
        recording.key if what == "key" else recording.declared_seconds()


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError()])
def test_a_disk_that_fails_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(self: Path) -> bytes:
        raise error

    path = write(tmp_path / "a.wav", noise(0.1))
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(AudioError, match=r"a.wav: cannot be read: (Input/output error|MemoryError)\. Check"):
        read(path, 16_000)
