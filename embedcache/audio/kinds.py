"""What bytes are by their beginning: a kind of audio file, or a file of another kind under the name of one."""

from __future__ import annotations

import codecs

from . import formats
from .structure.chunks import W64_START
from .structure.frames import frames_follow

# Offset and bytes by which files of audio are known, with the suffix of such a file.
STARTS = (
    (0, b"RIFF", ".wav"),
    (0, b"RIFX", ".wav"),
    (0, b"RF64", ".wav"),
    (0, W64_START, ".w64"),
    (0, b"fLaC", ".flac"),
    (0, b"OggS", ".ogg"),
    (0, b"FORM", ".aiff"),
    (0, b".snd", ".au"),
    (0, b"caff", ".caf"),
    (4, b"ftyp", ".m4a"),
    (0, formats.EBML, ".webm"),
    (0, b"ID3", ".mp3"),
    (0, b"#!AMR", ".amr"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", ".wma"),
    (0, b"FLV\x01", ".flv"),
    (0, b"\x00\x00\x01\xba", ".mpg"),
    (0, b"NIST_1A", ".sph"),
    (0, b"wvpk", ".wv"),
    (0, b".ra\xfd", ".ra"),
    (0, b".RMF", ".rm"),
)
# Other kinds of files that are sometimes given the name of an audio file: offset, bytes at that offset, description.
OTHER_FORMATS = (
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"\xcf\xfa\xed\xfe", "a program"),
    (0, b"#!", "a script"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "compressed with gzip"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89PNG", "a picture"),
    (0, b"\xff\xd8\xff", "a picture"),
)
TEXTS = ((b"<", "HTML or XML"), (b"{", "JSON"), (b"[", "JSON"))  # by the first byte
SAMPLE, SHOWN = 4096, 40  # bytes from which text is known, and characters of it that are shown
# Files of MPEG, AAC and transport streams begin with bytes that raw sound may begin with, too. They are known by this
# number of frames that follow each other, which lie in this number of bytes.
FRAMES, FRAMES_BYTES = 3, 8192


def suffix(data: bytes) -> str:
    """Return the file name suffix that fits the bytes; "" if none is known."""
    return next((suffix for at, start, suffix in STARTS if data.startswith(start, at)), "")


def is_audio_file(head: bytes) -> bool:
    """Whether the first `bytes_to_tell(head)` bytes are those of an audio file, and not raw sound."""
    return bool(suffix(head)) or frames_follow(head, FRAMES)


def bytes_to_tell(head: bytes) -> int:
    """Return how many bytes `is_audio_file` needs to tell a file that begins with these."""
    return FRAMES_BYTES if head[:1] in (b"\xff", b"G", b"\x0b") else max(at + len(start) for at, start, _ in STARTS)


def other_kind(data: bytes) -> str:
    """Return what a file is that is no audio: `a ZIP archive`, `JSON`, `all zeros`; "" if it is none of these."""
    if suffix(data):
        return ""
    if kind := next((kind for at, start, kind in OTHER_FORMATS if data.startswith(start, at)), ""):
        return kind
    if data.count(0) == len(data):
        return f"all zeros ({len(data):,} bytes)"
    text = _text(data)
    if not text:
        return ""
    kind = next((kind for start, kind in TEXTS if text.encode().startswith(start)), "text")
    return f"{kind} that begins with {text[:SHOWN]!r}"


def _text(data: bytes) -> str:
    """Return the beginning of the bytes as text, without blanks around it; "" if they are no text."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data[:SAMPLE]).removeprefix("\ufeff").strip()
    except UnicodeDecodeError:
        return ""
    return text if all(char.isprintable() or char.isspace() for char in text) else ""
