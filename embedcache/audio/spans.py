"""Spans of recordings: their bounds in samples, and pairs of spans that overlap."""

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
        lasts = f"lies outside the recording, which lasts {samples / rate:.3f} s"
        return (0, 0), f"{lasts}. Correct the bounds, in seconds. {cut}"
    if end <= begin:
        return (0, 0), "is empty: the end is not behind the start. Correct the bounds."
    return (begin, min(end, samples)), ""


def overlaps(clips: Sequence[Clip]) -> Iterator[tuple[int, int, float]]:
    """Yield the places of pairs of clips whose spans overlap by more than bounds are exact, and the seconds they share.

    The clips have their durations. A clip without a span is the whole recording. Clips of two channels do not overlap,
    and recordings without spans are not looked at.
    """
    by_path: dict[str, list[int]] = defaultdict(list)
    with_spans = {clip.path for clip in clips if clip.span}
    for place, clip in enumerate(clips):
        if clip.path in with_spans:
            by_path[clip.path].append(place)
    for places in by_path.values():
        yield from _overlaps_in_file(clips, sorted(places, key=lambda place: _begin(clips[place])))


def _overlaps_in_file(clips: Sequence[Clip], places: Sequence[int]) -> Iterator[tuple[int, int, float]]:
    active: list[int] = []  # earlier clips that have not ended
    for place in places:
        clip, begin = clips[place], _begin(clips[place])
        active = [other for other in active if _end(clips[other]) > begin]
        for other in active:
            shared = min(_end(clips[other]), _end(clip)) - begin
            least = min(OVERLAP, clip.seconds / 2, clips[other].seconds / 2)
            if shared > least and _share_channel(clips[other], clip):
                yield other, place, shared
        active.append(place)


def _begin(clip: Clip) -> float:
    return clip.span.start if clip.span else 0.0


def _end(clip: Clip) -> float:
    return _begin(clip) + clip.seconds


def _share_channel(a: Clip, b: Clip) -> bool:
    return a.channel is None or b.channel is None or a.channel == b.channel
