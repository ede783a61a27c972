"""Headers of WAV, AIFF, AU, CAF, W64 and FLAC that are wrong: all of the sound is read, or the true reason is said."""

import hashlib
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.sounds import noise

from embedcache import AudioError, Recording

RATE = 16_000
LAWS = ("ALAW", "ULAW")
SUBTYPES = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", *LAWS)
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC")
KINDS = [
    (form, subtype, endian)
    for form in FORMATS
    for subtype in SUBTYPES
    for endian in ("FILE", "LITTLE", "BIG")
    if soundfile.check_format(form, subtype, endian)
]
# Where the size of the samples is, from the begin of their chunk, with its bytes and its order.
SIZES = {
    "WAV": (b"data", 4, "<I", 0),
    "AIFF": (b"SSND", 4, ">I", 8),
    "W64": (b"data\xf3\xac", 16, "<Q", 24),
    "CAF": (b"data", 4, ">Q", 4),
    "AU": (b".snd", 8, ">I", 0),
}
LIST = b"LIST\x0c\0\0\0INFOIART\0\0\0\0"


def written(
    form: str = "WAV", subtype: str = "PCM_16", endian: str = "FILE", n: int = 1000, channels: int = 1
) -> bytes:
    out = io.BytesIO()
    sound = noise(0.2, channels=channels, seed=n)[:n]
    soundfile.write(out, sound, RATE, format=form, subtype=subtype, endian=endian)
    return out.getvalue()


def sound_of(data: bytes) -> np.ndarray:
    return Recording.of(data, "a").sound()[0]


def refusal(data: bytes) -> str:
    with pytest.raises(AudioError) as error:
        sound_of(data)
    return str(error.value)


def oracle(data: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0]


def with_size(data: bytes, form: str, change: Callable[[int], int]) -> bytes:
    """The bytes with another size of the samples, in bytes, in the header."""
    name, behind, kind, more = SIZES[form]
    at = data.index(name) + behind
    (size,) = struct.unpack_from(kind, data, at)
    changed = bytearray(data)
    struct.pack_into(kind, changed, at, change(size - more) + more)
    return bytes(changed)


@pytest.mark.parametrize(("form", "subtype", "endian"), KINDS)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_what_libsndfile_writes_is_what_it_reads_and_a_cut_is_noticed(
    form: str, subtype: str, endian: str, channels: int
) -> None:
    for n in (1000, 1001):
        data = written(form, subtype, endian, n, channels)
        np.testing.assert_array_equal(sound_of(data), oracle(data))
        wanted = noise(0.2, channels=channels, seed=n)[:n].reshape(n, channels)
        step = {"PCM_16": 2**-15, "PCM_24": 2**-23, "PCM_32": 1e-7, "FLOAT": 1e-7, "DOUBLE": 1e-7}.get(subtype, 0.02)
        np.testing.assert_allclose(sound_of(data)[:n], wanted, atol=step)
        for share in (0.4, 0.8):
            assert refusal(data[: int(share * len(data))]).startswith("a: ")
        if channels == 1:
            assert refusal(data + data) == "a: holds several recordings, one after the other. Split them into files."


