"""What containers that FFmpeg opens say of themselves: whether they are whole, where they end, how long the sound is.

Ogg (RFC 3533), MP4 and QuickTime (ISO/IEC 14496-12), Matroska and WebM, ASF (WMA and WMV), and AVI.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from . import tails
from .tails import COPY_AGAIN

EBML = b"\x1aE\xdf\xa3"  # start of a Matroska or WebM file
# Names of the parts of a Matroska file, on the first two levels: those that have others within, and those that do not.
SEGMENT, CLUSTER, CLUSTER_TIME = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\xe7"
EBML_PARTS = frozenset({EBML, CLUSTER_TIME, b"\xec", b"\xbf", b"\xa0", b"\xa3", b"\xa7", b"\xab", b"\xaf", b"\x58\x54"})
EBML_PARTS |= {bytes.fromhex(name) for name in ("114d9b74", "1549a966", "1654ae6b", "1c53bb6b", "1254c367", "1043a770")}
EBML_PARTS |= {bytes.fromhex("1941a469")}
REVERSED = bytes(int(f"{n:08b}"[::-1], 2) for n in range(256))  # bytes with their bits in reverse order
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")  # start of an ASF file: a header of 16 bytes, then its size
ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
OGG_SOUND = (b"\x01vorbis", b"OpusHead", b"Speex   ", b"\x7fFLAC")  # what the first page of a stream of sound holds
INCOMPLETE = f"is truncated or damaged: a part of it is incomplete. {COPY_AGAIN}"
SHORT = 0.1  # seconds by which a duration may differ from another one of the same sound
PRIMING = 2112  # samples that an encoder of AAC may put before the sound
AVI_SIZE = 1 << 31  # size from which on the list of an AVI file is one that was streamed


def find_fault(data: bytes) -> str:
    """Return why a container cannot be read, as the end of a sentence; "" if nothing is wrong, or for other files."""
    if data[:4] == b"OggS":
        return _ogg_fault(data)
    if is_mp4(data):
        return _mp4_fault(data)
    if data.startswith(ASF):
        return _asf_fault(data)
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return _avi_fault(data)
    if data.startswith(EBML):
        return tails.SEVERAL if _has_second_ebml(data) else _ebml_fault(data)
    return ""


def end(data: bytes) -> int:
    """Return where a container without fault ends; what follows it is a tag or padding, which confuses FFmpeg."""
    if data[:4] == b"OggS":
        return max((page.end for page in _ogg_pages(data)), default=len(data))
    if data.startswith(ASF):
        return max((stop for _, _, stop in _asf_objects(data)), default=len(data))
    return len(data)


# --- Ogg -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """A page: "OggS", flags in byte 5, position in 8, stream in 14, number in 18, segments in 26; then their sizes."""

    begin: int
    content: int
    end: int
    is_first: bool
    is_last: bool
    position: int  # number of samples up to the end of the page
    stream: int
    number: int


def ogg_position(data: bytes) -> int:
    """Return the number of samples up to the end of the last page of the stream of sound in an Ogg file."""
    pages = list(_ogg_pages(data))
    sound = {p.stream for p in pages if p.is_first and data.startswith(OGG_SOUND, p.content)}
    return max(0, max((p.position for p in pages if p.stream in sound or not sound), default=0))


def _ogg_pages(data: bytes) -> Iterator[Page]:
    """Yield the complete pages of an Ogg file, as far as each begins where the one before it ends."""
    begin = 0
    while data[begin : begin + 4] == b"OggS" and len(data) >= begin + 27:
        flags, content = data[begin + 5], begin + 27 + data[begin + 26]
        stop = content + sum(data[begin + 27 : content])
        if stop > len(data):
            return
        position = int.from_bytes(data[begin + 6 : begin + 14], "little", signed=True)
        stream, number = (int.from_bytes(data[begin + at : begin + at + 4], "little") for at in (14, 18))
        yield Page(begin, content, stop, bool(flags & 2), bool(flags & 4), position, stream, number)
        begin = stop


def _ogg_fault(data: bytes) -> str:
    pages = list(_ogg_pages(data))
    if any(page.is_first and not before.is_first for before, page in pairwise(pages)):
        return tails.SEVERAL
    if not pages or not pages[-1].is_last or b"OggS" in data[pages[-1].end :]:
        return INCOMPLETE
    if not all(_has_ogg_checksum(data[page.begin : page.end]) for page in pages):
        return f"is damaged: a page has a wrong checksum. {COPY_AGAIN}"
    for stream in {page.stream for page in pages}:
        numbers = [page.number for page in pages if page.stream == stream]
        if any(after != before + 1 for before, after in pairwise(numbers)):
            return f"is damaged: pages are missing, twice in it, or in another order. {COPY_AGAIN}"
    return _fault_behind(data, pages[-1].end)


def _has_ogg_checksum(page: bytes) -> bool:
    """Whether the checksum in a page is that of its bytes.

    It is zlib's CRC-32 with the bits of all bytes, and of the result, in reverse order, without inversion.
    """
    content = page[:22] + bytes(4) + page[26:]
    reverse = ~zlib.crc32(content.translate(REVERSED), 0xFFFFFFFF) & 0xFFFFFFFF
    return reverse.to_bytes(4, "little").translate(REVERSED) == page[25:21:-1]


def _fault_behind(data: bytes, stop: int) -> str:
    """Return what is wrong with the bytes behind the end of a container; "" for tags, padding and text."""
    if tails.is_rubbish(data, stop):
        return ""
    more = f"has {len(data) - stop:,} bytes behind its end that are no part of it"
    return f"{more}: another file, or the rest of a damaged one. Cut them off, or copy it again"


# --- MP4 and QuickTime -----------------------------------------------------------------------------------------------


def is_mp4(data: bytes) -> bool:
    """Whether the bytes are those of an MP4 or QuickTime file, of which old ones begin with their content."""
    return data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


@dataclass(frozen=True)
class Played:
    """How long the track of sound of an MP4 file is, in seconds; 0 for what is not declared."""

    sound: float = 0.0  # of the parts of the medium that the edit list plays
    pauses: float = 0.0  # before and between them
    track: float = 0.0  # of both by the header of the track
    medium: float = 0.0  # of the whole medium
    priming: float = 0.0  # by which an edit may exceed the medium: some encoders count what precedes the sound
    has_usual_unit: bool = True  # whether the unit of the film is one that programs use; a flipped bit makes none

    @property
    def is_contradictory(self) -> bool:
        """Whether the edit list plays less than the header of the track, or in an odd unit: one of both is damaged."""
        least = self.track - self.pauses if self.has_usual_unit else max(self.track - self.pauses, self.medium)
        return self.sound > 0 and self.sound < least - self.priming - SHORT


def mp4_seconds(data: bytes) -> float:
    """Return the duration of the track of sound in an MP4 file, as its edit list plays it; 0 if none is declared."""
    return _mp4_played(data).sound


def _mp4_played(data: bytes) -> Played:
    movie = _box(data, b"moov")
    scale, _ = _mp4_duration(movie, b"mvhd")
    for name, begin, stop in _boxes(movie):
        track = movie[begin + 8 : stop] if name == b"trak" else b""
        media = _box(track, b"mdia")
        if _box(media, b"hdlr")[8:12] == b"soun":
            unit, duration = _mp4_duration(media, b"mdhd")
            if not (unit and duration and scale):
                return Played()
            sound, pauses = _edited(_box(_box(track, b"edts"), b"elst"), scale, unit, duration / unit)
            whole = _mp4_track_duration(_box(track, b"tkhd")) / scale
            return Played(sound, pauses, whole, duration / unit, PRIMING / unit, scale % 25 == 0 or scale == unit)
    return Played()


def _edited(edits: bytes, scale: int, unit: int, lasts: float) -> tuple[float, float]:
    """Return how long the parts of a medium are that an edit list plays, and how long the pauses are, in seconds.

    An edit says how long it is, in the unit of the film, and where in the medium it begins, in the unit of the medium;
    one that begins at -1 is a pause. It plays no more than the medium has.
    """
    size = 8 if edits[:1] == b"\x01" else 4
    width, count = 2 * size + 4, int.from_bytes(edits[4:8], "big")
    sound = pauses = 0.0
    for at in range(8, min(len(edits), 8 + count * width), width):
        length = int.from_bytes(edits[at : at + size], "big") / scale
        begin = int.from_bytes(edits[at + size : at + 2 * size], "big", signed=True) / unit
        if begin < 0:
            pauses += length
        else:
            sound += min(length or lasts, max(0.0, lasts - begin))
    return (sound, pauses) if count else (lasts, 0.0)


def _mp4_track_duration(head: bytes) -> int:
    """Return the duration in the header of a track, in the unit of the film; 0 if it declares none."""
    begin, size = (28, 8) if head[:1] == b"\x01" else (20, 4)
    duration = int.from_bytes(head[begin : begin + size], "big")
    return duration if duration < 1 << 8 * size - 1 else 0


def _mp4_duration(parent: bytes, name: bytes) -> tuple[int, int]:
    """Return the units per second and the duration in a box, after version, flags and two dates; 0 for none."""
    box = _box(parent, name)
    size = 8 if box[:1] == b"\x01" else 4
    begin = 4 + 2 * size
    scale = int.from_bytes(box[begin : begin + 4], "big")
    duration = int.from_bytes(box[begin + 4 : begin + 4 + size], "big")
    return scale, duration if duration < 1 << 8 * size - 1 else 0


def _mp4_fault(data: bytes) -> str:
    boxes = list(_boxes(data))
    if [name for name, _, _ in boxes].count(b"ftyp") > 1:
        return tails.SEVERAL
    if _mp4_played(data).is_contradictory:
        return f"is damaged: its edit list plays less sound than its header declares. {COPY_AGAIN}"
    is_cut = any(name in (b"moov", b"moof", b"mdat") and stop > len(data) for name, _, stop in boxes)
    return INCOMPLETE if is_cut else ""


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, the begin and the declared end of the outermost boxes."""
    begin = 0
    while len(data) >= begin + 8:
        size = int.from_bytes(data[begin : begin + 4], "big")
        if size == 1:  # the size is in the 8 bytes after the name
            size = int.from_bytes(data[begin + 8 : begin + 16], "big")
        stop = begin + size if size else len(data)
        if stop < begin + 8:
            return
        yield data[begin + 4 : begin + 8], begin, stop
        begin = stop


