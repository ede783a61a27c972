"""Check files from untrusted sources before reading them, so that no file makes `ser` wait or fills the memory.

Only regular files are read: a pipe can block for ever, and a device may never end. A file that is larger than its
reader needs is refused. Links are followed, and the checks apply to the file that a link leads to.
"""

from __future__ import annotations

import codecs
import dataclasses
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import SerError

FETCH_LFS = "Run `git lfs pull` in its repository."

T = TypeVar("T")


def check_file(path: Path, max_bytes: int, kind: type[SerError], advice: str = "") -> int:
    """Return the size of a regular file in bytes.

    Raises an error of the class `kind`, whose message ends with `advice`, if the file is missing, is not a regular file
    or has more than `max_bytes` bytes.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: the path contains a NUL character
        raise kind(f"{path}: cannot be read: {why_unreadable(path, error)}. {advice}".rstrip()) from error
    if not stat.S_ISREG(status.st_mode):
        raise kind(f"{path}: cannot be read: it is a folder, a pipe or a device; wanted a file. {advice}".rstrip())
    if status.st_size > max_bytes:
        raise kind(f"{path}: has {status.st_size:,} bytes; wanted at most {max_bytes:,}. {advice}".rstrip())
    return status.st_size


def why_unreadable(path: str | Path, error: Exception) -> str:
    """Return the reason why a file cannot be read, without a full stop; for a dead link, where it leads."""
    if isinstance(error, FileNotFoundError) and os.path.islink(path):  # noqa: PTH114
        return f"it links to {os.readlink(path)}, where nothing is"  # noqa: PTH115
    return _reason(error)


def read_json(path: Path, max_bytes: int, kind: type[SerError], advice: str = "") -> Any:
    """Return the content of a JSON file.

    Raises an error of the class `kind`, whose message ends with `advice`, if the file is not valid JSON or `check_file`
    refuses it.
    """
    check_file(path, max_bytes, kind, advice)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # RecursionError: thousands of nested brackets
        if is_lfs_pointer(path):
            raise kind(f"{path}: is a git-LFS pointer, not JSON. {FETCH_LFS}") from error
        raise kind(f"{path}: cannot be read as JSON: {_reason(error)}. {advice}".rstrip()) from error


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is a pointer of git-LFS to a file that was not fetched."""
    with path.open("rb") as file:
        return begins_as_lfs_pointer(file.read(256))


def begins_as_lfs_pointer(data: bytes) -> bool:
    """Whether the content of a file begins as a pointer of git-LFS does, blanks before it aside."""
    return data[:256].removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"version https://git-lfs")


def build(kind: type[T], content: Any) -> T:
    """Return a dataclass made of the object that JSON or TOML holds; lists become tuples, tables nested dataclasses.

    Raises ValueError that names the fields which are unknown, are missing without a default, or have another type than
    the dataclass declares.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"wanted an object with the fields of {kind.__name__}; got {type(content).__name__}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unset = dataclasses.MISSING
    required = {name for name, f in fields.items() if f.default is unset and f.default_factory is unset}
    if unknown := [*sorted(set(content) - set(fields)), *sorted(required - set(content))]:
        raise ValueError(f"unknown or missing fields: {', '.join(map(str, unknown))}")
    hints = get_type_hints(kind)
    if wrong := wrong_types(content, hints):
        raise ValueError(f"wrong type of {', '.join(wrong)}")
    return kind(**{name: _convert(value, hints[name]) for name, value in content.items()})


def wrong_types(values: Mapping[str, Any], hints: Mapping[str, Any]) -> list[str]:
    """Return the names of the values that do not have the type of their hint."""
    return [name for name, value in values.items() if name in hints and not has_type(value, hints[name])]


def has_type(value: Any, hint: Any) -> bool:
    """Whether a value read from JSON has the type of an annotation.

    A list counts as `tuple[X, ...]`, an object as a dataclass or as `dict[str, X]`, a whole number as `float`; true and
    false are not numbers.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(has_type(value, one) for one in inner)
    if origin in (tuple, list):
        return isinstance(value, list | tuple) and all(has_type(item, inner[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(k, str) and has_type(v, inner[1]) for k, v in value.items())
    if dataclasses.is_dataclass(hint):
        return isinstance(value, dict)
    return type(value) in {float: (float, int), type(None): (type(None),)}.get(hint, (hint,))


def _convert(value: Any, hint: Any) -> Any:
    if isinstance(value, list) and get_origin(hint) is tuple:
        return tuple(_convert(item, get_args(hint)[0]) for item in value)
    if isinstance(value, dict) and dataclasses.is_dataclass(hint):
        return build(hint, value)  # type: ignore[arg-type]
    return value


def _reason(error: Exception) -> str:
    """Return the reason that an error gives, without a full stop at the end."""
    return (getattr(error, "strerror", None) or str(error)).rstrip(".")
