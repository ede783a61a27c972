"""What the header of a FLAC file says of its samples, and what its last frame says (RFC 9639)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from . import tails

COUNT_BITS = (1 << 36) - 1  # the number of samples: 36 bits that end at byte 26
SYNC = (b"\xff\xf8", b"\xff\xf9")  # first bytes of a frame, in files of blocks of fixed and of variable length
TAIL = 1 << 17  # bytes before the end in which the last frame begins, if the header does not say how long a frame is
BLOCKS = {1: 192} | {code: 576 << code - 2 for code in range(2, 6)} | {code: 256 << code - 8 for code in range(8, 16)}


def is_flac(data: bytes) -> bool:
    """Whether the bytes are those of a FLAC file."""
    return data[:4] == b"fLaC" and len(data) >= 42


def declared(data: bytes) -> int:
    """Return the number of samples that the header declares; 0 for none, as in a file that was written to a pipe."""
    return int.from_bytes(data[18:26], "big") & COUNT_BITS


def needs_count(data: bytes) -> bool:
    """Whether the number of samples in the header is not that of the last frame, so that samples must be counted."""
    return not declared(data) or not any(end == declared(data) for end in _ends(data))


def declares_too_little(data: bytes) -> bool:
    """Whether the header declares fewer samples than there are, although it declares a number."""
    return is_flac(data) and declared(data) > 0 and needs_count(data) and max(_ends(data), default=0) > declared(data)


def with_length(data: bytes, n_samples: int) -> bytes:
    """Return the bytes of a FLAC file with the number of samples in its header."""
    number = int.from_bytes(data[18:26], "big") & ~COUNT_BITS | n_samples
    return data[:18] + number.to_bytes(8, "big") + data[26:]


def holds_several(data: bytes) -> bool:
    """Whether another audio file follows the frames; the header may have the first bytes of one, as a note."""
    begin, is_last = 4, False
    while not is_last and begin + 4 <= len(data):
        is_last = bool(data[begin] & 0x80)
        begin += 4 + int.from_bytes(data[begin + 1 : begin + 4], "big")
    return tails.holds_start(data, begin)


def has_checksum(data: bytes) -> bool:
    """Whether the header has the MD5 of the samples."""
    return any(data[26:42])


def fits_checksum(data: bytes, sound: NDArray[np.int32]) -> bool:
    """Whether samples (n, channels), in the upper bits of int32, have the MD5 in the header."""
    bits = (int.from_bytes(data[20:22], "big") >> 4 & 31) + 1
    values = np.ascontiguousarray(sound >> (32 - bits), dtype="<i4")
    width = (bits + 7) // 8
    packed = values.astype("<i2") if width == 2 else values.view(np.uint8).reshape(-1, 4)[:, :width]
    return hashlib.md5(np.ascontiguousarray(packed).data, usedforsecurity=False).digest() == data[26:42]


def _ends(data: bytes) -> Iterator[int]:
    """Yield the number of samples up to the end of each frame that begins in the last bytes of the file."""
    longest = int.from_bytes(data[15:18], "big") or TAIL
    least = max(42, len(data) - longest - TAIL // 16)
    for sync in SYNC:
        at = len(data)
        while (at := data.rfind(sync, least, at)) >= 0:
            if (end := _frame_end(data, at)) is not None:
                yield end


def _frame_end(data: bytes, at: int) -> int | None:
    """Return the number of samples up to the end of the frame at an offset; None if its header is none."""
    head = data[at : at + 16]
    if len(head) < 6 or head[3] & 1:
        return None
    number, used = _number(head[4:])
    code, rate = head[2] >> 4, head[2] & 15
    end = 4 + used + {6: 1, 7: 2}.get(code, 0) + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if not used or end >= len(head) or _crc8(head[:end]) != head[end]:
        return None
    explicit = int.from_bytes(head[4 + used : 4 + used + code - 5], "big") + 1 if code in (6, 7) else 0
    block = explicit or BLOCKS.get(code, 0)
    is_variable = bool(head[1] & 1)
    return number + block if is_variable else number * int.from_bytes(data[10:12], "big") + block


def _number(coded: bytes) -> tuple[int, int]:
    """Return a number in the code of UTF-8, of up to 36 bits, and the bytes that it takes; 0 if it is none."""
    ones = 8 - (coded[0] ^ 0xFF).bit_length()
    if ones == 0:
        return coded[0], 1
    if ones in (1, 8) or len(coded) < ones or any(byte & 0xC0 != 0x80 for byte in coded[1:ones]):
        return 0, 0
    number = coded[0] & (0x7F >> ones)
    for byte in coded[1:ones]:
        number = number << 6 | byte & 0x3F
    return number, ones


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc
