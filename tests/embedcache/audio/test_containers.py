"""Containers that FFmpeg opens: the duration of the sound alone counts, one track is wanted, tags are no sound."""

import io
import struct
from collections.abc import Callable

import av
import numpy as np
import pytest
from helpers.encoded import encoded
from helpers.sounds import noise

from embedcache import AudioError, Recording
from embedcache.audio import _ffmpeg_process

SECONDS, RATE = 1.5, 16_000
SOUND = 0.3 * np.sin(2 * np.pi * 220 * np.arange(round(SECONDS * RATE)) / RATE)


def film(
    container: str,
    codecs: list[str],
    *,
    rate: int = RATE,
    layout: str = "mono",
    picture: float = 0.0,
    start: float = 0.0,
    options: dict[str, str] | None = None,
) -> bytes:
    """A file with a track of sound of each codec, and pictures for `picture` seconds; the sound starts at `start`."""
    out = io.BytesIO()
    with av.open(out, "w", format=container, options=options or {}) as file:
        video = file.add_stream("flv" if container == "flv" else "mpeg4", rate=10) if picture else None
        if video:
            video.width = video.height = 32
        tracks = [file.add_stream(codec, rate=rate, layout=layout) for codec in codecs]
        for track in tracks:
            track.bit_rate = 96_000
        if video:
            for n in range(round(10 * picture)):
                image = av.VideoFrame.from_ndarray(np.full((32, 32, 3), n, np.uint8), format="rgb24")
                file.mux(video.encode(image))
            file.mux(video.encode(None))
        for track in tracks:
            add_sound(file, track, rate, layout, start)
    return out.getvalue()


def add_sound(file, track, rate: int, layout: str, start: float) -> None:
    channels = len(av.AudioLayout(layout).channels)
    values = (np.repeat(SOUND[:, None], channels, axis=1) * 32767).astype(np.int16)
    whole = av.AudioFrame.from_ndarray(values.reshape(1, -1), format="s16", layout=layout)
    whole.sample_rate, whole.pts = RATE, round(start * RATE)
    size = track.codec_context.frame_size or 1024
    resampler = av.AudioResampler(track.codec_context.format, layout, rate, frame_size=size)
    for frame in [*resampler.resample(whole), *resampler.resample(None)]:
        file.mux(track.encode(frame))
    file.mux(track.encode(None))


def seconds(data: bytes) -> float:
    return Recording.of(data, "a").seconds()


def refusal(data: bytes) -> str:
    with pytest.raises(AudioError) as error:
        seconds(data)
    return str(error.value)


FILMS = [("mp4", "aac"), ("mov", "aac"), ("matroska", "aac"), ("avi", "pcm_s16le"), ("flv", "aac"), ("asf", "wmav2")]


@pytest.mark.parametrize(("container", "codec"), FILMS)
def test_pictures_may_last_longer_than_the_sound(container: str, codec: str) -> None:
    rate = 44_100 if container in ("flv", "asf") else RATE
    assert seconds(film(container, [codec], rate=rate, picture=4.0)) == pytest.approx(SECONDS, abs=0.15)


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("matroska", "aac"), ("avi", "pcm_s16le")])
def test_a_film_that_is_cut_is_still_noticed(container: str, codec: str) -> None:
    data = film(container, [codec], picture=2.0)
    for share in (0.5, 0.8):
        assert refusal(data[: int(share * len(data))]).startswith("a: ")


@pytest.mark.parametrize(("container", "codec"), [("ogg", "libopus"), ("matroska", "libopus"), ("matroska", "flac")])
def test_sound_whose_time_stamps_begin_late_is_whole(container: str, codec: str) -> None:
    rate = 48_000 if codec == "libopus" else RATE
    data = film(container, [codec], rate=rate, start=100.0)
    assert seconds(data) == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi", "mpegts"])
def test_several_tracks_of_sound_are_refused(container: str) -> None:
    codec = "pcm_s16le" if container == "avi" else "aac"
    said = refusal(film(container, [codec, codec]))
    assert "a: has 2 audio tracks; wanted one. Keep one of them: `ffmpeg -i FILE -map 0:a:0 -c copy NEW`" in said


