"""NumPy's files from elsewhere: .npz and .npy. No pickle is loaded, and no array may declare more than its bytes."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ..files.object_arrays import read_object_array
from .raw_arrays import RawArray, RawFile, column_of, sliced

MAX_TEXT_BYTES = 1 << 28  # largest array of texts that is read
SUFFIX = ".npy"
TRAINED_ON = "trained_on"  # the array with the training list of a fine-tuned encoder

Open = Callable[[], AbstractContextManager[IO[bytes]]]  # opens the .npy file at its beginning


def read_npz(path: Path) -> RawFile:
    """Return the arrays of an .npz. Raises ValueError or an error of zipfile if it is malformed."""
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist() if info.filename.endswith(SUFFIX)}

    def opened(member: str) -> Open:
        return lambda: _Member(path, member)

    arrays, notes = {}, []
    for member, size in sizes.items():
        name = member.removesuffix(SUFFIX)
        try:
            arrays[name] = _array(name, opened(member), size)
        except NotPlain as error:
            notes.append(f"{path}: {error}, and is not used.")
    texts = {name: text for name, array in arrays.items() if (text := _text(name, array)) is not None}
    return RawFile(path, {name: array for name, array in arrays.items() if name not in texts}, texts, tuple(notes))


def read_npy(path: Path) -> RawFile:
    """Return the array of an .npy, under the name `pooled`. Raises ValueError."""
    return RawFile(path, {"pooled": _array("pooled", lambda: path.open("rb"), path.stat().st_size)}, {})


class NotPlain(ValueError):
    """An array of Python objects or records, which another array of the file may make up for."""


class _Member(AbstractContextManager[IO[bytes]]):
    """A member of an archive, which is opened for it alone."""

    def __init__(self, path: Path, member: str) -> None:
        self._archive = zipfile.ZipFile(path)
        self._file = self._archive.open(member)

    def __enter__(self) -> IO[bytes]:
        return self._file

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._archive.close()


def _array(name: str, opened: Open, size: int) -> RawArray:
    """Return an array whose .npy file has `size` bytes. Raises ValueError if it is not a plain array."""
    with opened() as file:
        shape, fortran, dtype = _header(name, file)
        if dtype.hasobject:
            return _objects(name, file, shape)
    if dtype.names:
        raise NotPlain(f"'{name}' holds records {shape}")
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > size:
        raise ValueError(f"'{name}' declares the shape {shape}, but has {size} bytes")

    def blocks(step: int) -> Iterator[NDArray[Any]]:
        with opened() as file:
            _header(name, file)
            yield from (
                _read_fortran(name, file, shape, dtype, step) if fortran else _read(name, file, shape, dtype, step)
            )

    return RawArray(name, shape, str(dtype), blocks)


def _header(name: str, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the last axis varies slowest, and data type; the file is at the first entry afterwards."""
    if npy.read_magic(file) != (1, 0):  # headers of later versions may have 4 GB
        raise ValueError(f"'{name}' has an .npy header of another version; wanted version 1.0")
    shape, fortran, dtype = npy.read_array_header_1_0(file)
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"'{name}' declares the shape {shape}")
    return shape, fortran, dtype


def _objects(name: str, file: IO[bytes], shape: tuple[int, ...]) -> RawArray:
    data = file.read(MAX_TEXT_BYTES + 1)
    if len(shape) != 1 or len(data) > MAX_TEXT_BYTES:
        raise NotPlain(f"'{name}' holds Python objects {shape}")
    try:
        entries = read_object_array(data)
    except Exception as error:  # for malformed bytes, the unpickler raises any exception
        raise ValueError(f"'{name}' cannot be read: {error}. Save {name}.astype(str) instead") from error
    if len(entries) != shape[0]:
        raise ValueError(f"'{name}' declares the shape {shape}, but has {len(entries)} entries")
    return column_of(name, entries)


def _read(
    name: str, file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], step: int
) -> Iterator[NDArray[Any]]:
    for begin in range(0, shape[0] if shape else 1, step):
        rows = (min(step, shape[0] - begin), *shape[1:]) if shape else ()
        yield _exactly(name, file, rows, dtype).reshape(rows)


def _read_fortran(
    name: str, file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], step: int
) -> Iterator[NDArray[Any]]:
    """Yield blocks of an array whose rows are not contiguous in the file, which is therefore read as a whole."""
    yield from sliced(_exactly(name, file, shape, dtype).reshape(shape[::-1]).T, step)


def _exactly(name: str, file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    wanted = int(np.prod(shape)) * dtype.itemsize
    data = file.read(wanted)
    if len(data) != wanted:
        raise ValueError(f"'{name}' ends after {len(data)} of {wanted} bytes")
    return np.frombuffer(data, dtype)


def _text(name: str, array: RawArray) -> str | None:
    """Return the text of an array without axes, or of the bytes of a training list; None for any other array."""
    kind = np.dtype(array.dtype).kind
    if kind == "U" and array.shape == () and np.dtype(array.dtype).itemsize <= MAX_TEXT_BYTES:
        return str(next(array.blocks(1)))
    if name == TRAINED_ON and array.dtype == "uint8" and len(array.shape) == 1 and array.shape[0] <= MAX_TEXT_BYTES:
        return b"".join(block.tobytes() for block in array.blocks(max(1, array.shape[0]))).decode(errors="replace")
    return None
