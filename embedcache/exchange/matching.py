"""Clip ids of another program, and the clips that they mean."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ..files.path_names import by_name, same_name
from ..manifest import Clip, Manifest


def match_clips(ids: Iterable[str], manifest: Manifest) -> dict[str, Clip]:
    """Return id -> clip for the ids that mean one clip of a manifest; other ids are absent.

    An id may be a clip id, with or without a suffix, or a path or a name of a clip's file. Of several files with one
    name, the one with the most equal folders is meant.
    """
    clips = {clip.clip_id: clip for clip in manifest.clips}
    paths = {Path(clip.path).as_posix(): clip for clip in manifest.clips if clip.path}
    names = by_name(paths)
    found = {}
    for one in ids:
        stem = PurePosixPath(one.replace("\\", "/")).stem
        if clip := clips.get(one) or clips.get(stem) or paths.get(same_name(one, names)):
            found[one] = clip
    return found