def with_edit(data: bytes, length: int | None, begin: int, *, also_header: bool = True) -> bytes:
    """An MP4 file whose edit list plays from a sample on, and so many milliseconds."""
    at = data.index(b"elst") + 12
    changed = bytearray(data)
    if length is not None:
        struct.pack_into(">I", changed, at, length)
        if also_header:
            struct.pack_into(">I", changed, data.index(b"tkhd") + 24, length)
    struct.pack_into(">i", changed, at + 4, begin)
    return bytes(changed)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_edit_lists_say_how_much_of_a_track_is_played(rate: int) -> None:
    data = film("mp4", ["aac"], rate=rate)
    assert seconds(data) == pytest.approx(SECONDS, abs=2048 / rate)
    assert seconds(with_edit(data, None, 2112)) == pytest.approx(SECONDS - 1088 / rate, abs=2048 / rate)
    assert seconds(with_edit(data, 500, 1024)) == pytest.approx(0.5, abs=2048 / rate)
    assert "its edit list plays less sound than its header declares" in refusal(
        with_edit(data, 500, 1024, also_header=False)
    )
    assert "its edit list plays less sound than its header declares" in refusal(with_edit(data, None, rate))


@pytest.mark.parametrize("codec", ["aac", "libopus", "flac"])
def test_eight_channels_are_decoded(codec: str) -> None:
    rate = 48_000 if codec == "libopus" else RATE
    sound, _ = Recording.of(film("matroska", [codec], rate=rate, layout="7.1"), "a").sound()
    assert sound.shape[1] == 8
    assert len(sound) / rate == pytest.approx(SECONDS, abs=0.15)
    if codec == "flac":
        np.testing.assert_allclose(sound, np.repeat(SOUND[:, None], 8, axis=1), atol=1e-4)


def test_packing_channels_changes_no_sample() -> None:
    values = noise(0.1, channels=8).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(values.reshape(1, -1), format="flt", layout="7.1")
    frame.sample_rate = RATE
    (planar,) = av.AudioResampler(format="fltp").resample(frame)
    packed = _ffmpeg_process.Packer().pack(planar)
    np.testing.assert_array_equal(_ffmpeg_process._samples(packed, 8), values)


def amr(head: bytes, size: int) -> bytes:
    rng = np.random.default_rng(0)
    return head + b"".join(b"\x04" + rng.bytes(size) for _ in range(50))


@pytest.mark.parametrize("data", [amr(b"#!AMR\n", 12), amr(b"#!AMR-WB\n", 17)], ids=["narrow", "wide"])
def test_amr_is_no_script(data: bytes) -> None:
    assert seconds(data) == pytest.approx(1.0)
    assert "is truncated: its last frame is incomplete" in refusal(data[:-5])
    assert "is a script" in refusal(b"#!/bin/sh\necho\n")


def ape(size: int) -> bytes:
    body = struct.pack("<II", size, 0) + b"Cover\0" + np.random.default_rng(1).bytes(size)
    head = struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(body) + 32, 1, 0xA0000000)
    return head + body + struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(body) + 32, 1, 0x80000000)


TAILS = {
    "newline": b"\n",
    "zeros": bytes(100),
    "many zeros": bytes(4096),
    "text": b"<!-- served by cache 12 -->\n",
    "Lyrics3": b"LYRICSBEGIN" + b"la " * 300 + b"000911LYRICS200TAG" + b"x" * 125,
    "ID3v1": b"TAG" + b"x" * 125,
    "ID3v2.4": b"ID3\x04\0\x10\0\0\x01\0" + bytes(128) + b"3DI\x04\0\x10\0\0\x01\0",
    "APE with a cover": ape(50_000),
}
ELEMENTARY = {
    "mp3": lambda: encoded(SOUND, "mp3"),
    "mp3 without a count of frames": lambda: encoded(SOUND, "mp3 without a count of frames"),
    "aac": lambda: encoded(SOUND, "aac"),
    "opus": lambda: encoded(SOUND, "opus"),
    "mp2": lambda: film("mp2", ["mp2"]),
    "ac3": lambda: film("ac3", ["ac3"], rate=48_000),
    "eac3": lambda: film("eac3", ["eac3"], rate=48_000),
    "mpegts": lambda: film("mpegts", ["aac"]),
    "flv": lambda: film("flv", ["aac"], rate=44_100),
    "wma": lambda: film("asf", ["wmav2"], rate=44_100),
}


