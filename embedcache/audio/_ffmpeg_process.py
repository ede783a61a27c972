"""The process in which FFmpeg decodes: a hostile file that crashes FFmpeg ends this process, and no other.

The process reads requests from standard input and writes answers to standard output, until standard input ends. A
request is the number of bytes (8 bytes, little-endian) and the bytes of a file. An answer is a line of JSON, and then
the samples as float32, sample by sample with all channels. With a third argument, the seconds of a block, a file gets
an answer for each block, and one without samples at the end; the limit on samples is then that of a block. `ffmpeg.py`
has the other side.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import av
import numpy as np
from av.stream import Disposition

from .structure import chunks, containers, frames

# Demuxers that read sound from one file. Others, such as those of playlists, would open further files or addresses.
DEMUXERS = "mp3,aac,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,ogg,flac,wav,w64,caf,asf,amr,avi,flv,mpegts,mpeg,ac3,eac3"
DIVISORS = {"u8": 128.0, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63, "flt": 1.0, "dbl": 1.0}
ESTIMATED = ("mp3", "aac", "amr", "ac3", "eac3", "mpegts", "mpeg")  # formats whose headers declare no duration
SHORT = 0.1  # seconds by which a file may be shorter than it declares: encoders pad the start and the end


class Refused(Exception):
    """The file cannot be used, with the reason."""


def decode(data: bytes, max_samples: int, max_seconds: float) -> tuple[Any, int]:
    """Return the samples (n, channels) float32 of the first sound of a file, and its sample rate in Hz."""
    parts, n, rate = [], 0, 0
    for part, rate, _ in _decode_parts(data, max_seconds):  # noqa: B007 - the rate of all parts is the same
        parts.append(part)
        n += part.size
        if n > max_samples:
            raise Refused(_too_long(max_seconds, max_samples))
    return np.concatenate(parts), rate


def decode_blocks(
    data: bytes, block_seconds: float, block_samples: int, max_seconds: float
) -> Iterator[tuple[Any, int, float]]:
    """Yield blocks of samples (n, channels), each with the sample rate in Hz and the declared duration in seconds.

    A block ends with the frame with which it lasts `block_seconds`, or has `block_samples` samples of all channels.
    """
    parts: list[Any] = []
    n, rate, declared = 0, 0, 0.0
    for part, rate, declared in _decode_parts(data, max_seconds):
        parts.append(part)
        n += len(part)
        if n >= block_seconds * rate or n * part.shape[1] >= block_samples:
            yield np.concatenate(parts), rate, declared
            parts, n = [], 0
    if parts:
        yield np.concatenate(parts), rate, declared


def _decode_parts(data: bytes, max_seconds: float) -> Iterator[tuple[Any, int, float]]:
    """Yield the samples (n, channels) of each frame, the sample rate, and the declared duration, 0 for none."""
    options = {"format_whitelist": DEMUXERS, "err_detect": "crccheck+explode"}
    with av.open(io.BytesIO(data), "r", options=options, metadata_errors="replace") as container:
        stream = _only_track(container)
        stream.codec_context.options = {"err_detect": "crccheck+explode"}  # a frame with a wrong checksum is an error
        declared = _declared_seconds(container, stream, data)
        if declared > max_seconds:
            raise Refused(f"lasts {declared:.0f} s; wanted at most {max_seconds:.0f} s. Cut it into utterances")
        n, rate = 0, 1
        for part, rate in _decode_stream(container, stream):
            n += len(part)
            if n > max_seconds * rate:
                raise Refused(_too_long(max_seconds))
            yield part, rate, declared
    if not n:
        raise Refused("holds no samples. Replace or remove the file")
    if n / rate < declared - SHORT:
        raise Refused(
            f"is truncated: its header declares {declared:.2f} s, it holds {n / rate:.2f} s. Copy or download "
            "it again, or remove it"
        )


def _too_long(max_seconds: float, max_samples: int = 0) -> str:
    samples = f", or has more than {max_samples:,} samples in all channels" if max_samples else ""
    return f"lasts more than {max_seconds:.0f} s{samples}. Cut it into utterances"


def _only_track(container: Any) -> Any:
    """Return the track of sound of a container. Raises Refused if there is none, or several, or none that is known."""
    if not (tracks := container.streams.audio):
        raise Refused(f"is {container.format.long_name or container.format.name}, and has no sound")
    if len(tracks) > 1:
        raise Refused(
            f"has {len(tracks)} audio tracks; wanted one. Keep one of them: `ffmpeg -i FILE -map 0:a:0 -c copy NEW` "
            "keeps the first, if NEW has the suffix of FILE"
        )
    if tracks[0].codec_context is None:
        raise Refused("has sound in a format that FFmpeg does not decode. Convert it to WAV")
    return tracks[0]


def _decode_stream(container: Any, stream: Any) -> Iterator[tuple[Any, int]]:
    """Yield the samples (n, channels) of each frame, and the sample rate in Hz."""
    packer = Packer()
    rate, channels = 0, 0
    end: float | None = None
    for frame in container.decode(stream):
        if end is not None and frame.time is not None and frame.time > end + SHORT:
            raise Refused(f"is damaged: its sound is missing from {end:.2f} s to {frame.time:.2f} s. Copy it again")
        end = None if frame.time is None else frame.time + frame.samples / frame.sample_rate
        if rate and (frame.sample_rate, frame.layout.nb_channels) != (rate, channels):
            raise Refused("changes its sample rate or its channels in the middle. Convert or cut it")
        rate, channels = frame.sample_rate, frame.layout.nb_channels
        yield _samples(packer.pack(frame), channels), rate


class Packer:
    """Puts the samples of many channels side by side: PyAV reads beyond the memory of a frame of 8 planes or more."""

    def __init__(self) -> None:
        self.resampler: Any = None

    def pack(self, frame: Any) -> Any:
        """Return a frame with the same samples, of which at most 7 channels have memory of their own."""
        if not frame.format.is_planar or frame.layout.nb_channels < 8:
            return frame
        if self.resampler is None:
            self.resampler = av.AudioResampler(format=frame.format.name.removesuffix("p"))
        (packed,) = self.resampler.resample(frame)
        if packed.samples != frame.samples:
            raise Refused("has channels that FFmpeg does not put side by side. Convert it to WAV")
        return packed


def _samples(frame: Any, channels: int) -> Any:
    """Return the samples (n, channels) of a frame, as float32 with 1 for full scale."""
    name = frame.format.name
    values = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(-1, channels)
    kind = name.removesuffix("p")
    return ((values.astype(np.float64) - (128 if kind == "u8" else 0)) / DIVISORS[kind]).astype(np.float32)


def _declared_seconds(container: Any, stream: Any, data: bytes) -> float:
    """Return the duration of the sound that a file declares; 0 if it declares none, or if FFmpeg estimates it.

    FFmpeg takes the duration of Ogg and MP4 files from what is left of a damaged file. They also declare it themselves.
    The sizes of files that consist of chunks were checked before. The duration of a container is that of the longest
    of its streams, and is counted from 0, wherever the sound starts.
    """
    name = container.format.name
    if name in ESTIMATED and not (name == "mp3" and frames.has_frame_count(data)):
        return 0.0
    if chunks.layout(data):
        return chunks.caf_seconds(data) if data[:4] == b"caff" else 0.0
    if name == "ogg":
        return float(containers.ogg_position(data) / (stream.rate or 48_000) - _start(stream))
    if containers.is_mp4(data) and (seconds := containers.mp4_seconds(data)):
        return seconds
    return _seconds_by_ffmpeg(container, stream, data)


def _seconds_by_ffmpeg(container: Any, stream: Any, data: bytes) -> float:
    """Return the duration by FFmpeg's reading of the header: of the stream, or of the container if it is alone."""
    start, is_alone = _start(stream), sum(not _is_picture(other) for other in container.streams) == 1
    if data.startswith(containers.EBML) and is_alone:  # FFmpeg takes the first time stamp that is not damaged
        start = min(start, containers.matroska_start(data))
    declared = [0.0, _tagged_seconds(stream) - start]
    if is_alone:
        declared.append((container.duration or 0) / 1e6 - start)
    if stream.duration is not None and stream.time_base is not None and (is_alone or container.format.name != "asf"):
        declared.append(float(stream.duration * stream.time_base))
    return max(declared)