def _box(parent: bytes, wanted: bytes) -> bytes:
    """Return the content of the first box of a name; b"" if there is none."""
    return next((parent[begin + 8 : stop] for name, begin, stop in _boxes(parent) if name == wanted), b"")


# --- Matroska, ASF, AVI ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A part of a Matroska file: a name and a size of 1 to 8 bytes each, and the content."""

    name: bytes
    begin: int  # offset of the content
    end: int


def matroska_start(data: bytes) -> float:
    """Return the time stamp of the first cluster in seconds, if its unit is the usual millisecond."""
    first = next((part for part in _ebml_parts(data) if part.name == CLUSTER_TIME), None)
    return int.from_bytes(data[first.begin : first.end], "big") / 1000 if first else 0.0


def _ebml_fault(data: bytes) -> str:
    return INCOMPLETE if any(part.end > len(data) for part in _ebml_parts(data)) else ""


def _ebml_parts(data: bytes) -> Iterator[Part]:
    """Yield the parts of a Matroska file, and those within its segment and its clusters, up to one that is unknown."""
    at = 0
    while at < len(data):
        name, begin = data[at : at + _ebml_width(data, at)], at + _ebml_width(data, at)
        width = _ebml_width(data, begin)
        if name not in EBML_PARTS and name not in (SEGMENT, CLUSTER):
            return
        size = int.from_bytes(data[begin : begin + width], "big") & (1 << 7 * width) - 1
        at = begin + width
        if name in EBML_PARTS:
            yield Part(name, at, at + size)
            at += size


