"""What the bytes of an audio file are, whatever its name says: who decodes them, and what their header gets wrong."""

from __future__ import annotations

from .structure import chunks, containers, flac, frames, tails

# Formats whose samples libsndfile decodes exactly, by libsndfile's names. FFmpeg decodes everything else.
EXACT = frozenset({"WAV", "WAVEX", "RF64", "W64", "FLAC", "AIFF", "AU", "CAF"})
EBML = containers.EBML


def is_exact(data: bytes) -> bool:
    """Whether libsndfile decodes these bytes exactly. FFmpeg decodes all others, such as MP3, AAC, Opus and GSM."""
    exact = chunks.is_exact(data)
    return data[:4] == b"fLaC" if exact is None else exact


def find_fault(data: bytes) -> str:
    """Return why a file cannot be read as a whole, as the end of a sentence; "" if nothing is wrong.

    A file is truncated, holds several recordings, has a size in its header that is too small, or parts of it are
    missing, as far as its structure shows it. Other faults show when a file is decoded.
    """
    if flac.is_flac(data):
        return tails.SEVERAL if flac.holds_several(data) else ""
    if samples := chunks.samples(data):
        return samples.fault
    if fault := containers.find_fault(data):
        return fault
    return found.fault if (found := frames.frames(data)) else ""


def has_other_length(data: bytes) -> bool:
    """Whether a file holds more sound than its header declares, or less, because it counts padding or titles."""
    samples = chunks.samples(data)
    return samples.ends_elsewhere(len(data)) if samples else flac.declares_too_little(data)


def mended(data: bytes) -> bytes:
    """Return the bytes of a file without fault, with the size of what it holds, and without what follows its end.

    A file whose header is right and that ends with its sound is returned as it is. FLAC needs `with_length`.
    """
    samples = chunks.samples(data)
    if data[:4] == b"caff" and not chunks.is_plain_caf(data):  # the table of its packets may follow the samples
        return data
    if samples:
        is_right = samples.end == len(data) and samples.declared == samples.end - samples.begin
        return data if is_right else samples.mended(data)
    end = found.end if (found := frames.frames(data)) else containers.end(data)
    return data if end >= len(data) else data[:end]


def needs_count(data: bytes) -> bool:
    """Whether the bytes are a FLAC file whose header does not declare the number of samples that its frames do."""
    return flac.is_flac(data) and flac.needs_count(data)