@pytest.mark.parametrize("form", [*SIZES, "RIFX", "RF64"])
@pytest.mark.parametrize("change", [lambda n: n // 2, lambda n: 44, lambda n: 2], ids=["half", "44", "2"])
def test_a_size_that_is_too_small_loses_nothing(form: str, change: Callable[[int], int]) -> None:
    """Where the size of the file shows that it ends later, all is read; else it is refused with the reason."""
    if form == "RF64":
        data = written(form)
        at = data.index(b"ds64") + 16
        size = int.from_bytes(data[at : at + 8], "little")
        bad = data[:at] + change(size).to_bytes(8, "little") + data[at + 8 :]
    elif form == "RIFX":
        data = written("WAV", endian="BIG")
        at = data.index(b"data") + 4
        bad = data[:at] + change(2000).to_bytes(4, "big") + data[at + 4 :]
    else:
        data = written(form)
        bad = with_size(data, form, change)
    if form in ("AU", "CAF"):  # they do not say how large the file is
        assert f"has {2000 - change(2000):,} bytes behind the end that its header declares" in refusal(bad)
    else:
        np.testing.assert_array_equal(sound_of(bad), sound_of(data))
        assert len(sound_of(bad)) == 1000


def test_both_sizes_of_a_wav_that_are_too_small_are_refused() -> None:
    data = bytearray(with_size(written(), "WAV", lambda n: n // 2))
    data[4:8] = (36 + 1000).to_bytes(4, "little")
    assert "has 1,000 bytes behind the end that its header declares, which are no part of its format" in refusal(
        bytes(data)
    )


def test_a_file_whose_length_is_corrected_has_a_key_of_its_own() -> None:
    """A store may have a vector of the part that was read before."""
    data = written()
    assert Recording.of(data, "a").key == hashlib.sha256(data).hexdigest()
    bad = with_size(data, "WAV", lambda n: n // 2)
    assert Recording.of(bad, "a").key == hashlib.sha256(bad + b"length corrected").hexdigest()
    titled = with_size(data, "WAV", lambda n: 0xFFFFFFFF) + LIST
    assert Recording.of(titled, "a").key == hashlib.sha256(titled + b"length corrected").hexdigest()
    padded = written("AIFF", "PCM_24", n=1001)
    assert Recording.of(padded, "a").key == hashlib.sha256(padded).hexdigest()
    assert Recording.of(data + LIST, "a").key == hashlib.sha256(data + LIST).hexdigest()
    piped = with_size(data, "WAV", lambda n: 0xFFFFFFFF)
    assert Recording.of(piped, "a").key == hashlib.sha256(piped).hexdigest()
    few = with_flac_total(written("FLAC"), 500)
    assert Recording.of(few, "a").key == hashlib.sha256(few + b"length corrected").hexdigest()


@pytest.mark.parametrize(
    ("form", "placeholders"),
    [
        ("WAV", (0, 0xFFFFFFFF, 0x7FFFFFFF)),
        ("AU", (0, 0xFFFFFFFF)),
        ("AIFF", (-8, 0xFFFFFFFF - 8, 0x7F000000)),
        ("CAF", (2**64 - 5,)),
        ("W64", (-24, 2**63 - 25)),
    ],
)
def test_files_that_were_streamed_are_read_to_their_end(form: str, placeholders: tuple[int, ...]) -> None:
    data = written(form)
    for number in placeholders:
        np.testing.assert_array_equal(sound_of(with_size(data, form, lambda n, number=number: number)), sound_of(data))


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_list_behind_samples_of_unknown_length_is_no_sound(size: int) -> None:
    data = with_size(written(), "WAV", lambda n: size) + LIST
    np.testing.assert_array_equal(sound_of(data), sound_of(written()))


ID3V1 = b"TAG" + b"x" * 125


@pytest.mark.parametrize("form", ["WAV", "AIFF", "AU", "CAF", "W64", "RF64"])
@pytest.mark.parametrize("tail", [bytes(100), ID3V1, b"\n", b"\0" + ID3V1], ids=["zeros", "ID3v1", "line", "both"])
def test_tags_and_padding_behind_the_sound_are_passed_over(form: str, tail: bytes) -> None:
    data = written(form)
    np.testing.assert_array_equal(sound_of(data + tail), sound_of(data))


def test_chunks_behind_the_sound_are_passed_over_and_other_bytes_are_not() -> None:
    data = written()
    for tail in (LIST, b"bext" + LIST[4:], b"abcd\x02\0\0\0xy" + LIST, b"LIST\x40\0\0\0INFO"):
        np.testing.assert_array_equal(sound_of(data + tail), sound_of(data))
    assert "has 700 bytes behind the end" in refusal(data + np.random.default_rng(0).bytes(700))
    with_name = data + b"LIST\x14\0\0\0adtlxxxxWAVEfmt xxxx"
    np.testing.assert_array_equal(sound_of(with_name), sound_of(data))


def test_line_ends_that_a_transfer_changed_are_named() -> None:
    sound = np.full(1000, 0x0A, np.int16)
    out = io.BytesIO()
    soundfile.write(out, sound, RATE, format="WAV", subtype="PCM_16")
    assert "a transfer in text mode changed each \\n to \\r\\n" in refusal(out.getvalue().replace(b"\n", b"\r\n"))


@pytest.mark.parametrize("parts", [(500, 500), (0, 1000)])
def test_two_chunks_of_samples_are_named(parts: tuple[int, int]) -> None:
    data = written()
    at = data.index(b"data")
    samples = data[at + 8 :]
    first, second = samples[: 2 * parts[0]], samples[2 * parts[0] :]
    chunks = b"".join(b"data" + len(part).to_bytes(4, "little") + part for part in (first, second))
    assert "has two chunks of samples, one after the other" in refusal(data[:at] + chunks)


def test_padding_that_a_program_counts_is_no_sample() -> None:
    """FFmpeg counts the padding of RF64 and W64 as samples; the header has the number of samples, too."""
    data = written("RF64", "ULAW", n=1001)
    data = data[: data.index(b"data") + 8 + 1001] + b"\0"
    at = data.index(b"ds64") + 16
    bad = bytearray(data)
    bad[at : at + 8] = (1002).to_bytes(8, "little")
    bad[at + 8 : at + 16] = (1001).to_bytes(8, "little")
    assert len(sound_of(bytes(bad))) == 1001


def test_a_big_endian_wav_is_read_as_it_was_written(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(0.1), RATE, subtype="PCM_16", endian="BIG")
    np.testing.assert_allclose(Recording.load(tmp_path / "a.wav").sound()[0][:, 0], noise(0.1), atol=1 / 32768)


def with_flac_total(data: bytes, n: int) -> bytes:
    number = int.from_bytes(data[18:26], "big") >> 36 << 36 | n
    return data[:18] + number.to_bytes(8, "big") + data[26:]


@pytest.mark.parametrize("n", [1, 4000, 19_999])
def test_a_flac_that_declares_too_few_samples_is_read_to_its_end(n: int) -> None:
    out = io.BytesIO()
    soundfile.write(out, noise(1.25), RATE, format="FLAC")
    np.testing.assert_array_equal(sound_of(with_flac_total(out.getvalue(), n)), oracle(out.getvalue()))


def test_a_flac_that_declares_too_many_samples_is_truncated() -> None:
    assert "is truncated: its header declares 1,001 samples, it holds 1,000" in refusal(
        with_flac_total(written("FLAC"), 1001)
    )


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
def test_the_checksum_of_a_flac_is_checked(subtype: str) -> None:
    data = written("FLAC", subtype, channels=2)
    assert len(sound_of(data)) == 1000
    assert "its samples have not the checksum (MD5) in its header" in refusal(data[:30] + b"????" + data[34:])
    np.testing.assert_array_equal(sound_of(data[:26] + bytes(16) + data[42:]), sound_of(data)), "0 is no checksum"


def test_another_file_behind_a_flac_is_noticed() -> None:
    assert "holds several recordings" in refusal(written("FLAC") + written("WAV"))


@pytest.mark.parametrize("n", [4096, 20_001])
def test_alac_in_caf_is_read_to_its_end(n: int) -> None:
    out = io.BytesIO()
    soundfile.write(out, noise(1.5)[:n], RATE, format="CAF", subtype="ALAC_16")
    np.testing.assert_array_equal(sound_of(out.getvalue()), oracle(out.getvalue()))


def test_au_with_adpcm_is_refused_with_its_reason() -> None:
    data = bytearray(written("AU"))
    data[12:16] = (23).to_bytes(4, "big")
    assert "its format is not one of those that are read" in refusal(bytes(data))


@pytest.mark.parametrize("kind", ["IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_the_seconds_of_compressed_wav_files_are_not_guessed(kind: str) -> None:
    data = written("WAV", kind, n=3000)
    said = refusal(data[: len(data) // 2])
    assert "is truncated: its header declares" in said
    assert " bytes of sound, it holds" in said


def test_floats_of_w64_are_not_taken_for_integers() -> None:
    """The second code of the sample format says that they are floats; libsndfile overlooks it."""
    code = struct.pack("<HHIIHHHHIH", 0xFFFE, 1, RATE, 4 * RATE, 4, 32, 22, 32, 4, 3)
    code += bytes.fromhex("000000001000800000aa00389b71")
    guid = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0O\x8e\xdb\x8a"
    samples = noise(0.1).astype("<f4").tobytes()
    chunks = b"fmt " + guid + struct.pack("<Q", 24 + len(code)) + code
    chunks += b"data" + guid + struct.pack("<Q", 24 + len(samples)) + samples
    start = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0"
    data = start + struct.pack("<Q", 40 + len(chunks)) + b"wave" + guid + chunks
    np.testing.assert_array_equal(sound_of(data)[:, 0], noise(0.1).astype(np.float32))


def test_adpcm_in_w64_is_read() -> None:
    """libsndfile writes no number of samples where FFmpeg reads one."""
    data = written("W64", "MS_ADPCM", n=3000)
    np.testing.assert_allclose(sound_of(data)[:3000], oracle(data)[:3000], atol=2e-3)


@pytest.mark.parametrize("channel", [-1, -2])
def test_a_negative_channel_is_none(channel: int) -> None:
    with pytest.raises(AudioError, match=f"got the channel {channel}; wanted its number, counted from 0"):
        Recording.of(written(channels=2), "a", channel).sound()
