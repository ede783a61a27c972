"""What the bytes of an audio file are, whatever its name says: who decodes them, and what their header gets wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

# Formats whose samples libsndfile decodes exactly, by libsndfile's names. FFmpeg decodes everything else.
EXACT = frozenset({"WAV", "WAVEX", "RF64", "FLAC", "AIFF", "AU"})
PCM, FLOAT, A_LAW, MU_LAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE  # codes of the sample format of a WAV file
EXACT_WAV = frozenset({PCM, FLOAT, A_LAW, MU_LAW})
EXACT_AIFC = frozenset({b"NONE", b"sowt", b"twos", b"raw ", b"in24", b"in32", b"fl32", b"FL32", b"fl64", b"FL64"})
EXACT_AIFC |= {b"alaw", b"ALAW", b"ulaw", b"ULAW"}
# Programs that write a WAV file to a pipe, such as ffmpeg and sox, cannot go back to fill in the size of the data. They
# leave 0, or a placeholder that is at least this large.
STREAMED = 0x7FFFF000
STREAMED_W64 = 1 << 62
UNKNOWN_SIZE = -1
W64 = b"riff\x2e\x91\xcf\x11"  # start of a W64 file, followed by 8 bytes and the size of the whole file in 8 bytes
EBML = b"\x1aE\xdf\xa3"  # start of a Matroska or WebM file


@dataclass(frozen=True)
class WavData:
    """The chunk of a WAV file that holds the samples."""

    begin: int  # offset of the first sample, in bytes
    held: int  # bytes between this offset and the end of the file
    declared: int  # bytes that the header declares; UNKNOWN_SIZE if it declares none
    size_at: int  # offset of the field that declares the size
    size_bytes: int  # length of this field: 4, or 8 for RF64
    block: int  # bytes of one sample of all channels, or of a block of compressed samples
    bytes_per_second: int  # as the header declares; 0 if it does not

    @property
    def is_cut(self) -> bool:
        """Whether complete samples are missing; a declared size that is too large by a part of one loses nothing."""
        return self.held // self.block < self.declared // self.block

    @property
    def text(self) -> str:
        """What the header declares, and what the file holds: `1.00 s, it holds 0.50 s (16,000 of 32,000 bytes)`."""
        declared, held = (size / max(1, self.bytes_per_second) for size in (self.declared, self.held))
        return f"{declared:.2f} s, it holds {held:.2f} s ({self.held:,} of {self.declared:,} bytes)"


def is_exact(data: bytes) -> bool:
    """Whether libsndfile decodes these bytes exactly. FFmpeg decodes all others, such as MP3, AAC, Opus and GSM."""
    if _is_wav(data):
        return wav_codec(data) in EXACT_WAV
    if data[:4] == b"fLaC":
        return True
    if data[:4] == b"FORM":
        return data[8:12] == b"AIFF" or (data[8:12] == b"AIFC" and _aifc_compression(data) in EXACT_AIFC)
    return data.startswith(b".snd")


def wav_codec(data: bytes) -> int:
    """Return the code of the sample format of a WAV file; PCM if there is none: libsndfile then says what is wrong."""
    for name, begin, size in _chunks(data):
        if name == b"fmt " and len(data) >= begin + 16:
            code = int.from_bytes(data[begin : begin + 2], "little")
            is_long = code == EXTENSIBLE and size >= 26 and len(data) >= begin + 26
            return int.from_bytes(data[begin + 24 : begin + 26], "little") if is_long else code
    return PCM


def wav_data(data: bytes) -> WavData | None:
    """Return the chunk with the samples of a RIFF or RF64 file; None for other files and for a file without samples.

    A RIFF file has a header of 12 bytes, followed by chunks: a name of 4 bytes, the size in 4 bytes, and the content,
    padded to an even size. In a file of 1,044 bytes with the chunks `fmt ` (16 bytes) and `data` (declared as 2,000
    bytes), the `data` chunk begins at byte 12 + 8 + 16 = 36. It holds 1,044 - 36 - 8 = 1,000 bytes of 2,000.
    """
    if not _is_wav(data):
        return None
    block, speed, long_at = 1, 0, 0
    for name, begin, size in _chunks(data):
        if name == b"fmt ":
            speed = int.from_bytes(data[begin + 8 : begin + 12], "little")
            block = max(1, int.from_bytes(data[begin + 12 : begin + 14], "little"))
        if name == b"ds64":  # an RF64 file holds the size of its data chunk here, in 8 bytes
            long_at = begin + 8
        if name == b"data":
            return WavData(begin, *_held_and_declared(data, begin, size, long_at), block, speed)
    return None


def mended_wav(data: bytes) -> bytes:
    """Return the bytes of a WAV file, with the size of the samples set to what it holds if it declares none, or more.

    Whether samples are missing must be checked before, see `WavData.is_cut`.
    """
    chunk = wav_data(data)
    if chunk is None or (chunk.declared != UNKNOWN_SIZE and chunk.declared <= chunk.held):
        return data
    held = chunk.held - chunk.held % chunk.block
    size = held.to_bytes(8, "little")[: chunk.size_bytes]
    return data[: chunk.size_at] + size + data[chunk.size_at + chunk.size_bytes : chunk.begin + held]


def is_flac_without_length(data: bytes) -> bool:
    """Whether the bytes are a FLAC file whose header declares no number of samples, as one from a pipe."""
    return data[:4] == b"fLaC" and int.from_bytes(data[18:26], "big") & (1 << 36) - 1 == 0


def flac_with_length(data: bytes, n_samples: int) -> bytes:
    """Return the bytes of a FLAC file with the number of samples in its header, 36 bits that end at byte 26."""
    number = int.from_bytes(data[18:26], "big") >> 36 << 36 | n_samples
    return data[:18] + number.to_bytes(8, "big") + data[26:]


def has_frame_count(data: bytes) -> bool:
    """Whether the first frame of an MP3 file declares the number of frames."""
    head = data[: 1 << 20]
    return any(mark in head for mark in (b"Xing", b"Info", b"VBRI"))


def last_ogg_position(data: bytes) -> int:
    """Return the number of samples up to the end of the last page of an Ogg file (RFC 3533), 8 bytes in its header."""
    at = data.rfind(b"OggS")
    return max(0, int.from_bytes(data[at + 6 : at + 14], "little", signed=True))


def mp4_seconds(data: bytes) -> float:
    """Return the longest duration in the headers of an MP4 file and its tracks (ISO/IEC 14496-12); 0 for none."""
    return max(_mp4_duration(data, data.find(name)) for name in (b"mvhd", b"mdhd"))


def _mp4_duration(data: bytes, at: int) -> float:
    """Return the duration in the box whose name is at an offset; 0 if there is none, as in fragments of a stream."""
    size = 8 if data[at + 4 : at + 5] == b"\x01" else 4
    begin = at + 8 + 2 * size  # after version, flags and two dates
    scale = int.from_bytes(data[begin : begin + 4], "big")
    duration = int.from_bytes(data[begin + 4 : begin + 4 + size], "big")
    return duration / scale if at > 0 and scale and duration < 1 << 8 * size - 1 else 0.0


def holds_several(data: bytes) -> bool:
    """Whether a second file follows in the same bytes, of the formats in which decoders pass over it."""
    if data[:4] == b"fLaC":
        return data.find(b"fLaC\x00\x00\x00\x22", 4) > 0
    if _is_wav(data):
        return (chunk := wav_data(data)) is not None and max(
            data.find(name, chunk.begin) for name in (b"WAVEfmt ", b"WAVEds64")
        ) > 0
    if data[4:8] == b"ftyp":
        return [name for name, _, _ in _boxes(data)].count(b"ftyp") > 1
    if data.startswith(EBML):
        return any(kind in data[at : at + 64] for at in _positions(data, EBML, 4) for kind in (b"webm", b"matroska"))
    if data[:4] == b"OggS":
        is_first = [bool(flags & 2) for flags, _ in _ogg_pages(data)]  # bit 1 marks the first page of a stream
        return any(first and not before for before, first in pairwise(is_first))
    return False


def _positions(data: bytes, what: bytes, begin: int) -> Iterator[int]:
    while (begin := data.find(what, begin)) >= 0:
        yield begin
        begin += len(what)


def is_cut(data: bytes) -> bool:
    """Whether the end of a file is missing: a page of Ogg, a box of MP4, a frame of MP3, or samples of AIFF or W64.

    WAV files are checked by `WavData.is_cut`. Other files show a cut only when they are decoded, if at all.
    """
    if data[:4] == b"OggS":
        return not _ogg_is_whole(data)
    if data[4:8] == b"ftyp":
        return any(name in (b"moov", b"moof", b"mdat") and end > len(data) for name, _, end in _boxes(data))
    if data.startswith(W64):
        return len(data) < int.from_bytes(data[16:24], "little") < STREAMED_W64
    if data[:4] == b"FORM":
        return any(name == b"SSND" and begin + size > len(data) for name, begin, size in _chunks(data, order="big"))
    return _mp3_is_cut(data)


def _ogg_is_whole(data: bytes) -> bool:
    """Whether an Ogg file consists of complete pages, one after the other, of which the last is marked as such.

    A page (RFC 3533) starts with "OggS". Bit 2 of byte 5 marks the last page, byte 26 is the number of segments, and
    the sizes of the segments follow from byte 27 on, one byte each; then comes the content of the segments.
    """
    pages = list(_ogg_pages(data))
    return bool(pages) and pages[-1][1] == len(data) and bool(pages[-1][0] & 4)


def _is_wav(data: bytes) -> bool:
    return data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE"


def _chunks(
    data: bytes, begin: int = 12, order: Literal["little", "big"] = "little"
) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, offset of the content and declared size of the chunks of a RIFF file; of an AIFF file with "big"."""
    while len(data) >= begin + 8:
        size = int.from_bytes(data[begin + 4 : begin + 8], order)
        yield data[begin : begin + 4], begin + 8, size
        begin += 8 + size + size % 2


