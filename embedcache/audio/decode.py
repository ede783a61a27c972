"""Decoding of audio files: the bytes of a file, its content key, and its waveform at the sample rate of an encoder.

A waveform is a mono float32 array of shape (samples,). Samples of integer formats are in [-1, 1]. Channels are mixed to
mono by their mean, before resampling. Nothing is trimmed, padded or normalised here. WAV, FLAC, OGG and MP3 files are
decoded by libsndfile, and soxr resamples at its "very high quality" setting. A file is read only once, so its key and
its waveform come from the same bytes.
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
QUALITY = "VHQ"  # soxr's name of the resampling quality
# Size limits. A file whose header declares more is refused before memory is allocated for its samples.
MAX_SECONDS = 3600.0  # duration in seconds
MAX_SAMPLES = 400_000_000  # samples of all channels together; an hour of stereo at 48 kHz has 346 million
MAX_BYTES = 4 * MAX_SAMPLES  # size of the file in bytes; an hour of stereo at 48 kHz with 32 bits has 1.4 GB
# Largest amplitude, where 1 is full scale. Some programs store 16-bit integers as floats without scaling them: up to
# 32,768, which is accepted.
MAX_AMPLITUDE = 1e6
LARGE_FILE = 1 << 26  # size in bytes above which the header is checked before the whole file is read
RATES = (100, 768_000)  # lowest and highest sample rate in Hz; a file of 1 Hz would grow 16,000-fold by resampling
FORMATS = frozenset({"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3"})  # formats that are decoded, by libsndfile's names
# Other kinds of files that are sometimes given the name of an audio file: offset, bytes at that offset, description.
OTHER_FORMATS = (
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
# Programs that write a WAV file to a pipe, such as ffmpeg and sox, cannot go back to fill in the size of the data. They
# leave a placeholder, which is at least this large.
STREAMED = 0x7FFFF000
UNKNOWN_SIZE = -1


@dataclass(frozen=True)
class Recording:
    """The bytes of an audio file."""

    path: Path  # path of the file, for messages
    data: bytes  # content of the file

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        """Read a file.

        Raises AudioError if the file cannot be read, is empty, is larger than MAX_BYTES or is a git-LFS pointer.
        """
        path = Path(path)
        advice = "Copy it again, cut it into utterances, or remove it."
        if check_file(path, MAX_BYTES, AudioError, advice) > LARGE_FILE:
            _check_header_only(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise AudioError(f"{path}: cannot be read: {error.strerror or error}.") from error
        return cls.of(data, path)

    @classmethod
    def of(cls, data: bytes, name: str | Path) -> Recording:
        """Return a recording of bytes that do not come from a file; `name` is used in messages.

        Raises AudioError if `data` is empty or a git-LFS pointer.
        """
        if not data:
            raise AudioError(f"{name}: is empty (0 bytes). Copy or download it again, or remove it.")
        if data.startswith(b"version https://git-lfs"):
            raise AudioError(f"{name}: is a git-LFS pointer, not audio. Run `git lfs pull` in its repository.")
        return cls(Path(name), data)

    @property
    def key(self) -> str:
        """The content key: the SHA-256 of the bytes, as 64 hexadecimal digits."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def suffix(self) -> str:
        """The file name suffix that fits the bytes: `.wav`, `.flac` or `.ogg`, and `.mp3` for all other bytes."""
        starts = ((b"RIFF", ".wav"), (b"RF64", ".wav"), (b"fLaC", ".flac"), (b"OggS", ".ogg"))
        return next((suffix for start, suffix in starts if self.data.startswith(start)), ".mp3")

    def seconds(self) -> float:
        """Return the duration in seconds. The whole file is decoded; raises AudioError if it has any fault."""
        sound, native_rate = self.sound()
        return len(sound) / native_rate

    def sound(self) -> tuple[NDArray[np.float32], int]:
        """Return the samples of all channels, (samples, channels) float32, and the file's sample rate in Hz.

        Raises AudioError if the file cannot be decoded, is truncated, or holds NaN or infinite samples.
        """
        with _convert_errors(self.path, self.data):
            return self._decode()

    def declared_seconds(self) -> float:
        """Return the duration that the header declares, in seconds, which may be wrong. Nothing is decoded.

        Raises AudioError if the header cannot be read or declares more than the size limits allow.
        """
        import soundfile

        with _convert_errors(self.path, self.data), soundfile.SoundFile(io.BytesIO(self.data)) as file:
            _check_limits(self.path, file)
            return float(file.frames / file.samplerate)

    def waveform(self, rate: int) -> Waveform:
        """Return the waveform, (samples,) float32, at the sample rate `rate` in Hz.

        Raises AudioError as `sound` does.
        """
        return self.waveform_and_rate(rate)[0]

    def waveform_and_rate(self, rate: int) -> tuple[Waveform, int]:
        """Return the waveform at the sample rate `rate` in Hz, and the file's own sample rate in Hz.

        Raises AudioError as `sound` does.
        """
        with _convert_errors(self.path, self.data):
            sound, native_rate = self._decode()
            return as_waveform(sound, native_rate, rate), native_rate

    def flac(self, rate: int = 16_000, longest: float = 20.0) -> bytes:
        """Return the first `longest` seconds as a mono 16-bit FLAC file at `rate` Hz, which every browser plays.

        Raises AudioError as `sound` does.
        """
        import soundfile

        wave = self.waveform(rate)[: int(longest * rate)]
        file = io.BytesIO()
        soundfile.write(file, np.clip(wave, -1, 1), rate, format="FLAC", subtype="PCM_16")
        return file.getvalue()

    def _decode(self) -> tuple[NDArray[np.float32], int]:
        """Return (samples, channels) at the file's own sample rate, and that rate in Hz."""
        import soundfile

        with soundfile.SoundFile(io.BytesIO(self.data)) as file:
            self._check_header(file)
            sound = file.read(dtype="float32", always_2d=True)
            declared, rate = file.frames, file.samplerate
        if len(sound) < declared:
            raise self._truncated(len(sound) / rate, declared / rate)
        if fault := find_sample_fault(sound):
            raise AudioError(f"{self.path}: {fault}. Write the clip again from its source.")
        return sound, rate

    def _check_header(self, file: Any) -> None:
        """Raise AudioError for faults that libsndfile accepts.

        These are a file without samples, a file above the size limits, another format, a WAV file with less data than
        its header declares, and an OGG file without its last page.
        """
        if file.frames <= 0:
            raise AudioError(f"{self.path}: holds no samples. Replace or remove the file.")
        _check_limits(self.path, file)
        seconds = file.frames / file.samplerate
        if file.format not in FORMATS:
            raise AudioError(f"{self.path}: is {file.format}; wanted WAV, FLAC, OGG or MP3. Convert it.")
        held, declared = _wav_sizes(self.data)
        if held < declared != UNKNOWN_SIZE:
            raise self._truncated(seconds, seconds * declared / max(held, 1))
        if file.format == "OGG" and not _ogg_ends(self.data):
            raise AudioError(
                f"{self.path}: is truncated: it holds {seconds:.2f} s and its last page is missing. Copy it again, or "
                "remove it."
            )

    def _truncated(self, held: float, declared: float) -> AudioError:
        """Return the error for a file that holds `held` of the `declared` seconds."""
        return AudioError(
            f"{self.path}: is truncated: its header declares {declared:.2f} s, it holds {held:.2f} s. "
            "Copy or download it again, or remove it."
        )