def _start(stream: Any) -> float:
    """Return the time stamp of the first sample in seconds; 0 if it lies before 0 or is not known."""
    return max(0.0, float((stream.start_time or 0) * (stream.time_base or 0)))


def _is_picture(stream: Any) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _tagged_seconds(stream: Any) -> float:
    """Return the duration that a Matroska file has for each of its tracks, such as `00:00:03.326000000`; 0 for none."""
    try:
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return 0.0


def answers(
    requests: BinaryIO, out: BinaryIO, max_samples: int, max_seconds: float, block_seconds: float = 0.0
) -> None:
    """Answer requests until they end; with `block_seconds`, block by block."""
    for data in _read_requests(requests):
        try:
            if block_seconds:
                for samples, rate, declared in decode_blocks(data, block_seconds, max_samples, max_seconds):
                    _write(out, {"rate": rate, "declared": declared}, samples)
                _write(out, {"end": True})
            else:
                samples, rate = decode(data, max_samples, max_seconds)
                _write(out, {"rate": rate}, samples)
        except Refused as error:
            _write(out, {"refused": str(error)})
        except Exception as error:  # FFmpeg's errors, and what PyAV and numpy raise for files that they do not expect
            _write(out, {"error": str(error).strip() or type(error).__name__})


def _write(out: BinaryIO, head: dict[str, Any], samples: Any = None) -> None:
    size = {} if samples is None else {"channels": samples.shape[1], "samples": len(samples)}
    out.write(json.dumps({**head, **size}).encode() + b"\n")
    if samples is not None:
        out.write(np.ascontiguousarray(samples).data)
    out.flush()


def _read_requests(requests: BinaryIO) -> Iterator[bytes]:
    while len(size := requests.read(8)) == 8:
        yield requests.read(int.from_bytes(size, "little"))


if __name__ == "__main__":
    av.logging.set_level(av.logging.PANIC)
    answers(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]), *map(float, sys.argv[2:]))
