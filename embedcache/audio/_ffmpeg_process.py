"""The process in which FFmpeg decodes: a hostile file that crashes FFmpeg ends this process, and no other.

The process reads requests from standard input and writes answers to standard output, until standard input ends. A
request is the number of bytes (8 bytes, little-endian) and the bytes of a file. An answer is a line of JSON, and then
the samples as float32, sample by sample with all channels. `ffmpeg.py` has the other side.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import av
import numpy as np

from . import formats

# Demuxers that read sound from one file. Others, such as those of playlists, would open further files or addresses.
DEMUXERS = "mp3,aac,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,ogg,flac,wav,w64,caf,asf,amr,avi,flv,mpegts,mpeg,ac3,eac3"
DIVISORS = {"u8": 128.0, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63, "flt": 1.0, "dbl": 1.0}
ESTIMATED = ("mp3", "aac", "amr", "ac3", "eac3", "mpegts", "mpeg")  # formats whose headers declare no duration
SHORT = 0.1  # seconds by which a file may be shorter than it declares: encoders pad the start and the end


class Refused(Exception):
    """The file cannot be used, with the reason."""


def decode(data: bytes, max_samples: int, max_seconds: float) -> tuple[Any, int]:
    """Return the samples (n, channels) float32 of the first sound of a file, and its sample rate in Hz."""
    options = {"format_whitelist": DEMUXERS, "err_detect": "crccheck+explode"}
    with av.open(io.BytesIO(data), "r", options=options, metadata_errors="replace") as container:
        if not container.streams.audio:
            raise Refused(f"is {container.format.long_name or container.format.name}, and has no sound")
        stream = container.streams.best("audio") or container.streams.audio[0]
        stream.codec_context.options = {"err_detect": "crccheck+explode"}  # a frame with a wrong checksum is an error
        declared = _declared_seconds(container, stream, data)
        if declared > max_seconds:
            raise Refused(f"lasts {declared:.0f} s; wanted at most {max_seconds:.0f} s. Cut it into utterances")
        sound, rate = _decode_stream(container, stream, max_samples, max_seconds)
    if len(sound) / rate < declared - SHORT:
        raise Refused(
            f"is truncated: its header declares {declared:.2f} s, it holds {len(sound) / rate:.2f} s. Copy or download "
            "it again, or remove it"
        )
    return sound, rate


def _decode_stream(container: Any, stream: Any, max_samples: int, max_seconds: float) -> tuple[Any, int]:
    parts: list[Any] = []
    n, rate, channels = 0, 0, 0
    end: float | None = None
    for frame in container.decode(stream):
        if end is not None and frame.time is not None and frame.time > end + SHORT:
            raise Refused(f"is damaged: its sound is missing from {end:.2f} s to {frame.time:.2f} s. Copy it again")
        end = None if frame.time is None else frame.time + frame.samples / frame.sample_rate
        if rate and (frame.sample_rate, frame.layout.nb_channels) != (rate, channels):
            raise Refused("changes its sample rate or its channels in the middle. Convert or cut it")
        rate, channels = frame.sample_rate, frame.layout.nb_channels
        parts.append(_samples(frame, channels))
        n += len(parts[-1])
        if n * channels > max_samples or n > max_seconds * rate:
            raise Refused(
                f"lasts more than {max_seconds:.0f} s, or has more than {max_samples:,} samples in all channels. Cut "
                "it into utterances"
            )
    if not n:
        raise Refused("holds no samples. Replace or remove the file")
    return np.concatenate(parts), rate


def _samples(frame: Any, channels: int) -> Any:
    """Return the samples (n, channels) of a frame, as float32 with 1 for full scale."""
    name = frame.format.name
    values = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(-1, channels)
    kind = name.removesuffix("p")
    return ((values.astype(np.float64) - (128 if kind == "u8" else 0)) / DIVISORS[kind]).astype(np.float32)


def _declared_seconds(container: Any, stream: Any, data: bytes) -> float:
    """Return the duration that a file declares; 0 if it declares none, or if FFmpeg estimates it from the bit rate.

    FFmpeg takes the duration of Ogg and MP4 files from what is left of a damaged file. They also declare it themselves.
    """
    name = container.format.name
    if name in ESTIMATED and not (name == "mp3" and formats.has_frame_count(data)):
        return 0.0
    seconds = [max(0.0, (container.duration or 0) / 1e6)]
    if stream.duration is not None and stream.time_base is not None:
        seconds.append(float(stream.duration * stream.time_base))
    if name == "ogg":
        seconds.append(formats.last_ogg_position(data) / (stream.rate or 48_000))
    if data[4:8] == b"ftyp":
        seconds.append(formats.mp4_seconds(data))
    return max(seconds)


def answers(requests: BinaryIO, out: BinaryIO, max_samples: int, max_seconds: float) -> None:
    """Answer requests until they end."""
    for data in _read_requests(requests):
        try:
            samples, rate = decode(data, max_samples, max_seconds)
            head: dict[str, Any] = {"rate": rate, "channels": samples.shape[1], "samples": len(samples)}
        except Refused as error:
            samples, head = None, {"refused": str(error)}
        except Exception as error:  # FFmpeg's errors, and what PyAV and numpy raise for files that they do not expect
            samples, head = None, {"error": str(error).strip() or type(error).__name__}
        out.write(json.dumps(head).encode() + b"\n")
        if samples is not None:
            out.write(np.ascontiguousarray(samples).data)
        out.flush()


def _read_requests(requests: BinaryIO) -> Iterator[bytes]:
    while len(size := requests.read(8)) == 8:
        yield requests.read(int.from_bytes(size, "little"))


if __name__ == "__main__":
    av.logging.set_level(av.logging.PANIC)
    answers(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]), float(sys.argv[2]))