@pytest.mark.parametrize("kind", ELEMENTARY)
@pytest.mark.parametrize("tail", ["newline", "many zeros", "ID3v1", "APE with a cover"])
def test_what_follows_the_last_frame_is_passed_over(kind: str, tail: str) -> None:
    data = ELEMENTARY[kind]()
    whole, behind = (Recording.of(bytes_, "a").sound()[0] for bytes_ in (data, data + TAILS[tail]))
    np.testing.assert_array_equal(behind, whole)


@pytest.mark.parametrize("tail", TAILS)
def test_every_tag_behind_an_mp3_is_passed_over(tail: str) -> None:
    assert seconds(encoded(SOUND, "mp3") + TAILS[tail]) == seconds(encoded(SOUND, "mp3"))


@pytest.mark.parametrize("kind", ELEMENTARY)
def test_a_cut_within_a_frame_and_a_hole_are_noticed(kind: str) -> None:
    data = ELEMENTARY[kind]()
    middle = len(data) // 2
    assert refusal(data[: len(data) - 50]).startswith("a: ")
    assert refusal(data[: middle + 1]).startswith("a: ")
    assert refusal(data[:middle] + data[middle + 250 :]).startswith("a: ")


@pytest.mark.parametrize("kind", ["mp3", "flv", "wma"])
def test_a_second_file_behind_the_first_is_noticed(kind: str) -> None:
    data = encoded(SOUND, "mp3 behind a tag") if kind == "mp3" else ELEMENTARY[kind]()
    assert refusal(data + data) == "a: holds several recordings, one after the other. Split them into files."
    assert refusal(data + encoded(SOUND, "wav")).startswith("a: ")


def test_a_title_is_no_count_of_frames() -> None:
    """`Info` is the mark of a count in the first frame of an MP3 file, and a word of titles."""
    frames = film("mp3", ["libmp3lame"], rate=44_100, options={"write_xing": "0", "id3v2_version": "0"})
    title = b"TIT2" + struct.pack(">IH", 11, 0) + b"\0Info Xing!"
    tag = b"ID3\x03\0\0" + bytes([0, 0, 0, len(title)]) + title
    assert seconds(tag + frames) == seconds(frames)


def pages(data: bytes) -> list[bytes]:
    found, begin = [], 0
    while data[begin : begin + 4] == b"OggS":
        count = data[begin + 26]
        end = begin + 27 + count + sum(data[begin + 27 : begin + 27 + count])
        found.append(data[begin:end])
        begin = end
    return found


@pytest.mark.parametrize(
    "change",
    [lambda p: [*p[:4], p[3], *p[4:]], lambda p: [*p[:3], *p[4:]], lambda p: [*p[:3], p[4], p[3], *p[5:]]],
    ids=["twice", "missing", "exchanged"],
)
def test_pages_of_ogg_that_are_missing_or_doubled_are_noticed(change: Callable[[list[bytes]], list[bytes]]) -> None:
    data = film("ogg", ["flac"], options={"page_duration": "200000"})
    assert len(found := pages(data)) > 6
    assert "is damaged: pages are missing, twice in it, or in another order" in refusal(b"".join(change(found)))


def test_a_hole_in_an_avi_is_noticed() -> None:
    data = film("avi", ["pcm_s16le"])
    assert seconds(data) == pytest.approx(SECONDS)
    at = len(data) // 2
    for bad in (data[:at], data[:at] + data[at + 3000 :], data + data):
        assert refusal(bad).startswith("a: ")


@pytest.mark.parametrize("kind", ["opus", "vorbis"])
def test_a_damaged_page_of_ogg_is_noticed(kind: str) -> None:
    """FFmpeg passes over it, and takes the next one for the begin of the sound."""
    data = encoded(SOUND, kind)
    for at in range(300, len(data), 501):
        assert refusal(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]).startswith("a: ")
    assert "is damaged: a page has a wrong checksum" in refusal(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])


def test_an_odd_unit_of_an_mp4_is_a_flipped_bit() -> None:
    data = bytearray(film("mp4", ["aac"]))
    data[data.index(b"mvhd") + 17] ^= 1
    assert "its edit list plays less sound than its header declares" in refusal(bytes(data))


def test_live_webm_that_is_cut_within_a_block_is_noticed() -> None:
    data = film("webm", ["libopus"], rate=48_000, options={"live": "1"})
    assert seconds(data) == pytest.approx(SECONDS, abs=0.1)
    assert "is truncated or damaged: a part of it is incomplete" in refusal(data[:-30])