def _held_and_declared(data: bytes, begin: int, size: int, long_at: int) -> tuple[int, int, int, int]:
    """Return the bytes of samples that are held and declared, and where the size is declared: offset and length."""
    held = len(data) - begin
    if data[:4] == b"RF64" and long_at and size >= STREAMED:
        return held, int.from_bytes(data[long_at : long_at + 8], "little") or UNKNOWN_SIZE, long_at, 8
    if size == 0 and _ends_in_chunks(data, begin):
        return 0, 0, begin - 4, 4
    return held, UNKNOWN_SIZE if size >= STREAMED or size == 0 else size, begin - 4, 4


def _ends_in_chunks(data: bytes, begin: int) -> bool:
    """Whether the bytes from an offset on are complete chunks, such as a list of titles, and not samples."""
    end = begin
    for name, content, size in _chunks(data, begin):
        if not name.isalnum() and not name.strip().isalnum():
            return False
        end = content + size + size % 2
    return len(data) <= end <= len(data) + 1


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, the begin and the declared end of the outermost boxes of an MP4 file (ISO/IEC 14496-12)."""
    begin = 0
    while len(data) >= begin + 8:
        size = int.from_bytes(data[begin : begin + 4], "big")
        if size == 1:  # the size is in the 8 bytes after the name
            size = int.from_bytes(data[begin + 8 : begin + 16], "big")
        end = begin + size if size else len(data)
        if end < begin + 8:
            return
        yield data[begin + 4 : begin + 8], begin, end
        begin = end


# Bit rates in kbit/s and sample rates in Hz of layer III, by index in the header of a frame (ISO/IEC 11172-3, 13818-3).
MP3_BITS = {3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)}
MP3_BITS |= dict.fromkeys((0, 2), (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0))
MP3_RATES = {3: (44_100, 48_000, 32_000, 0), 2: (22_050, 24_000, 16_000, 0), 0: (11_025, 12_000, 8_000, 0)}


def _mp3_is_cut(data: bytes) -> bool:
    """Whether an MP3 file ends in the middle of a frame, or has bytes between frames, which decoders pass over.

    Tags before and after all frames are none of both.
    """
    begin, frames = _after_id3(data), 0
    while size := _mp3_frame_bytes(data[begin : begin + 4]):
        begin, frames = begin + size, frames + 1
    return frames > 1 and (begin > len(data) or _more_frames(data, begin))


def _more_frames(data: bytes, begin: int) -> bool:
    """Whether two frames follow each other somewhere in the bytes of an MP3 file from an offset on."""
    for at in _positions(data, b"\xff", begin):
        size = _mp3_frame_bytes(data[at : at + 4])
        if size and _mp3_frame_bytes(data[at + size : at + size + 4]):
            return True
    return False


def _after_id3(data: bytes) -> int:
    """Return the offset of the first byte after ID3v2 tags: 10 bytes and a size of four times 7 bits."""
    begin = 0
    while data[begin : begin + 3] == b"ID3" and len(data) >= begin + 10:
        a, b, c, d = data[begin + 6 : begin + 10]
        begin += 10 + (a << 21 | b << 14 | c << 7 | d)
    return begin


def _mp3_frame_bytes(header: bytes) -> int:
    """Return the length of a frame of layer III in bytes; 0 if the four bytes are no header of one."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    kind = header[1] >> 3 & 3
    if kind not in MP3_BITS:
        return 0
    bits, rate = MP3_BITS[kind][header[2] >> 4], MP3_RATES[kind][header[2] >> 2 & 3]
    samples = 1152 if kind == 3 else 576
    return samples // 8 * 1000 * bits // rate + (header[2] >> 1 & 1) if bits and rate else 0


def _aifc_compression(data: bytes) -> bytes:
    at = data.find(b"COMM", 12)
    return data[at + 26 : at + 30] if at > 0 else b""


def _ogg_pages(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the flags and the end of the pages of an Ogg file, as far as each begins where the one before it ends."""
    begin = 0
    while data[begin : begin + 4] == b"OggS" and len(data) >= begin + 27:
        flags, segments = data[begin + 5], data[begin + 26]
        begin += 27 + segments + sum(data[begin + 27 : begin + 27 + segments])
        yield flags, begin
