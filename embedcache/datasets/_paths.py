"""Paths that a table names, and the files below the folder of the table that they mean.

A path counts as it is written. If there is no such file, the path counts in another form: with `/` for the `\\` of
Windows, and in another Unicode form. If no path of the table leads to a file in either way, the table comes from
another machine or another folder, and the files of the same name below the table's folder are meant.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..dataset import audio_files
from ..files.path_names import ByName, by_name, same_name
from ..text import count, quoted, without_unseen

FOREIGN = re.compile(r"[A-Za-z]:[\\/]|\\\\")  # how an absolute path of Windows begins


def locate(written: Sequence[str], base: Path) -> tuple[dict[str, str], list[str]]:
    """Return path as written -> path relative to the folder `base`, for paths that lead to a file, and notes.

    Paths that lead to no file are absent. So are absolute paths, and those with `..`, that lead to a file as written.
    """
    distinct = list(dict.fromkeys(written))
    found = {path: form for path in distinct if (form := _existing_form(path, base))}
    if found or any(_leads_elsewhere(path, base) for path in distinct):
        return found, _form_notes(found)
    files = _files_by_name(base)
    moved = {path: file for path in distinct if (file := same_name(path, files))}
    if len(moved) < len(distinct) or len(set(moved.values())) < len(moved):
        return {}, []
    note = f"no path in it leads to a file. The files of the same name below {base} are meant, such as "
    return moved, [note + f"'{moved[distinct[0]]}' for '{distinct[0]}'"] if moved else []


def _existing_form(path: str, base: Path) -> str:
    """Return the first form of a relative path that leads to a file below `base`; "" if none does."""
    slashes = without_unseen(path.replace("\\", "/"))
    forms = (path, slashes, unicodedata.normalize("NFC", slashes), unicodedata.normalize("NFD", slashes))
    return next((form for form in forms if _is_relative(form) and _exists(base / form)), "")


def _is_relative(path: str) -> bool:
    return bool(path) and not FOREIGN.match(path) and not path.startswith("/") and ".." not in path.split("/")


def _leads_elsewhere(path: str, base: Path) -> bool:
    """Whether a path that is absolute or has `..` leads to a file or folder as it is written."""
    return not _is_relative(path.replace("\\", "/")) and _exists(base / path)


def _exists(path: Path) -> bool:
    try:
        return os.path.lexists(path) and not path.is_dir()
    except ValueError:  # a NUL character
        return False


def _form_notes(found: Mapping[str, str]) -> list[str]:
    changed = [path for path, form in found.items() if path != form]
    if not changed:
        return []
    example = f"{quoted(changed[0])} as {quoted(found[changed[0]])}"
    return [f"reads {count(len(changed), 'path')} in another form, such as {example}"]


def _files_by_name(base: Path) -> ByName:
    return by_name(path.relative_to(base).as_posix() for path in audio_files(base, videos=True))
