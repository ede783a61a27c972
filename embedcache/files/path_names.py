"""Paths from another machine or program, and the paths here that have the same name.

Names are compared in Unicode NFC and in lower case, with or without their suffix: `C:\\data\\A` may be `wavs/a.wav`.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

ByName = Mapping[str, Sequence[str]]  # form of a name -> the paths with this name


def by_name(paths: Iterable[str]) -> ByName:
    """Return paths, with `/` between folders, by their name and by their name without suffix."""
    found = defaultdict(list)
    for path in paths:
        pure = PurePosixPath(path)
        for name in {_form(pure.name), _form(pure.stem)}:
            found[name].append(path)
    return found


def same_name(path: str, paths: ByName) -> str:
    """Return the path of the same name; of several, the one with the most equal folders. "" if this is not one path."""
    parts = [_form(part) for part in path.replace("\\", "/").split("/")]
    if ".." in parts or not parts[-1]:
        return ""
    candidates = sorted(paths.get(parts[-1], ()), key=lambda file: -_equal_folders(file, parts))
    if len(candidates) > 1 and _equal_folders(candidates[0], parts) == _equal_folders(candidates[1], parts):
        return ""
    return candidates[0] if candidates else ""


def _equal_folders(file: str, parts: Sequence[str]) -> int:
    """Return how many folders, counted from the file upwards, have the same names as those of a path."""
    equal = 0
    for folder, part in zip(reversed(PurePosixPath(file).parts[:-1]), reversed(parts[:-1]), strict=False):
        if _form(folder) != part:
            break
        equal += 1
    return equal


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
