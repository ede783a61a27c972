"""Spans of recordings: their bounds in samples, and those that overlap under two labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from ..manifest import Clip, Span

ROUNDED = 0.01  # seconds by which an end may lie behind the recording's: times are often rounded to hundredths
OVERLAP = 0.1  # seconds that two spans may share, since bounds between utterances are not exact


def bounds(span: Span, samples: int, rate: int) -> tuple[tuple[int, int], str]:
    """Return the first sample of a span and the one after its last, and what is wrong with the span; "" if nothing is.

    `samples` is the length of the recording and `rate` its sample rate in Hz.
    """
    begin = round(span.start * rate)
    end = samples if span.end is None else round(span.end * rate)
    if begin < 0:
        return (0, 0), "begins before the recording. Correct the start."
    if begin >= samples or end > samples + ROUNDED * rate:
        cut = "If the recordings are cut already, remove the columns of the bounds."
        return (0, 0), f"lies outside the recording, which lasts {samples / rate:.3f} s. Correct the bounds. {cut}"
    if end <= begin:
        return (0, 0), "is empty: the end is not behind the start. Correct the bounds."
    return (begin, min(end, samples)), ""


def overlaps(clips: Sequence[Clip]) -> Iterator[tuple[Clip, Clip, float]]:
    """Yield pairs of clips with two labels whose spans overlap, and the seconds that they share.

    The clips have their durations. Clips of two channels do not overlap.
    """
    by_path: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_path[clip.path].append(clip)
    for group in by_path.values():
        if any(clip.span for clip in group):
            yield from _overlaps_in_file(sorted(group, key=_begin))


def _overlaps_in_file(clips: Sequence[Clip]) -> Iterator[tuple[Clip, Clip, float]]:
    active: list[Clip] = []  # earlier clips that have not ended
    for clip in clips:
        active = [other for other in active if _end(other) > _begin(clip)]
        for other in active:
            shared = min(_end(other), _end(clip)) - _begin(clip)
            least = min(OVERLAP, clip.seconds / 2, other.seconds / 2)
            if other.label != clip.label and shared > least and _share_channel(other, clip):
                yield other, clip, shared
        active.append(clip)


def _begin(clip: Clip) -> float:
    return clip.span.start if clip.span else 0.0


def _end(clip: Clip) -> float:
    return _begin(clip) + clip.seconds


def _share_channel(a: Clip, b: Clip) -> bool:
    return a.channel is None or b.channel is None or a.channel == b.channel
