"""Decoding of audio files: the bytes of a file, its content key, and its waveform at the sample rate of an encoder.

A waveform is a mono float32 array of shape (samples,). Samples of integer formats are in [-1, 1]. Channels are mixed to
mono by their mean, unless one of them is chosen, before resampling. Nothing is trimmed, padded or normalised here, and
a constant offset is not removed: encoders that need a mean of zero normalise their input themselves.

libsndfile decodes what it decodes exactly (FLAC, and WAV, AIFF, AU, CAF and W64 files of PCM or floats), FFmpeg
everything else, by the content of a file and not by its name. soxr resamples at its "very high quality" setting. A file
is read only once, so its key and its waveform come from the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
import io
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioError, SerError
from ..files.untrusted import FETCH_LFS, begins_as_lfs_pointer, check_file
from ..manifest import Span
from ..text import count
from . import channels, ffmpeg, formats, kinds, spans
from .levels import FULL_SCALE, find_level_doubt, find_narrow_fault, find_sample_fault
from .structure import flac

Waveform = NDArray[np.float32]  # (samples,)

SUFFIXES = frozenset(
    {".wav", ".wave", ".flac", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".mp2", ".mp3", ".m4a", ".aac"}
    | {".ogg", ".oga", ".opus", ".amr", ".wma"}
    | {".sph", ".wv", ".ra", ".rm"}  # NIST Sphere, WavPack, RealAudio: not decoded, so such a file is an unusable clip
)
VIDEOS = frozenset(  # videos, or their sound alone
    {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".mka", ".3gp", ".avi", ".flv", ".wmv", ".mpg", ".mpeg", ".ts"}
)
WANTED = "WAV, FLAC, OGG or MP3, or other audio"
CHECK_FILE = "Check its permissions and the disk, or remove the file."
CUT = "Cut it into utterances, or list their bounds in a table with the columns start and end."
VAGUE = {  # what libsndfile says, and what it means
    "SF_INFO struct incomplete": "its header lacks a part, or has a part twice",
    "Unspecified internal error": "its header contradicts itself",
}
COPY_AGAIN = "Copy or download it again, or remove it."
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # of a file on the web
QUALITY = "VHQ"  # soxr's name of the resampling quality
# Size limits. A file whose header declares more is refused before memory is allocated for its samples.
MAX_SECONDS = 3600.0  # duration in seconds
MAX_SAMPLES = 400_000_000  # samples of all channels together; an hour of stereo at 48 kHz has 346 million
MAX_BYTES = 4 * MAX_SAMPLES  # size of the file in bytes; an hour of stereo at 48 kHz with 32 bits has 1.4 GB
BLOCK_SECONDS = 10.0  # duration of a block of a recording that is decoded in blocks, in seconds
BLOCK_SAMPLES = 10_000_000  # most samples of all channels of a block
LARGE_HEADER = 1 << 16  # bytes of a large file that are read to see what it is
LARGE_FILE = 1 << 26  # size in bytes above which the header is checked before the whole file is read
RATES = (100, 768_000)  # lowest and highest sample rate in Hz; a file of 1 Hz would grow 16,000-fold by resampling


@dataclass(frozen=True)
class Mixdown:
    """The waveform of a recording, and what cannot be told from the waveform any more."""

    wave: Waveform  # (samples,)
    native_rate: int  # sample rate of the recording, in Hz
    channel_doubt: str  # what the mean of the channels hides, as `channels.find_channel_doubt` says
    level_doubt: str  # what is odd about the level, as `levels.find_level_doubt` says


@dataclass(frozen=True)
class Block:
    """Consecutive samples of a recording."""

    sound: NDArray[np.float32]  # (samples, channels)
    rate: int  # sample rate in Hz
    declared: float  # duration of the whole recording by its header, in seconds; 0 if it declares none


@dataclass(frozen=True)
class Decoded:
    """The samples of a whole file, from which its spans are cut."""

    digest: Any  # hashlib's SHA-256 of the bytes and of the decoder
    sound: NDArray[np.float32]  # (samples, channels)
    rate: int  # sample rate in Hz
    has_equal_channels: bool

    def part(self, path: str | Path, channel: int | None, span: Span) -> Recording:
        """Return the recording of a span, or of a channel of it; `path` is used in messages."""
        return Recording(Path(path), b"", channel, span, self)


@dataclass(frozen=True)
class Recording:
    """The bytes of an audio file, and which of its channels, or which span of it, are meant."""

    path: Path  # path of the file, for messages
    data: bytes  # content of the file; b"" for a span
    channel: int | None = None  # number of the channel, from 0; None for the mean of all channels
    span: Span | None = None  # the part of the file; None for all of it
    decoded: Decoded | None = None  # the samples of the file, if a span of them is meant
    longest: float = MAX_SECONDS  # longest duration of the file in seconds
    max_samples: int = MAX_SAMPLES  # most samples of all channels of the file together

    def __post_init__(self) -> None:
        """Raise AudioError if the channel is no number from 0."""
        number: object = self.channel
        if number is not None and (isinstance(number, bool) or not isinstance(number, Integral) or number < 0):
            raise AudioError(
                f"{self.path}: got the channel {number!r}; wanted its number, counted from 0, or None for the mean."
            )

    @classmethod
    def load(cls, path: str | Path, channel: int | None = None, is_long: bool = False) -> Recording:
        """Read a file, which may last longer than MAX_SECONDS if `is_long`.

        Raises AudioError if the file cannot be read, is empty, is larger than MAX_BYTES or is a git-LFS pointer.
        """
        longest = math.inf if is_long else MAX_SECONDS
        if ADDRESS.match(str(path)) and not Path(path).exists():
            raise AudioError(f"{path}: is an address; wanted a file. Download it first.")
        path = Path(path)
        try:
            size = check_file(path, MAX_BYTES, AudioError)
        except AudioError as error:
            raise AudioError(f"{error} {_advice_on(path)}") from error
        try:
            if size > LARGE_FILE:
                _check_header_only(path, longest)
            data = path.read_bytes()
        except (OSError, MemoryError) as error:
            raise AudioError(f"{path}: cannot be read: {_reason(error)}. {CHECK_FILE}") from error
        return replace(cls.of(data, path, channel), longest=longest)

    @classmethod
    def of(cls, data: bytes, name: str | Path, channel: int | None = None) -> Recording:
        """Return a recording of bytes that do not come from a file; `name` is used in messages.

        Raises AudioError if `data` is empty, a git-LFS pointer or something else than bytes.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise AudioError(f"{name}: got {type(data).__name__}; wanted bytes. Pass the content of a file.")
        data = bytes(data)
        if not data:
            raise AudioError(f"{name}: is empty (0 bytes). Copy or download it again, or remove it.")
        if begins_as_lfs_pointer(data):
            raise AudioError(f"{name}: is a git-LFS pointer, not audio. {FETCH_LFS}")
        return cls(Path(name), data, channel)

    @functools.cached_property
    def key(self) -> str:
        """The content key: the SHA-256 of the bytes, as 64 hexadecimal digits.

        FFmpeg's versions decode differently, so the key of what FFmpeg decodes is the SHA-256 of the bytes and of the
        decoder's name and version: no vector of another decoder is ever taken for one of this decoder. A file whose
        sound has another length than its header declares has a key of its own: earlier versions believed the header.
        The number of a channel is part of the key, too, unless all channels are equal: then each of them is the whole
        recording. So are the bounds of a span, in samples, unless the span is the whole recording.
        """
        digest = self._digest()
        if self.channel is not None and not self._has_equal_channels():
            digest.update(f"channel {self.channel}".encode())
        if self.span and self.decoded and (bounds := self._bounds()) != (0, len(self.decoded.sound)):
            digest.update(f"samples {bounds[0]} to {bounds[1]}".encode())
        return str(digest.hexdigest())

    def decode_whole(self) -> Decoded:
        """Return the samples of the whole file, from which spans are cut. Raises AudioError as `sound` does."""
        with _convert_errors(self.path, self.data):
            sound, rate = self._decode_all()
            return Decoded(self._digest(), sound, rate, _are_equal(sound))

    def _digest(self) -> Any:
        if self.decoded:
            return self.decoded.digest.copy()
        digest = hashlib.sha256(self.data)
        with _convert_errors(self.path, self.data):
            if not formats.is_exact(self.data):
                digest.update(ffmpeg.decoder().encode())
            if formats.has_other_length(self.data):  # earlier versions read what the header declares
                digest.update(b"length corrected")
        return digest

    def _has_equal_channels(self) -> bool:
        if self.decoded:
            return self.decoded.has_equal_channels
        with _convert_errors(self.path, self.data):
            return _are_equal(self._decode_all()[0])

    def _bounds(self) -> tuple[int, int]:
        """Return the first sample of the span, and the one after its last. Raises AudioError if it lies outside."""
        decoded, span = self.decoded, self.span
        if decoded is None or span is None:
            raise ValueError("only a span has bounds")
        bounds, fault = spans.bounds(span, len(decoded.sound), decoded.rate)
        if fault:
            raise AudioError(f"{self.path}, {span}: {fault}")
        return bounds

    @property
    def suffix(self) -> str:
        """The file name suffix that fits the bytes; `.mp3` if none is known."""
        return kinds.suffix(self.data) or ".mp3"

    def seconds(self) -> float:
        """Return the duration in seconds. The whole file is decoded; raises AudioError if it has any fault."""
        sound, native_rate = self.sound()
        return len(sound) / native_rate

    def sound(self) -> tuple[NDArray[np.float32], int]:
        """Return the samples, (samples, channels) float32, and the file's sample rate in Hz.

        If a channel was chosen, it is the only one. Raises AudioError if the file cannot be decoded, is truncated, or
        holds NaN or infinite samples, if it lacks the channel, or if its channels cancel each other.
        """
        with _convert_errors(self.path, self.data):
            return self._decode()

    def declared_seconds(self) -> float:
        """Return the duration that the header declares, in seconds, which may be wrong.

        What FFmpeg decodes is decoded, because many such files declare no duration. Raises AudioError if the header
        cannot be read or declares more than the size limits allow.
        """
        import soundfile

        with _convert_errors(self.path, self.data):
            if not formats.is_exact(self.data) or formats.needs_count(self.data):
                return self.seconds()
            self._check_structure()
            with soundfile.SoundFile(io.BytesIO(formats.mended(self.data))) as file:
                _check_limits(self.path, file, self.longest, self.max_samples)
                return float(file.frames / file.samplerate)

    def waveform(self, rate: int) -> Waveform:
        """Return the waveform, (samples,) float32, at the sample rate `rate` in Hz.

        Raises AudioError as `sound` does.
        """
        return self.mixdown(rate).wave

    def mixdown(self, rate: int) -> Mixdown:
        """Return the waveform at the sample rate `rate` in Hz, with what is known of the recording.

        Raises AudioError as `sound` does.
        """
        check_rate(rate)
        with _convert_errors(self.path, self.data):
            return mixdown(*self._decode(), rate)

    def blocks(self) -> Iterator[Block]:
        """Yield the sound of the whole file in consecutive blocks, so that memory holds one block of it at a time.

        Faults are found in the block in which they lie. The checksum of a FLAC file over all its samples is not
        compared; those of its frames are. Raises AudioError as `sound` does.
        """
        with _convert_errors(self.path, self.data):
            self._check_structure()
            exact = formats.is_exact(self.data) and not formats.needs_count(self.data)
            for block in self._exact_blocks() if exact else self._ffmpeg_blocks():
                if fault := find_sample_fault(block.sound) or find_narrow_fault(block.sound):
                    raise AudioError(f"{self.path}: {fault}. Write the clip again from its source.")
                yield block

    def _ffmpeg_blocks(self) -> Iterator[Block]:
        _refuse_other_kinds(self.path, self.data)
        data = formats.mended(self.data)
        blocks = ffmpeg.decode_blocks(self.path, data, BLOCK_SECONDS, BLOCK_SAMPLES, self.longest)
        for sound, rate, declared in blocks:
            _check_rate(self.path, rate)
            yield Block(sound, rate, declared)

    def _exact_blocks(self) -> Iterator[Block]:
        import soundfile

        with soundfile.SoundFile(io.BytesIO(formats.mended(self.data))) as file:
            if file.frames <= 0:
                raise AudioError(f"{self.path}: holds no samples. Replace or remove the file.")
            _check_limits(self.path, file, self.longest, max_samples=sys.maxsize)
            declared, held = file.frames, 0
            length = max(1, min(round(BLOCK_SECONDS * file.samplerate), BLOCK_SAMPLES // file.channels))
            while len(sound := file.read(length, dtype="float32", always_2d=True)):
                held += len(sound)
                yield Block(sound, file.samplerate, declared / file.samplerate)
        if held < declared:
            raise AudioError(f"{self.path}: {_truncated(declared, held)}")

    def flac(self, rate: int = 16_000, longest: float = 20.0) -> bytes:
        """Return the first `longest` seconds as a mono 16-bit FLAC file at `rate` Hz, which every browser plays.

        Raises AudioError as `sound` does.
        """
        import soundfile

        wave = self.waveform(rate)[: int(longest * rate)]
        file = io.BytesIO()
        with _convert_errors(self.path):
            soundfile.write(file, np.clip(wave, -1, 1), rate, format="FLAC", subtype="PCM_16")
        return file.getvalue()

    def _decode(self) -> tuple[NDArray[np.float32], int]:
        """Return (samples, channels) of the chosen channels at the file's own sample rate, and that rate in Hz."""
        sound, rate = self._decode_all()
        begin, end = self._bounds() if self.span else (0, len(sound))
        return self._take_channel(sound[begin:end]), rate

    def _decode_all(self) -> tuple[NDArray[np.float32], int]:
        """Return (samples, channels) of the whole file, and its sample rate in Hz."""
        if self.decoded:
            return self.decoded.sound, self.decoded.rate
        self._check_structure()
        sound, rate = self._decode_exactly() if formats.is_exact(self.data) else self._decode_with_ffmpeg()
        if fault := find_sample_fault(sound) or find_narrow_fault(sound):
            raise AudioError(f"{self.path}: {fault}. Write the clip again from its source.")
        return sound, rate

    def _check_structure(self) -> None:
        """Raise AudioError if the structure of the file shows that it cannot be read as a whole."""
        if fault := formats.find_fault(self.data):
            raise AudioError(f"{self.path}: {fault}.")

    def _take_channel(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.channel is not None and not 0 <= self.channel < sound.shape[1]:
            have = f"has {count(sound.shape[1], 'channel')}"
            raise AudioError(f"{self.path}: {have}; wanted channel {self.channel}, counted from 0. Choose another.")
        taken = channels.take_channel(sound, self.channel)
        if fault := channels.find_channel_fault(taken):
            raise AudioError(f"{self.path}: {fault}. {channels.CHOOSE}")
        return taken

    def _decode_with_ffmpeg(self) -> tuple[NDArray[np.float32], int]:
        _refuse_other_kinds(self.path, self.data)
        sound, rate = ffmpeg.decode(self.path, formats.mended(self.data), self.max_samples, self.longest)
        _check_rate(self.path, rate)
        return sound, rate

    def _with_length(self) -> bytes:
        """Return the bytes with a header that declares as many samples as there are.

        FFmpeg counts the samples of a FLAC file. libsndfile, which decodes the file, notices if it misses some.
        """
        if not formats.needs_count(self.data):
            return formats.mended(self.data)
        import soundfile

        if declared := flac.declared(self.data):
            with soundfile.SoundFile(io.BytesIO(self.data)) as file:
                _check_limits(self.path, file, self.longest, self.max_samples)
        n = len(self._decode_with_ffmpeg()[0])
        if n < declared:
            raise AudioError(f"{self.path}: {_truncated(declared, n)}")
        return flac.with_length(self.data, n)

    def _decode_exactly(self) -> tuple[NDArray[np.float32], int]:
        import soundfile

        with soundfile.SoundFile(io.BytesIO(self._with_length())) as file:
            if file.frames <= 0:
                raise AudioError(f"{self.path}: holds no samples. Replace or remove the file.")
            if file.format not in formats.EXACT:
                raise AudioError(f"{self.path}: is {file.format}; wanted {WANTED}. Convert it.")
            _check_limits(self.path, file, self.longest, self.max_samples)
            sound = self._read_flac(file) if file.format == "FLAC" else file.read(dtype="float32", always_2d=True)
            declared, rate = file.frames, file.samplerate
        if len(sound) < declared:
            raise AudioError(f"{self.path}: {_truncated(declared, len(sound))}")
        return sound, rate

    def _read_flac(self, file: Any) -> NDArray[np.float32]:
        """Return the samples of an opened FLAC file, whose header has a checksum of them. Raises AudioError."""
        if not flac.has_checksum(self.data):
            return np.asarray(file.read(dtype="float32", always_2d=True))
        values = file.read(dtype="int32", always_2d=True)
        if len(values) == file.frames and not flac.fits_checksum(self.data, values):
            raise AudioError(
                f"{self.path}: is damaged: its samples have not the checksum (MD5) in its header. {COPY_AGAIN}"
            )
        return np.asarray(values.astype(np.float32) / np.float32(FULL_SCALE[32]))


def _truncated(declared: int, held: int) -> str:
    return f"is truncated: its header declares {declared:,} samples, it holds {held:,}. {COPY_AGAIN}"


def read(path: str | Path, rate: int) -> Waveform:
    """Return the waveform of an audio file, (samples,) float32 in [-1, 1], at the sample rate `rate` in Hz.

    Raises AudioError, which names the file, if the file cannot be decoded, is truncated, or holds NaN or infinite
    samples; AudioError also for a rate outside 100 to 768,000.
    """
    return Recording.load(path).waveform(rate)


@functools.cache
def pipeline() -> str:
    """Return the steps from a file's bytes to a waveform, with versions; the text is part of encoder fingerprints."""
    import soxr

    return f"soundfile, channel mean, soxr {soxr.__version__} {QUALITY}"


def _check_header_only(path: Path, longest: float) -> None:
    """Raise AudioError if the header of a file declares more than the size limits allow. Reads only the header."""
    import soundfile

    with path.open("rb") as file:
        head = file.read(LARGE_HEADER)
    if not formats.is_exact(head) or (flac.is_flac(head) and not flac.declared(head)):
        return
    with _convert_errors(path), soundfile.SoundFile(path) as sound:
        _check_limits(path, sound, longest)


def _check_limits(path: Path, file: Any, longest: float, max_samples: int = MAX_SAMPLES) -> None:
    """Raise AudioError if an opened file's header exceeds the limits for duration, samples or sample rate."""
    frames, width, rate = file.frames, file.channels, file.samplerate
    if frames / rate > longest:
        raise AudioError(f"{path}: lasts {frames / rate:.0f} s; wanted at most {longest:.0f} s. {CUT}")
    if frames * width > max_samples:
        raise AudioError(
            f"{path}: has {width} channels of {frames:,} samples; wanted at most {max_samples:,} samples in all "
            "channels together. Mix it down to mono, or cut it into utterances."
        )
    _check_rate(path, rate)


def check_rate(rate: object) -> None:
    """Raise AudioError if a sample rate to use, in Hz, is no whole number or outside RATES."""
    if isinstance(rate, bool) or not isinstance(rate, Real) or rate % 1 != 0:
        raise AudioError(f"got the sample rate {rate!r}; wanted a whole number of Hz, such as 16000.")
    if not RATES[0] <= float(rate) <= RATES[1]:
        raise AudioError(f"got a sample rate of {float(rate):,.0f} Hz; wanted {RATES[0]:,} to {RATES[1]:,} Hz.")


def _check_rate(path: Path, rate: int) -> None:
    """Raise AudioError if a file's sample rate is outside RATES."""
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(f"{path}: has a sample rate of {rate:,} Hz; wanted {RATES[0]:,} to {RATES[1]:,}. Resample it.")


@contextmanager
def _convert_errors(path: Path, data: bytes = b"") -> Iterator[None]:
    """Convert whatever a decoder, numpy or soxr raises to an AudioError that names the file.

    No list of classes is complete: a hostile file also leads to ValueError, OverflowError, EOFError or struct.error. If
    the first bytes of `data` are those of another kind of file, such as a video, the message names that kind.
    """
    try:
        yield
    except SerError:
        raise
    except Exception as error:
        _refuse_other_kinds(path, data)
        raise AudioError(
            f"{path}: cannot be decoded ({_reason(error)}); wanted {WANTED}. Replace or remove the file."
        ) from error


def _refuse_other_kinds(path: Path, data: bytes) -> None:
    """Raise AudioError if the first bytes of a file are those of something else than audio, such as a program."""
    if kind := kinds.other_kind(data):
        raise AudioError(f"{path}: is {kind}; wanted {WANTED}. {COPY_AGAIN}")


def middle(wave: Waveform, length: int) -> Waveform:
    """Return the middle `length` samples of a waveform, or the whole waveform if it is shorter."""
    begin = max(0, (len(wave) - length) // 2)
    return wave[begin : begin + length]


def _are_equal(sound: NDArray[np.float32]) -> bool:
    """Whether all channels of a recording (samples, channels) are equal."""
    return sound.shape[1] == 1 or bool((sound == sound[:, :1]).all())


def mixdown(sound: NDArray[np.float32], native_rate: int, rate: int) -> Mixdown:
    """Return the waveform at `rate` Hz of samples (samples, channels) at `native_rate` Hz, as a `Mixdown`."""
    doubt = channels.find_channel_doubt(sound, native_rate)
    return Mixdown(as_waveform(sound, native_rate, rate), native_rate, doubt, find_level_doubt(sound))


def as_waveform(sound: NDArray[np.float32], native_rate: int, rate: int) -> Waveform:
    """Return the waveform at `rate` Hz of samples (samples, channels) at `native_rate` Hz: mixed, then resampled."""
    return _resample(channels.mean(sound), native_rate, rate)


def _resample(wave: Waveform, native_rate: int, rate: int) -> Waveform:
    if native_rate == rate:
        return wave
    import soxr

    resampled: Waveform = soxr.resample(wave, native_rate, rate, quality=QUALITY)
    return resampled


def _advice_on(path: Path) -> str:
    """Return what to do about a path from which no sound can be read."""
    if path.is_fifo() or path.is_char_device():
        return "Write the sound to a file, or read it from standard input with `ser predict MODEL -`."
    if path.is_dir():
        return "Name a file in the folder."
    if path.is_file():
        return CUT
    tilde = " `~` means the home folder only to a shell, without quotes." if str(path).startswith("~") else ""
    return f"Check the path.{tilde}"


def _reason(error: Exception) -> str:
    """Return the system's reason or the last part of an error's message; the name of its class if that is empty."""
    text = str(getattr(error, "strerror", None) or error).strip()
    last = text.rsplit(": ", 1)[-1].rstrip(".") if text else type(error).__name__
    return VAGUE.get(last, last)
