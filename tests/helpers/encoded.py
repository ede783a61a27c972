"""Sound in the formats that people have, encoded by PyAV and soundfile."""

from __future__ import annotations

import io

import av
import numpy as np
import soundfile

# name: container, codec, options of the container, sample rate (0: that of the sound), bit rate
LOSSY = {
    "mp3": ("mp3", "libmp3lame", {}, 0, 0),
    "mp3 without a count of frames": ("mp3", "libmp3lame", {"write_xing": "0"}, 0, 64_000),
    "mp3 behind a tag": ("mp3", "libmp3lame", {"id3v2_version": "3"}, 44_100, 128_000),
    "m4a": ("ipod", "aac", {}, 0, 0),
    "mp4": ("mp4", "aac", {}, 44_100, 0),
    "aac": ("adts", "aac", {}, 0, 0),
    "opus": ("ogg", "libopus", {}, 48_000, 0),
    "webm": ("webm", "libopus", {}, 48_000, 0),
}
STREAMS = {
    "mpegts": ("mpegts", "libmp3lame", {}, 0, 0),
    "flv": ("flv", "libmp3lame", {}, 44_100, 0),
    "wma": ("asf", "wmav2", {}, 0, 64_000),
}
SOUNDFILE = {
    "vorbis": ("OGG", "VORBIS"),
    "gsm": ("WAV", "GSM610"),
    "adpcm": ("WAV", "IMA_ADPCM"),
    "aifc": ("AIFF", "ULAW"),
    "w64": ("W64", "PCM_24"),
}
EXACT = {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "aiff": ("AIFF", "PCM_16"), "rf64": ("RF64", "PCM_16")}


def encoded(sound: np.ndarray, kind: str, rate: int = 16_000) -> bytes:
    """A file of sound, (samples,) or (samples, channels), of a kind of LOSSY, STREAMS, SOUNDFILE or EXACT."""
    if kind in LOSSY | STREAMS:
        return _with_pyav(sound, rate, *(LOSSY | STREAMS)[kind])
    container, codec = (SOUNDFILE | EXACT)[kind]
    out = io.BytesIO()
    soundfile.write(out, sound, rate, format=container, subtype=codec)
    return out.getvalue()


def _with_pyav(sound: np.ndarray, rate: int, container: str, codec: str, options: dict, other: int, bits: int) -> bytes:
    layout = "mono" if sound.ndim == 1 else "stereo"
    whole = av.AudioFrame.from_ndarray(
        np.ascontiguousarray((sound * 32767).astype(np.int16).reshape(1, -1)), format="s16", layout=layout
    )
    whole.sample_rate = rate
    out = io.BytesIO()
    with av.open(out, "w", format=container, options=options) as file:
        stream = file.add_stream(codec, rate=other or rate, layout=layout)
        if bits:
            stream.bit_rate = bits
        resampler = av.AudioResampler(stream.codec_context.format or "s16", layout, other or rate)
        for frame in [*resampler.resample(whole), *resampler.resample(None)]:
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return out.getvalue()
