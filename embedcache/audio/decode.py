"""Audio files: their bytes, their content key, and their waveform at an encoder's rate.

Conventions: a waveform is float32, mono, (samples,), in [-1, 1] for integer formats. Channels are mixed down by their
mean, before resampling. Nothing is trimmed, padded or normalised here. WAV, FLAC, OGG and MP3 are read by libsndfile;
soxr resamples at its "very high quality" setting. A file is read once: key and waveform come from the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioError
from ..files.untrusted import check_file

Waveform = NDArray[np.float32]  # (samples,)

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
QUALITY = "VHQ"
# A file that promises more than these is no clip, and is refused before it takes memory.
LONGEST = 3600.0  # seconds
MOST_SAMPLES = 400_000_000  # of all channels together: an hour of stereo at 48 kHz has 346 million
MOST_BYTES = 4 * MOST_SAMPLES  # of the file: that hour in 32 bits has 1.4 GB
LOUDEST = 1e6  # times full scale; some writers take 16-bit numbers for floats, none these
LARGE = 1 << 26  # bytes, from which on a file's header is looked at before the rest is read
RATES = (100, 768_000)  # Hz; from 1 Hz, resampling would make 16,000 samples of each
FORMATS = frozenset({"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3"})  # as libsndfile calls them
# What else is given the name of an audio file, by the bytes at a place.
OTHERS = (
    (4, b"ftyp", "MP4 or QuickTime (a video, or AAC sound; `ffmpeg -i FILE sound.wav` takes the sound out)"),
    (0, b"\x1aE\xdf\xa3", "Matroska or WebM (a video, or its sound; `ffmpeg -i FILE sound.wav` takes it out)"),
    (8, b"AVI ", "an AVI video (`ffmpeg -i FILE sound.wav` takes the sound out)"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"\xcf\xfa\xed\xfe", "a program"),
    (0, b"#!", "a script"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89PNG", "a picture"),
    (0, b"\xff\xd8\xff", "a picture"),
)
# A writer that streams does not know the length: ffmpeg and sox then leave a placeholder near the largest value.
STREAMED = 0x7FFFF000
UNKNOWN_LENGTH = -1


@dataclass(frozen=True)
class Recording:
    """A file's bytes, and its name for messages."""

    path: Path
    data: bytes

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        """The whole file. Raises AudioError where it cannot be read, is empty, too large, or a git-LFS pointer."""
        path = Path(path)
        if check_file(path, MOST_BYTES, AudioError, "Copy it again, cut it into utterances, or remove it.") > LARGE:
            _look(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise AudioError(f"{path}: cannot be read: {error.strerror or error}.") from error
        return cls.of(data, path)

    @classmethod
    def of(cls, data: bytes, name: str | Path) -> Recording:
        """Bytes that came otherwise than from a file. Raises AudioError where they are none, or a git-LFS pointer."""
        if not data:
            raise AudioError(f"{name}: is empty (0 bytes). Copy or download it again, or remove it.")
        if data.startswith(b"version https://git-lfs"):
            raise AudioError(f"{name}: is a git-LFS pointer, not audio. Run `git lfs pull` in its repository.")
        return cls(Path(name), data)

    @property
    def key(self) -> str:
        """SHA-256 of the bytes, 64 hexadecimal digits."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def suffix(self) -> str:
        """What the bytes are, as a file's name says it: `.wav`, `.flac`, `.ogg` or `.mp3`."""
        starts = ((b"RIFF", ".wav"), (b"RF64", ".wav"), (b"fLaC", ".flac"), (b"OggS", ".ogg"))
        return next((suffix for first, suffix in starts if self.data.startswith(first)), ".mp3")

    def seconds(self) -> float:
        """Duration, in seconds, of audio that was decoded to its end without a fault. Raises AudioError."""
        sound, native = self.sound()
        return len(sound) / native

    def sound(self) -> tuple[NDArray[np.float32], int]:
        """All samples as they are, (frames, channels), and their rate in Hz. Raises AudioError for any fault."""
        with _decoding(self.path, self.data):
            return self._decode()

    def promised(self) -> float:
        """Seconds that the header speaks of, true or not; nothing is decoded. Raises AudioError for no audio."""
        import soundfile

        with _decoding(self.path, self.data), soundfile.SoundFile(io.BytesIO(self.data)) as file:
            _check_amount(self.path, file)
            return float(file.frames / file.samplerate)

    def waveform(self, rate: int) -> Waveform:
        """The waveform at `rate` samples a second, (samples,). Raises AudioError for any fault."""
        return self.heard(rate)[0]

    def heard(self, rate: int) -> tuple[Waveform, int]:
        """The waveform at `rate` samples a second, and the rate of the file itself. Raises AudioError for any fault."""
        with _decoding(self.path, self.data):
            sound, native = self._decode()
            return as_waveform(sound, native, rate), native

    def flac(self, rate: int = 16_000, longest: float = 20.0) -> bytes:
        """The first `longest` seconds as mono 16-bit FLAC, which every browser plays. Raises AudioError."""
        import soundfile

        wave = self.waveform(rate)[: int(longest * rate)]
        written = io.BytesIO()
        soundfile.write(written, np.clip(wave, -1, 1), rate, format="FLAC", subtype="PCM_16")
        return written.getvalue()

    def _decode(self) -> tuple[NDArray[np.float32], int]:
        """(frames, channels) at the file's own rate, and that rate."""
        import soundfile

        with soundfile.SoundFile(io.BytesIO(self.data)) as file:
            self._check_header(file)
            sound = file.read(dtype="float32", always_2d=True)
            declared, rate = file.frames, file.samplerate
        if len(sound) < declared:
            raise self._truncated(len(sound) / rate, declared / rate)
        if fault := unsound(sound):
            raise AudioError(f"{self.path}: {fault}. Write the clip again from its source.")
        return sound, rate

    def _check_header(self, file: Any) -> None:
        """What libsndfile does not mind: no samples, hours of samples, fewer samples than a WAV's header declares."""
        if file.frames <= 0:
            raise AudioError(f"{self.path}: holds no samples. Replace or remove the file.")
        _check_amount(self.path, file)
        seconds = file.frames / file.samplerate
        if file.format not in FORMATS:
            raise AudioError(f"{self.path}: is {file.format}; wanted WAV, FLAC, OGG or MP3. Convert it.")
        held, declared = _wav_sizes(self.data)
        if held < declared != UNKNOWN_LENGTH:
            raise self._truncated(seconds, seconds * declared / max(held, 1))
        if file.format == "OGG" and not _ogg_ends(self.data):
            raise AudioError(
                f"{self.path}: is truncated: it holds {seconds:.2f} s and no end. Copy it again, or remove it."
            )

    def _truncated(self, held: float, declared: float) -> AudioError:
        return AudioError(
            f"{self.path}: is truncated: its header declares {declared:.2f} s, it holds {held:.2f} s. "
            "Copy or download it again, or remove it."
        )


def read(path: str | Path, rate: int) -> Waveform:
    """The waveform of a file at `rate` samples a second, (samples,) float32 in [-1, 1].

    Raises AudioError, which names the file, for anything that is not complete, finite audio.
    """
    return Recording.load(path).waveform(rate)


@functools.cache
def pipeline() -> str:
    """What turns bytes into a waveform, with versions: part of every encoder's fingerprint."""
    import soxr

    return f"soundfile, channel mean, soxr {soxr.__version__} {QUALITY}"


def _look(path: Path) -> None:
    """Refuse a large file by its header alone."""
    import soundfile

    with _decoding(path), soundfile.SoundFile(path) as file:
        _check_amount(path, file)


def _check_amount(path: Path, file: Any) -> None:
    """What a header promises, true or not: no memory is taken for it yet."""
    frames, channels, rate = file.frames, file.channels, file.samplerate
    if frames / rate > LONGEST:
        raise AudioError(
            f"{path}: lasts {frames / rate:.0f} s; a clip may last {LONGEST:.0f} s. Cut it into utterances."
        )
    if frames * channels > MOST_SAMPLES:
        raise AudioError(
            f"{path}: has {channels} channels of {frames:,} samples; all together may have {MOST_SAMPLES:,}. Mix it "
            "down, or cut it into utterances."
        )
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(f"{path}: has {rate:,} samples a second; wanted {RATES[0]:,} to {RATES[1]:,}. Resample it.")


@contextmanager
def _decoding(path: Path, data: bytes = b"") -> Iterator[None]:
    """What libsndfile, numpy and soxr raise, as an AudioError that names the file, and what it is instead of audio."""
    import soundfile

    try:
        yield
    except (soundfile.SoundFileError, OSError, RuntimeError, MemoryError) as error:
        kind = next((kind for at, first, kind in OTHERS if data.startswith(first, at)), "")
        if kind:
            raise AudioError(f"{path}: is {kind}; wanted WAV, FLAC, OGG or MP3.") from error
        raise AudioError(
            f"{path}: cannot be decoded ({_reason(error)}); wanted WAV, FLAC, OGG or MP3. Replace or remove the file."
        ) from error


def middle(wave: Waveform, length: int) -> Waveform:
    """The middle `length` samples; of a shorter waveform, all."""
    begin = max(0, (len(wave) - length) // 2)
    return wave[begin : begin + length]


def unsound(sound: NDArray[np.float32]) -> str:
    """Why samples are no sound, in a few words; "" where they are."""
    if bad := int(np.count_nonzero(~np.isfinite(sound))):
        return f"{bad} of {sound.size} samples are NaN or infinite"
    loudest = float(np.abs(sound).max(initial=0))
    return f"a sample is {loudest:.1e}, where 1 is full scale" if loudest > LOUDEST else ""


def as_waveform(sound: NDArray[np.float32], native: int, rate: int) -> Waveform:
    """Samples (frames, channels) at `native` Hz as a waveform at `rate` Hz: mixed down, then resampled."""
    return _resample(_mono(sound), native, rate)


def _mono(sound: NDArray[np.float32]) -> Waveform:
    mono = sound[:, 0] if sound.shape[1] == 1 else sound.mean(axis=1, dtype=np.float64)
    return np.ascontiguousarray(mono, dtype=np.float32)


def _resample(wave: Waveform, native: int, rate: int) -> Waveform:
    if native == rate:
        return wave
    import soxr

    resampled: Waveform = soxr.resample(wave, native, rate, quality=QUALITY)
    return resampled


def _wav_sizes(data: bytes) -> tuple[int, int]:
    """(bytes held, bytes declared) of the data chunk of a RIFF or RF64 file; (0, 0) for other files."""
    if data[:4] not in (b"RIFF", b"RF64"):
        return 0, 0
    at, long_size = 12, UNKNOWN_LENGTH
    while len(data) >= at + 8:
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"ds64":  # RF64 keeps the real size here
            long_size = int.from_bytes(data[at + 16 : at + 24], "little")
        if data[at : at + 4] == b"data":
            return len(data) - at - 8, size if size < STREAMED else long_size
        at += 8 + size + size % 2
    return 0, 0


def _ogg_ends(data: bytes) -> bool:
    """Whether the last page of an Ogg file is whole and says that it is the last (RFC 3533)."""
    at = data.rfind(b"OggS")
    page = data[at:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    return bool(page[5] & 4) and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return text.rsplit(": ", 1)[-1].rstrip(".") if text else type(error).__name__
