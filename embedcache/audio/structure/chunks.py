"""Where the samples lie in WAV, RF64, W64, AIFF, CAF and AU files, how long they are by the header, and what follows.

These files consist of chunks: a name, the size of the content, and the content, padded to an even size in most formats.
One chunk holds the samples. In a WAV file of 1,044 bytes with the chunks `fmt ` (16 bytes) and `data` (declared as
2,000 bytes), the content of `data` begins at byte 12 + 8 + 16 + 8 = 44: it holds 1,000 bytes of 2,000.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from . import tails

PCM, FLOAT, A_LAW, MU_LAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE  # codes of the sample format of a WAV file
EXACT_WAV = frozenset({PCM, FLOAT, A_LAW, MU_LAW})
EXACT_AIFC = frozenset({b"NONE", b"sowt", b"twos", b"raw ", b"in24", b"in32", b"fl32", b"FL32", b"fl64", b"FL64"})
EXACT_AIFC |= {b"alaw", b"ALAW", b"ulaw", b"ULAW", b"42n1", b"23ni"}
PLAIN_CAF = frozenset({b"lpcm", b"alaw", b"ulaw"})
AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}  # bytes of a sample by the code of the format of AU
# Programs that write a file to a pipe, such as ffmpeg and sox, cannot go back to fill in the size of the data. They
# leave 0, or a placeholder that is at least this large.
STREAMED, STREAMED_AIFF, STREAMED_64 = 0x7FFFF000, 0x7F000000, 1 << 62
UNKNOWN = -1
# Names of chunks that programs write beside the samples. Their names mark where samples of unknown length end.
BESIDE = (
    rb"LIST|INFO|id3 |ID3 |bext|cue |smpl|fact|PEAK|JUNK|junk|PAD |FLLR|iXML|_PMX|afsp|DISP|cart|inst|levl|acid|strc"
)
BESIDE += rb"|ANNO|NAME|AUTH|\(c\) |COMT|MARK|INST|MIDI|APPL|CHAN|info|pakt|kuki|chan|mark|strg|uuid|free|edct|umid"
BESIDE_NAME = re.compile(BESIDE)
LONGEST_BESIDE = 1 << 20  # bytes before the end of a file in which the end of samples of unknown length is searched for
TEXT_MODE = "is damaged: a transfer in text mode changed each \\n to \\r\\n. Copy or download it again in binary mode"


@dataclass(frozen=True)
class Layout:
    """How a format writes its chunks."""

    first: int = 12  # offset of the first chunk
    order: Literal["little", "big"] = "little"
    name: int = 4  # bytes of a name
    size: int = 4  # bytes of a size
    pad: int = 2  # bytes to whose multiple the content is padded
    own: int = 0  # bytes of a chunk's own head, if its size includes them
    sound: bytes = b"data"  # name of the chunk with the samples
    streamed: int = STREAMED  # size from which on it is a placeholder

    def chunks(self, data: bytes, begin: int | None = None) -> Iterator[tuple[bytes, int, int]]:
        """Yield the name, the offset of the content and its declared size of each chunk."""
        begin = self.first if begin is None else begin
        head = self.name + self.size
        while len(data) >= begin + head:
            size = int.from_bytes(data[begin + self.name : begin + head], self.order) - self.own
            yield data[begin : begin + 4], begin + head, size
            begin += head + max(0, size) + -max(0, size) % self.pad


WAV, RIFX, AIFF = Layout(), Layout(order="big"), Layout(order="big", sound=b"SSND", streamed=STREAMED_AIFF)
W64 = Layout(first=40, name=16, size=8, pad=8, own=24, streamed=STREAMED_64)
CAF = Layout(first=8, order="big", size=8, pad=1, streamed=STREAMED_64)
W64_START = (
    b"riff\x2e\x91\xcf\x11"  # start of a W64 file, followed by 8 bytes and the size of the whole file in 8 bytes
)
AU_STARTS: dict[bytes, Literal["little", "big"]] = {b".snd": "big", b"dns.": "little"}


@dataclass(frozen=True)
class Field:
    """A field of a header that declares the size of the samples."""

    at: int
    size: int  # bytes of the field
    order: Literal["little", "big"]
    more: int  # bytes that its value counts beside the samples


@dataclass(frozen=True)
class Samples:
    """The samples of a file."""

    begin: int  # offset of the first sample, in bytes
    end: int  # offset of the first byte after the last sample that the file holds
    declared: int  # bytes that the header declares; UNKNOWN if it declares none
    field: Field
    block: int = 1  # bytes of one sample of all channels, or of a block of compressed samples
    bytes_per_second: int = 0  # 0 if it is not known
    fault: str = ""  # why the file cannot be read, as the end of a sentence

    def ends_elsewhere(self, size: int) -> bool:
        """Whether the samples end neither where the header declares it nor at the end of a file of `size` bytes."""
        declared = size if self.declared == UNKNOWN else min(size, self.begin + self.declared)
        return not self.fault and (self.end - self.begin) // self.block != (declared - self.begin) // self.block

    def mended(self, data: bytes) -> bytes:
        """Return the bytes of the file up to the last sample, with the size that it holds."""
        held = self.end - self.begin
        if self.declared > held or self.declared == UNKNOWN:
            held -= held % self.block
        f = self.field
        size = (held + f.more).to_bytes(8, f.order)
        size = size[: f.size] if f.order == "little" else size[8 - f.size :]
        return data[: f.at] + size + data[f.at + f.size : self.begin + held]


def layout(data: bytes) -> Layout | None:
    """Return how the chunks of a file are written; None if it has none of them."""
    if data[8:12] == b"WAVE" and data[:4] in (b"RIFF", b"RF64", b"BW64", b"RIFX"):
        return RIFX if data[:4] == b"RIFX" else WAV
    if data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return AIFF
    if data.startswith(W64_START):
        return W64
    return CAF if data[:4] == b"caff" else None


def is_exact(data: bytes) -> bool | None:
    """Whether libsndfile decodes the samples of a file exactly; None for a file without chunks that is not AU."""
    form = layout(data)
    if data[:4] in AU_STARTS:
        return int.from_bytes(data[12:16], AU_STARTS[data[:4]]) in AU_BYTES
    if form is None:
        return None
    if form is AIFF:
        return data[8:12] == b"AIFF" or _content(data, form, b"COMM")[18:22] in EXACT_AIFC
    if form is CAF:
        return is_plain_caf(data) or (_caf_codec(data) == b"alac" and _caf_table(data).rest > 0)
    return data[:4] != b"BW64" and _is_plain(data, form) and not _is_misread_w64(data, form)


def _is_plain(data: bytes, form: Layout) -> bool:
    """Whether the samples of a file are numbers, and not compressed."""
    return wav_codec(data, form) in EXACT_WAV if form in (WAV, RIFX, W64) else bool(is_exact(data))


def _is_misread_w64(data: bytes, form: Layout) -> bool:
    """Whether libsndfile would take the floats of a W64 file for integers: it overlooks the second code."""
    code = int.from_bytes(_content(data, form, b"fmt ")[:2], form.order)
    return form is W64 and code == EXTENSIBLE and wav_codec(data, form) != PCM


def is_plain_caf(data: bytes) -> bool:
    """Whether the bytes are a CAF file of samples that are not compressed."""
    return data[:4] == b"caff" and _caf_codec(data) in PLAIN_CAF


def wav_codec(data: bytes, form: Layout) -> int:
    """Return the code of the sample format of a WAV file; PCM if there is none: libsndfile then says what is wrong."""
    content = _content(data, form, b"fmt ")
    if len(content) < 16:
        return PCM
    code = int.from_bytes(content[:2], form.order)
    return int.from_bytes(content[24:26], form.order) if code == EXTENSIBLE and len(content) >= 26 else code


def samples(data: bytes) -> Samples | None:
    """Return where the samples of a file lie; None for other formats and for a file without samples."""
    if data[:4] in AU_STARTS:
        return _resolved(data, None, _au_samples(data), UNKNOWN)
    form = layout(data)
    if form is None:
        return None
    for name, begin, size in form.chunks(data):
        if name == form.sound:
            return _resolved(data, form, _declared(data, form, begin, size), _outer_end(data, form))
    return None


@dataclass(frozen=True)
class CafTable:
    """The table of the packets of a compressed CAF file, in samples."""

    samples: int = 0
    rest: int = 0  # samples that the last packet lacks. FFmpeg takes them away twice from ALAC, libsndfile once
    packet: int = 0  # samples of a packet


def caf_seconds(data: bytes) -> float:
    """Return the least duration of a CAF file by its table of packets; 0 if it has none.

    FFmpeg writes a table in which the last packet counts as a whole one.
    """
    table, about = _caf_table(data), _content(data, CAF, b"desc")
    rate = struct.unpack(">d", about[:8])[0] if len(about) >= 8 else 0.0
    return max(0.0, (table.samples - table.packet) / rate) if rate > 0 else 0.0


def _caf_codec(data: bytes) -> bytes:
    return _content(data, CAF, b"desc")[8:12]


def _caf_table(data: bytes) -> CafTable:
    table, about = _content(data, CAF, b"pakt"), _content(data, CAF, b"desc")
    if len(table) < 24:
        return CafTable()
    samples, rest = int.from_bytes(table[8:16], "big", signed=True), int.from_bytes(table[20:24], "big", signed=True)
    return CafTable(samples, rest, int.from_bytes(about[20:24], "big"))


def _content(data: bytes, form: Layout, wanted: bytes) -> bytes:
    return next((data[at : at + max(0, size)] for name, at, size in form.chunks(data) if name == wanted), b"")


def _au_samples(data: bytes) -> Samples:
    order = AU_STARTS[data[:4]]
    begin, size, code, rate, channels = (int.from_bytes(data[at : at + 4], order) for at in range(4, 24, 4))
    block = max(1, AU_BYTES.get(code, 1) * channels)
    speed = rate * block if code in AU_BYTES else 0
    declared = UNKNOWN if size == 0 or size >= STREAMED else size
    return Samples(begin, begin, declared, Field(8, 4, order, 0), block, speed)


def _declared(data: bytes, form: Layout, begin: int, size: int) -> Samples:
    """Return what the header says of the samples, whose chunk has its content at an offset, and a size."""
    field = Field(begin - form.size, form.size, form.order, form.own)
    skipped = 0
    if form is AIFF:  # two numbers precede the samples, of which the first says how many further bytes do
        skipped = 8 + int.from_bytes(data[begin : begin + 4], "big")
    if form is CAF:  # a number precedes the samples
        skipped = 4
    if data[:4] in (b"RF64", b"BW64") and size >= STREAMED and (at := _long_sizes(data)):
        field = Field(at + 8, 8, "little", 0)
        size = int.from_bytes(data[at + 8 : at + 16], "little")
    declared = UNKNOWN if size <= 0 or size >= form.streamed else size - skipped
    begin += skipped
    return Samples(begin, begin, declared, replace(field, more=field.more + skipped), *_block(data, form))


def _long_sizes(data: bytes) -> int:
    """Return the offset of the sizes of an RF64 file, 8 bytes each: of the file without 8 bytes, and of the samples."""
    return next((at for name, at, size in WAV.chunks(data) if name == b"ds64" and size >= 16), 0)


def _block(data: bytes, form: Layout) -> tuple[int, int]:
    """Return the bytes of one sample of all channels, and of a second, which is 0 if it is not known."""
    if form is AIFF:
        about = _content(data, form, b"COMM")
        is_law = about[18:22].lower() in (b"alaw", b"ulaw")
        width = 1 if is_law else (int.from_bytes(about[6:8], "big") + 7) // 8
        return (max(1, int.from_bytes(about[:2], "big") * width) if is_exact(data) else 1), 0
    if form is CAF:
        return max(1, int.from_bytes(_content(data, form, b"desc")[16:20], "big")), 0
    about = _content(data, form, b"fmt ")
    channels, rate, block, bits = (
        int.from_bytes(about[a:b], form.order) for a, b in ((2, 4), (4, 8), (12, 14), (14, 16))
    )
    return max(1, block), rate * channels * ((bits + 7) // 8) if is_exact(data) else 0


def _outer_end(data: bytes, form: Layout) -> int:
    """Return where the file ends by the size in its first bytes; UNKNOWN if there is none."""
    if form is CAF:
        return UNKNOWN
    if form is W64:
        return int.from_bytes(data[16:24], "little")
    size = int.from_bytes(data[4:8], form.order)
    if data[:4] in (b"RF64", b"BW64") and size >= STREAMED and (at := _long_sizes(data)):
        size = int.from_bytes(data[at : at + 8], "little")
    return size + 8


def _resolved(data: bytes, form: Layout | None, found: Samples, outer: int) -> Samples:
    """Return the samples with their end, or with what is wrong: what follows them says whether their size is right."""
    stop = found.begin if found.declared == UNKNOWN else _end_without_pad(data, form, found)
    if tails.holds_start(data, min(stop, len(data))):
        return replace(found, fault=tails.SEVERAL)
    if form and any(name == form.sound for name, _, _ in _beside(data, form, stop)):
        return replace(found, fault="has two chunks of samples, one after the other. Write it again with one of them")
    if found.declared == UNKNOWN:
        return replace(found, end=_end_of_unknown(data, form, found.begin))
    if stop >= len(data):
        return _cut(replace(found, end=len(data)), stop - found.begin)
    if tails.has_changed_line_ends(data, outer):
        return replace(found, fault=TEXT_MODE)
    if _is_beside(data, form, stop):
        return replace(found, end=stop)
    if outer in (len(data) - 1, len(data), len(data) + 1):
        return replace(found, end=_end_of_unknown(data, form, found.begin))
    return replace(found, fault=_more_than_declared(data, stop))


def _end_without_pad(data: bytes, form: Layout | None, found: Samples) -> int:
    """Return the declared end of the samples; without the padding, which some programs count as a part of them.

    The number of samples, which the header of some formats has, too, shows it.
    """
    stop = found.begin + max(0, found.declared)
    plain = found.begin + _declared_samples(data, form) * found.block if form else stop
    return plain if form and _is_plain(data, form) and stop - form.pad < plain < stop else stop


def _declared_samples(data: bytes, form: Layout) -> int:
    """Return the number of samples that a header declares beside their size in bytes; 0 for none."""
    if form is AIFF:
        return int.from_bytes(_content(data, form, b"COMM")[2:6], "big")
    if data[:4] in (b"RF64", b"BW64") and (at := _long_sizes(data)):
        return int.from_bytes(data[at + 16 : at + 24], "little")
    return int.from_bytes(_content(data, form, b"fact")[: form.size], form.order)


def _cut(found: Samples, declared: int) -> Samples:
    """Return the samples with a fault if complete ones are missing; a part of one loses nothing."""
    held = found.end - found.begin
    if held // found.block >= declared // found.block:
        return found
    told = f"{declared:,} bytes of sound, it holds {held:,}"
    if speed := found.bytes_per_second:
        told = f"{declared / speed:.2f} s, it holds {max(0, held) / speed:.2f} s ({held:,} of {declared:,} bytes)"
    return replace(found, fault=f"is truncated: its header declares {told}. {tails.COPY_AGAIN}")


def _more_than_declared(data: bytes, stop: int) -> str:
    text = f"has {len(data) - stop:,} bytes behind the end that its header declares, which are no part of its format"
    return f"{text}: its sizes are wrong, or something was appended. Write it again from its source, or remove it"


def _beside(data: bytes, form: Layout, begin: int) -> list[tuple[bytes, int, int]]:
    """Return the chunks from an offset on, if they are complete and nothing but padding follows; else none."""
    for start in {begin, begin + -(begin - form.first) % form.pad}:  # some programs do not pad
        found: list[tuple[bytes, int, int]] = []
        end = start
        for name, at, size in form.chunks(data, start):
            if not name.isascii() or not name.decode("ascii").isprintable() or not 0 <= size <= len(data) - at:
                break
            found.append((name, at, size))
            end = at + size + -size % form.pad
        if found and tails.is_padding(data, end):
            return found
    return []


def _is_beside(data: bytes, form: Layout | None, begin: int) -> bool:
    """Whether what follows an offset is no sound: padding, tags, or chunks beside the samples."""
    even = begin + -(begin - form.first) % form.pad if form else begin
    if tails.is_padding(data, begin) or tails.is_padding(data, even):
        return True
    if form is None:
        return False
    return bool(_beside(data, form, begin)) or any(BESIDE_NAME.match(data, at) for at in (begin, even))


def _end_of_unknown(data: bytes, form: Layout | None, begin: int) -> int:
    """Return where samples of unknown length end: at a chunk from which on complete chunks fill the file, or there."""
    if form is None:
        return len(data)
    starts = (match.start() for match in BESIDE_NAME.finditer(data, max(begin, len(data) - LONGEST_BESIDE)))
    return next((at for at in starts if _beside(data, form, at)), len(data))
