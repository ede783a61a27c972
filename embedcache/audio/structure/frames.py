"""Formats that are frames, one after the other, without a header that says how many: MP3, MP2, AAC, AC-3, TS, AMR, FLV.

The head of each frame says how long it is, so the end of a file shows whether its last frame is complete.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import tails
from .tails import COPY_AGAIN

Size = Callable[[bytes, int], int]  # returns the bytes of the frame at an offset; 0 if there is none
# Bit rates in kbit/s and sample rates in Hz, by index in the header of a frame (ISO/IEC 11172-3, 13818-3): layer III
# and II of version 1, and both of them in versions 2 and 2.5.
LAYER_3 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
LAYER_2 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 0)
LOWER = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
MPEG_RATES = {3: (44_100, 48_000, 32_000, 0), 2: (22_050, 24_000, 16_000, 0), 0: (11_025, 12_000, 8_000, 0)}
AC3_BITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
AC3_RATES = (48_000, 44_100, 32_000)
AMR = (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 1, 1)  # bytes of a frame by its mode, with its head
AMR_WB = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1)

# First bytes of a frame, by the name of the function that returns its size.
MARKS = {"mpeg_size": b"\xff", "_adts_size": b"\xff", "_ac3_size": b"\x0b\x77", "_ts_size": b"\x47"}


@dataclass(frozen=True)
class Frames:
    """The frames of a file, as far as each begins where the one before it ends."""

    begin: int  # offset of the first frame
    end: int  # offset of the first byte after the last frame, which may lie behind the end of the file
    fault: str = ""  # why the file cannot be read, as the end of a sentence


def frames(data: bytes) -> Frames | None:
    """Return the frames of a file; None for a file of another format."""
    for size, begin in _kinds(data):
        end, n = begin, 0
        while length := size(data, end):
            end, n = end + length, n + 1
            if end >= len(data):
                break
        if n > 1:
            return Frames(begin, end, _fault(data, end, size))
    return None


def frames_follow(data: bytes, count: int) -> bool:
    """Whether a number of frames follow each other from the first byte on, so that the bytes are not raw sound."""
    return any(_count_frames(data, size, count) == count for size in (mpeg_size, _adts_size, _ac3_size, _ts_size))


def _count_frames(data: bytes, size: Size, most: int) -> int:
    at = n = 0
    while n < most and (length := size(data, at)):
        at, n = at + length, n + 1
    return n


def has_frame_count(data: bytes) -> bool:
    """Whether the first frame of an MP3 file declares the number of frames, behind its head and side information."""
    begin = tails.after_id3(data)
    size = mpeg_size(data, begin)
    if not size:
        return False
    is_mono, is_first = data[begin + 3] >> 6 == 3, data[begin + 1] >> 3 & 3 == 3
    at = begin + 4 + ((17 if is_mono else 32) if is_first else (9 if is_mono else 17))
    return data[at : at + 4] in (b"Xing", b"Info") or data[begin + 36 : begin + 40] == b"VBRI"


def _kinds(data: bytes) -> list[tuple[Size, int]]:
    """Return the kinds of frames that a file may consist of, and where the first of them would begin."""
    if data.startswith(b"#!AMR\n"):
        return [(lambda data, at: _amr_size(data, at, AMR), 6)]
    if data.startswith(b"#!AMR-WB\n"):
        return [(lambda data, at: _amr_size(data, at, AMR_WB), 9)]
    if data.startswith(b"FLV\x01"):
        return [(_flv_size, int.from_bytes(data[5:9], "big") + 4)]
    return [(size, tails.after_id3(data)) for size in (mpeg_size, _adts_size, _ac3_size, _ts_size)]


def _fault(data: bytes, end: int, size: Size) -> str:
    """Return what is wrong with what follows the last complete frame; "" for nothing, tags and padding."""
    if end > len(data):
        return f"is truncated: its last frame is incomplete. {COPY_AGAIN}"
    rest = tails.after_tags(data, end)
    if tails.holds_start(data, end) or (rest > end and _is_frame(data, rest, size)):
        return tails.SEVERAL
    if _more_frames(data, rest, size):
        return f"is damaged: the bytes from {end:,} on are no frame, and frames follow. {COPY_AGAIN}"
    if not tails.is_rubbish(data, end):
        return (
            f"is truncated or damaged: {len(data) - end:,} bytes behind its last frame are neither a complete frame "
            f"nor a tag. {COPY_AGAIN}"
        )
    return ""


def _is_frame(data: bytes, at: int, size: Size) -> bool:
    """Whether a frame is at an offset, and another one or the end of the file follows it."""
    length = size(data, at)
    return bool(length) and (at + length == len(data) or bool(size(data, at + length)))


def _more_frames(data: bytes, begin: int, size: Size) -> bool:
    """Whether a frame is somewhere in the bytes from an offset on, if there are frames that start with a mark."""
    mark = MARKS.get(size.__name__)
    return mark is not None and any(_is_frame(data, at, size) for at in tails.positions(data, mark, begin))


def mpeg_size(data: bytes, at: int) -> int:
    """Return the bytes of the frame of MPEG layer II or III at an offset; 0 if there is none."""
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    kind, layer = head[1] >> 3 & 3, head[1] >> 1 & 3  # layer: 1 for III, 2 for II
    if kind not in MPEG_RATES or layer not in (1, 2):
        return 0
    bits = (LOWER if kind != 3 else LAYER_3 if layer == 1 else LAYER_2)[head[2] >> 4]
    rate = MPEG_RATES[kind][head[2] >> 2 & 3]
    samples = 576 if layer == 1 and kind != 3 else 1152
    return samples // 8 * 1000 * bits // rate + (head[2] >> 1 & 1) if bits and rate else 0


def _adts_size(data: bytes, at: int) -> int:
    head = data[at : at + 7]
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return size if size > 7 else 0


def _ac3_size(data: bytes, at: int) -> int:
    """Return the bytes of a frame of AC-3 or E-AC-3 (ETSI TS 102 366)."""
    head = data[at : at + 6]
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return 0
    if head[5] >> 3 > 10:  # E-AC-3
        return 2 * ((head[2] & 7) << 8 | head[3]) + 2 if head[5] >> 3 <= 16 else 0
    rate, code = head[4] >> 6, head[4] & 63
    if rate == 3 or code > 37:
        return 0
    words = 1536 * AC3_BITS[code // 2] * 1000 // 16 // AC3_RATES[rate]
    return 2 * (words + (code & 1 if rate == 1 else 0))


def _ts_size(data: bytes, at: int) -> int:
    return 188 if data[at : at + 1] == b"\x47" else 0


def _amr_size(data: bytes, at: int, sizes: tuple[int, ...]) -> int:
    head = data[at : at + 1]
    return sizes[head[0] >> 3 & 15] if head and not head[0] & 0x83 else 0


def _flv_size(data: bytes, at: int) -> int:
    """Return the bytes of a tag of FLV with the size that repeats behind it."""
    if len(data) < at + 11 or data[at] & 0x1F not in (8, 9, 18):
        return 0
    size = 11 + int.from_bytes(data[at + 1 : at + 4], "big")
    behind = data[at + size : at + size + 4]
    return size + 4 if len(behind) < 4 or int.from_bytes(behind, "big") in (size, size - 11, 0) else 0
