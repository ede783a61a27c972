"""Clip ids of another program, and the clips that they mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ..audio.decode import SUFFIXES, VIDEOS
from ..files.path_names import by_name, same_name
from ..manifest import Clip, Manifest


def match_clips(ids: Iterable[str], manifest: Manifest) -> dict[str, Clip]:
    """Return id -> clip for the ids that mean one clip of a manifest; other ids are absent.

    An id may be a clip id, or a path or a name of a clip's file; of several files with one name, the one with the most
    equal folders is meant. Files may be in another format, as the sound of a video is. If an id is a clip's id without
    its suffix, or the reverse, this clip is meant. An id that means one clip as an id and another as a file is absent,
    too. A span of a recording is meant by its clip id alone: the name of its file means all of the recording. A file of
    which several clips are channels means none of them.
    """
    clips = {clip.clip_id: clip for clip in manifest.clips}
    stems = _unique((_without_suffix(clip.clip_id), clip) for clip in manifest.clips)
    files = [(Path(clip.path).as_posix(), clip) for clip in manifest.clips if clip.path]
    paths = {path: clip for path, clip in _unique(files).items() if not clip.span}
    names = by_name(dict.fromkeys(path for path, _ in files))
    found = {}
    for one in ids:
        path = one.replace("\\", "/")
        stem = _without_suffix(path)
        is_recording = PurePosixPath(path).suffix.lower() in SUFFIXES | VIDEOS
        as_file = paths.get(same_name(one, names) or (same_name(stem, names) if is_recording else ""))
        as_id = clips.get(one) or (None if as_file else clips.get(PurePosixPath(stem).name) or stems.get(stem))
        meant = [clip for clip in (as_id, as_file) if clip]
        if meant and all(clip is meant[0] for clip in meant):
            found[one] = meant[0]
    return found


def _without_suffix(name: str) -> str:
    """Return a name without its suffix. A part of a span is none, as in `a.wav@1-2.5`."""
    path = PurePosixPath(name)
    is_suffix = path.suffix[1:].isalnum() and not path.suffix[1:].isdecimal()
    return path.with_suffix("").as_posix() if is_suffix else path.as_posix()


def _unique(pairs: Iterable[tuple[str, Clip]]) -> dict[str, Clip]:
    """Return name -> clip for the names of one clip alone."""
    listed = list(pairs)
    times = Counter(name for name, _ in listed)
    return {name: clip for name, clip in listed if times[name] == 1}
