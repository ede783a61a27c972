"""The recordings of clips. A file of which several clips are spans is decoded once for all of them.

The two files that were decoded last are kept, and every file that somebody still uses. Whoever goes through clips file
by file, as `by_file` orders them, thus decodes each file once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar
from weakref import WeakValueDictionary

from ..errors import AudioError
from ..files.stamps import Stamp, stamp
from ..files.untrusted import why_unreadable
from ..manifest import Clip, Span
from ..text import one_line
from .decode import CHECK_FILE, Decoded, Recording

KEPT = 2  # decoded files that are kept; an hour of stereo at 48 kHz takes 1.4 GB

Result = TypeVar("Result")


class _DecodedFile:
    """A file that is decoded when it is first needed. The error of a faulty file is kept, too."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._decoded: Decoded | AudioError | None = None

    def decoded(self) -> Decoded:
        """Return the samples of the file. Raises AudioError if it cannot be decoded."""
        with self._lock:
            if self._decoded is None:
                self._decoded = self._decode()
        if isinstance(self._decoded, AudioError):
            raise AudioError(*self._decoded.args)
        return self._decoded

    def _decode(self) -> Decoded | AudioError:
        try:
            return Recording.load(self.path, is_long=True).decode_whole()
        except AudioError as error:
            return error


_lock = threading.Lock()
_files: WeakValueDictionary[tuple[str, Stamp], _DecodedFile] = WeakValueDictionary()
_recent: deque[_DecodedFile] = deque(maxlen=KEPT)


def recording_of(clip: Clip) -> Recording:
    """Return the recording of a clip: its file, the channel of it, or the span of it.

    Raises AudioError if the file cannot be read; if the clip is a span, also if the file cannot be decoded.
    """
    return load_part(clip.path, clip.channel, clip.span)


def load_part(path: str, channel: int | None = None, span: Span | None = None) -> Recording:
    """Return the recording of a file, of a channel of it, or of a span of it. Raises AudioError as `recording_of`."""
    return Recording.load(path, channel) if span is None else _file_of(path).decoded().part(path, channel, span)


def by_file(clips: Iterable[Clip]) -> list[list[int]]:
    """Return the places of clips, grouped by file. Clips that are no spans are groups of their own."""
    groups: dict[object, list[int]] = {}
    for place, clip in enumerate(clips):
        groups.setdefault(clip.path if clip.span else place, []).append(place)
    return list(groups.values())


def file_order(clips: Iterable[Clip]) -> list[int]:
    """Return the places of clips, file by file."""
    return [place for places in by_file(clips) for place in places]


def map_by_file(
    function: Callable[[Clip], Result], clips: Sequence[Clip], pool: ThreadPoolExecutor
) -> Iterator[tuple[int, Result]]:
    """Yield the place and the result of each clip. The clips of a file are handled by one thread, one after another."""

    def handle(places: Sequence[int]) -> list[tuple[int, Result]]:
        with _held(clips[places[0]]):
            return [(place, function(clips[place])) for place in places]

    for results in pool.map(handle, by_file(clips)):
        yield from results


def forget_files() -> None:
    """Free the memory of the decoded files that nobody uses."""
    with _lock:
        _recent.clear()


@contextmanager
def _held(clip: Clip) -> Iterator[None]:
    """Keep the decoded file of a span while the context lasts."""
    try:
        held = _file_of(clip.path) if clip.span else None
    except AudioError:  # a file that cannot be read: whoever wants its recording gets the error
        held = None
    yield
    del held


def _file_of(path: str) -> _DecodedFile:
    try:
        known = (path, stamp(path))
    except OSError as error:
        raise AudioError(f"{one_line(path)}: cannot be read: {why_unreadable(path, error)}. {CHECK_FILE}") from error
    with _lock:
        file = _files.get(known) or _DecodedFile(path)
        _files[known] = file
        if file not in _recent:
            _recent.append(file)
        return file