def _ebml_width(data: bytes, at: int) -> int:
    """Return the bytes of a name or size: one more than the zeros before the first 1 of its first byte."""
    return 9 - data[at].bit_length() if at < len(data) else 0


def _has_second_ebml(data: bytes) -> bool:
    at = 0
    while (at := data.find(EBML, at + 4)) > 0:
        if any(kind in data[at : at + 64] for kind in (b"webm", b"matroska")):
            return True
    return False


def _asf_objects(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, the begin and the end of the outermost objects of an ASF file: 16 bytes, and 8 of the size."""
    begin = 0
    while len(data) >= begin + 24 and (not begin or data[begin + 4 : begin + 16].strip(b"\0")):
        size = int.from_bytes(data[begin + 16 : begin + 24], "little")
        name, is_whole = data[begin : begin + 16], 24 <= size <= len(data) - begin
        if is_whole or name in (ASF, ASF_DATA):
            yield name, begin, begin + size
        if not is_whole:
            return
        begin += size


def _asf_fault(data: bytes) -> str:
    objects = list(_asf_objects(data))
    if [name for name, _, _ in objects].count(ASF) > 1:
        return tails.SEVERAL
    sizes = [stop - begin for name, begin, stop in objects if name == ASF_DATA]
    is_live = sizes and sizes[0] <= 50  # a stream has a head of data only
    if not objects or any(stop > len(data) for name, _, stop in objects if name in (ASF, ASF_DATA)):
        return INCOMPLETE
    return "" if is_live else _fault_behind(data, objects[-1][2])


def _avi_fault(data: bytes) -> str:
    """Return whether a list or a chunk of an AVI file is incomplete, or begins where no other one ends.

    A large AVI file consists of several lists RIFF. The list `movi` has the chunks of sound and pictures.
    """
    begin = 0
    while data[begin : begin + 4] == b"RIFF" and len(data) >= begin + 12:
        size = int.from_bytes(data[begin + 4 : begin + 8], "little")
        if begin and data[begin + 8 : begin + 12] == b"AVI ":
            return tails.SEVERAL
        if 0 < size < AVI_SIZE and (begin + 8 + size > len(data) or not _is_list(data, begin + 12, begin + 8 + size)):
            return f"is an AVI video, and cannot be decoded: a part of it is truncated or damaged. {COPY_AGAIN}"
        begin += 8 + size + size % 2
    return ""


def _is_list(data: bytes, begin: int, stop: int) -> bool:
    """Whether chunks follow each other from an offset up to another one, and within the list `movi`."""
    while begin + 8 <= stop:
        name, size = data[begin : begin + 4], int.from_bytes(data[begin + 4 : begin + 8], "little")
        if not name.isascii() or not name.decode("ascii").isprintable() or begin + 8 + size > stop + 1:
            return False
        if (
            name == b"LIST"
            and data[begin + 8 : begin + 12] == b"movi"
            and not _is_list(data, begin + 12, begin + 8 + size)
        ):
            return False
        begin += 8 + size + size % 2
    return True
