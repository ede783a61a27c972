"""What may lie around the sound of a file without being a part of it: tags, padding, and the start of another file."""

from __future__ import annotations

import re
from collections.abc import Iterator

# The first bytes of audio files, long enough that no samples look like them.
STARTS = re.compile(
    rb"(?:RIFF|RIFX|RF64|BW64)....WAVE|FORM....AIF[FC]|riff\x2e\x91\xcf\x11|caff\x00\x01\x00\x00desc|"
    rb"\.snd\x00\x00..[\x00-\xff]{4}\x00\x00\x00[\x01-\x1b]|"
    rb"dns\...\x00\x00[\x00-\xff]{4}[\x01-\x1b]\x00\x00\x00|fLaC[\x00\x80]\x00\x00\x22|"
    rb"FLV\x01[\x01\x04\x05]\x00\x00\x00\x09",
    re.DOTALL,
)
# What such a start begins with: a search for each of them is faster than one for the expression.
WORDS = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"riff\x2e\x91", b"caff", b".snd", b"dns.", b"fLaC", b"FLV\x01")
BLANK, BLANKS = b"\0 \t\r\n", re.compile(rb"[\0 \t\r\n]*")  # bytes that pad the end of a file
COPY_AGAIN = "Copy or download it again, or remove it"
SEVERAL = "holds several recordings, one after the other. Split them into files"


def holds_start(data: bytes, begin: int) -> bool:
    """Whether another audio file begins somewhere in the bytes from an offset on."""
    return any(STARTS.match(data, at) for word in WORDS for at in positions(data, word, begin))


def positions(data: bytes, word: bytes, begin: int) -> Iterator[int]:
    """Yield the offsets of a word in the bytes from an offset on."""
    while (begin := data.find(word, begin)) >= 0:
        yield begin
        begin += 1


def after_id3(data: bytes, begin: int = 0) -> int:
    """Return the offset of the first byte after ID3v2 tags: 10 bytes and a size of four times 7 bits."""
    while data[begin : begin + 3] == b"ID3" and len(data) >= begin + 10:
        a, b, c, d = data[begin + 6 : begin + 10]
        footer = 10 if data[begin + 5] & 0x10 else 0
        begin += 10 + (a << 21 | b << 14 | c << 7 | d) + footer
    return begin


def after_tags(data: bytes, begin: int) -> int:
    """Return the offset of the first byte after tags of ID3v1, ID3v2, APE and Lyrics3, and padding before them."""
    while (end := _after_tag(data, start := _after_blanks(data, begin))) > start:
        begin = min(end, len(data))
    return begin


def _after_blanks(data: bytes, begin: int) -> int:
    match = BLANKS.match(data, begin)
    return match.end() if match else begin


def _after_tag(data: bytes, begin: int) -> int:
    if data.startswith(b"TAG", begin) and len(data) >= begin + 128:
        return begin + 128
    if data.startswith(b"APETAGEX", begin):  # 32 bytes, then items and a footer, whose size follows the version
        return begin + 32 + int.from_bytes(data[begin + 12 : begin + 16], "little")
    if data.startswith(b"LYRICSBEGIN", begin):
        ends = [at for at in (data.find(mark, begin) for mark in (b"LYRICS200", b"LYRICSEND")) if at > 0]
        return min(ends) + 9 if ends else begin
    if _is_ape_without_header(data, begin):
        return len(data)
    return after_id3(data, begin)


def _is_ape_without_header(data: bytes, begin: int) -> bool:
    """Whether the last bytes are an APE tag that has a footer only, and starts at an offset."""
    foot = len(data) - 32
    return data.startswith(b"APETAGEX", foot) and begin == foot + 32 - int.from_bytes(
        data[foot + 12 : foot + 16], "little"
    )


def is_padding(data: bytes, begin: int) -> bool:
    """Whether nothing follows an offset but tags, and then zeros or blanks."""
    return not data[after_tags(data, begin) :].strip(BLANK)


def is_rubbish(data: bytes, begin: int) -> bool:
    """Whether nothing follows an offset but tags, and then padding or text: no sound of any compressed format."""
    rest = data[after_tags(data, begin) :].strip(BLANK)
    return not rest.strip(b"\xff") or (rest.isascii() and rest.translate(None, b"\t\r\n").decode("ascii").isprintable())


def has_changed_line_ends(data: bytes, size: int) -> bool:
    """Whether a transfer in text mode made each \\n to \\r\\n, in a file that had `size` bytes: no bare \\n is left."""
    ends = len(data) - size
    return ends > 0 and data.count(b"\n") == data.count(b"\r\n") == ends