def read(path: str | Path, rate: int) -> Waveform:
    """Return the waveform of an audio file, (samples,) float32 in [-1, 1], at the sample rate `rate` in Hz.

    Raises AudioError, which names the file, if the file cannot be decoded, is truncated, or holds NaN or infinite
    samples.
    """
    return Recording.load(path).waveform(rate)


@functools.cache
def pipeline() -> str:
    """Return the steps from a file's bytes to a waveform, with versions; the text is part of encoder fingerprints."""
    import soxr

    return f"soundfile, channel mean, soxr {soxr.__version__} {QUALITY}"


def _check_header_only(path: Path) -> None:
    """Raise AudioError if the header of a file declares more than the size limits allow. Reads only the header."""
    import soundfile

    with _convert_errors(path), soundfile.SoundFile(path) as file:
        _check_limits(path, file)


def _check_limits(path: Path, file: Any) -> None:
    """Raise AudioError if an opened file's header exceeds the limits for duration, samples or sample rate."""
    frames, channels, rate = file.frames, file.channels, file.samplerate
    if frames / rate > MAX_SECONDS:
        raise AudioError(
            f"{path}: lasts {frames / rate:.0f} s; wanted at most {MAX_SECONDS:.0f} s. Cut it into utterances."
        )
    if frames * channels > MAX_SAMPLES:
        raise AudioError(
            f"{path}: has {channels} channels of {frames:,} samples; wanted at most {MAX_SAMPLES:,} samples in all "
            "channels together. Mix it down to mono, or cut it into utterances."
        )
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(f"{path}: has a sample rate of {rate:,} Hz; wanted {RATES[0]:,} to {RATES[1]:,}. Resample it.")


@contextmanager
def _convert_errors(path: Path, data: bytes = b"") -> Iterator[None]:
    """Convert errors of libsndfile, numpy and soxr to an AudioError that names the file.

    If the first bytes of `data` are those of another kind of file, such as a video, the message names that kind.
    """
    import soundfile

    try:
        yield
    except (soundfile.SoundFileError, OSError, RuntimeError, MemoryError) as error:
        kind = next((kind for offset, start, kind in OTHER_FORMATS if data.startswith(start, offset)), "")
        if kind:
            raise AudioError(f"{path}: is {kind}; wanted WAV, FLAC, OGG or MP3.") from error
        raise AudioError(
            f"{path}: cannot be decoded ({_reason(error)}); wanted WAV, FLAC, OGG or MP3. Replace or remove the file."
        ) from error


def middle(wave: Waveform, length: int) -> Waveform:
    """Return the middle `length` samples of a waveform, or the whole waveform if it is shorter."""
    begin = max(0, (len(wave) - length) // 2)
    return wave[begin : begin + length]


def find_sample_fault(sound: NDArray[np.float32]) -> str:
    """Return what is wrong with the samples: NaN, infinity, or values above MAX_AMPLITUDE. "" if nothing is wrong."""
    if bad := int(np.count_nonzero(~np.isfinite(sound))):
        return f"{bad} of {sound.size} samples are NaN or infinite"
    loudest = float(np.abs(sound).max(initial=0))
    return f"a sample is {loudest:.1e}, where 1 is full scale" if loudest > MAX_AMPLITUDE else ""


def as_waveform(sound: NDArray[np.float32], native_rate: int, rate: int) -> Waveform:
    """Return the waveform at `rate` Hz of samples (samples, channels) at `native_rate` Hz: mixed, then resampled."""
    return _resample(_mix_to_mono(sound), native_rate, rate)


def _mix_to_mono(sound: NDArray[np.float32]) -> Waveform:
    mono = sound[:, 0] if sound.shape[1] == 1 else sound.mean(axis=1, dtype=np.float64)
    return np.ascontiguousarray(mono, dtype=np.float32)


def _resample(wave: Waveform, native_rate: int, rate: int) -> Waveform:
    if native_rate == rate:
        return wave
    import soxr

    resampled: Waveform = soxr.resample(wave, native_rate, rate, quality=QUALITY)
    return resampled


def _wav_sizes(data: bytes) -> tuple[int, int]:
    """Return (bytes held, bytes declared) of the data chunk of a RIFF or RF64 file, and (0, 0) for other files.

    A RIFF file has a header of 12 bytes, followed by chunks: a name of 4 bytes, the size in 4 bytes, and the content,
    padded to an even size. In a file of 1,044 bytes with the chunks `fmt ` (16 bytes) and `data` (declared as 2,000
    bytes), the `data` chunk begins at byte 12 + 8 + 16 = 36. It holds 1,044 - 36 - 8 = 1,000 bytes, so the result is
    (1000, 2000).
    """
    if data[:4] not in (b"RIFF", b"RF64"):
        return 0, 0
    begin, long_size = 12, UNKNOWN_SIZE
    while len(data) >= begin + 8:
        size = int.from_bytes(data[begin + 4 : begin + 8], "little")
        if data[begin : begin + 4] == b"ds64":  # an RF64 file holds the size of its data chunk here, in 8 bytes
            long_size = int.from_bytes(data[begin + 16 : begin + 24], "little")
        if data[begin : begin + 4] == b"data":
            return len(data) - begin - 8, size if size < STREAMED else long_size
        begin += 8 + size + size % 2
    return 0, 0


def _ogg_ends(data: bytes) -> bool:
    """Whether an Ogg file ends with a complete page that is marked as the last page (RFC 3533).

    A page starts with "OggS". Bit 2 of byte 5 marks the last page, byte 26 is the number of segments, and the sizes of
    the segments follow from byte 27 on, one byte each; then comes the content of the segments.
    """
    page = data[data.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    return bool(page[5] & 4) and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


def _reason(error: Exception) -> str:
    """Return the last part of an error's message, or the name of the error's class if the message is empty."""
    text = str(error).strip()
    return text.rsplit(": ", 1)[-1].rstrip(".") if text else type(error).__name__
