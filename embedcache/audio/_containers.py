"""What containers that FFmpeg opens say of themselves: whether they are whole, where they end, how long the sound is.

Ogg (RFC 3533), MP4 and QuickTime (ISO/IEC 14496-12), Matroska and WebM, ASF (WMA and WMV), and AVI.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from . import _tails

EBML = b"\x1aE\xdf\xa3"  # start of a Matroska or WebM file
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")  # start of an ASF file: a header of 16 bytes, then its size
ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
OGG_SOUND = (b"\x01vorbis", b"OpusHead", b"Speex   ", b"\x7fFLAC")  # what the first page of a stream of sound holds
COPY_AGAIN = "Copy or download it again, or remove it"
INCOMPLETE = f"is truncated or damaged: a part of it is incomplete. {COPY_AGAIN}"
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
    if data.startswith(EBML) and _has_second_ebml(data):
        return _tails.SEVERAL
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
        return _tails.SEVERAL
    if not pages or not pages[-1].is_last or b"OggS" in data[pages[-1].end :]:
        return INCOMPLETE
    for stream in {page.stream for page in pages}:
        numbers = [page.number for page in pages if page.stream == stream]
        if any(after != before + 1 for before, after in pairwise(numbers)):
            return f"is damaged: pages are missing, twice in it, or in another order. {COPY_AGAIN}"
    return _fault_behind(data, pages[-1].end)


def _fault_behind(data: bytes, stop: int) -> str:
    """Return what is wrong with the bytes behind the end of a container; "" for tags, padding and text."""
    if _tails.is_rubbish(data, stop):
        return ""
    more = f"has {len(data) - stop:,} bytes behind its end that are no part of it"
    return f"{more}: another file, or the rest of a damaged one. Cut them off, or copy it again"


# --- MP4 and QuickTime -----------------------------------------------------------------------------------------------


def is_mp4(data: bytes) -> bool:
    """Whether the bytes are those of an MP4 or QuickTime file, of which old ones begin with their content."""
    return data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def mp4_seconds(data: bytes) -> float:
    """Return the duration of the track of sound in an MP4 file, as its edit list plays it; 0 if none is declared."""
    movie = _box(data, b"moov")
    scale, _ = _mp4_duration(movie, b"mvhd")
    for name, begin, stop in _boxes(movie):
        track = movie[begin + 8 : stop] if name == b"trak" else b""
        media = _box(track, b"mdia")
        if _box(media, b"hdlr")[8:12] == b"soun":
            unit, duration = _mp4_duration(media, b"mdhd")
            lasts = duration / unit if unit else 0.0
            return _edited_seconds(_box(_box(track, b"edts"), b"elst"), scale, unit, lasts)
    return 0.0


def _edited_seconds(edits: bytes, scale: int, unit: int, lasts: float) -> float:
    """Return how long the parts of a medium are that an edit list plays.

    An edit says how long it is, in the unit of the film, and where in the medium it begins, in the unit of the medium;
    one that begins at -1 is a pause. It plays no more than the medium has.
    """
    long = edits[:1] == b"\x01"
    size = 8 if long else 4
    count = int.from_bytes(edits[4:8], "big")
    if not (count and scale and unit and lasts):
        return lasts
    total = 0.0
    for at in range(8, min(len(edits), 8 + count * (2 * size + 4)), 2 * size + 4):
        length = int.from_bytes(edits[at : at + size], "big") / scale
        begin = int.from_bytes(edits[at + size : at + 2 * size], "big", signed=True) / unit
        if begin >= 0:
            total += min(length or lasts, max(0.0, lasts - begin))
    return total


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
        return _tails.SEVERAL
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
        return _tails.SEVERAL
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
            return _tails.SEVERAL
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
