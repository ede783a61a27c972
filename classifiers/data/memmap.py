"""Embeddings that are larger than memory: rows of a float32 matrix in a scratch file, read one block at a time.

A `MappedRows` takes the place of the array X (n, d). Selecting folds or columns of it only selects row and column
numbers; values are read by `np.asarray` or `blocks`. Heads that read X by blocks never hold more than one block in
memory, other heads read all of X.

The scratch file is in the output folder. It is removed with the last object that uses it, or when the process ends; if
a process is killed, its files are removed when the next scratch file is written. The file name identifies the process:
`<machine>-<process>-<uuid>.f32`.
"""

from __future__ import annotations

import errno
import os
import platform
import uuid
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedcache import DataError

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

SUFFIX = ".f32"

# The size of a block in bytes: large compared with the cost of a call, and small enough for the processor's cache where
# scikit-learn makes float64 copies of a block: ten blocks of 4 MB are faster than one of 40 MB.
BLOCK = 2**22

# The number of rows read from one memory map. The pages of a map count as memory of the process until the map is
# closed, and one row can load a whole folio of the page cache, 2 MB: reading 1,000 rows in random order had 0.9 GB
# resident (ext4, Linux 6.18), reading 32 rows 64 MB.
ROWS_PER_MAP = 32


class ScratchFile:
    """The path of a scratch file, which is removed with this object, at the latest when the process ends."""

    def __init__(self, folder: Path) -> None:
        name = f"{platform.node()}-{os.getpid()}-{uuid.uuid4().hex}{SUFFIX}"
        self.path = folder.resolve() / name  # absolute, because workers may have another working directory
        self.remove = weakref.finalize(self, _remove, self.path, os.getpid())


# The maximum size in bytes of an X that is held in memory. A comparison in two processes holds X six times: as the
# task, as the copy that both processes read, and in each process as training rows and as scaled training rows. Together
# with the libraries this fits a machine with 8 GB.
IN_MEMORY = 2**30


def is_large(nbytes: int) -> bool:
    """Whether an X of this size in bytes is kept in a file."""
    return nbytes > IN_MEMORY


@dataclass(frozen=True, eq=False)
class MappedRows:
    """Selected rows and columns of a float32 matrix in a file, used in place of an array (n, d).

    `X[rows]`, where `rows` is a slice, an array of row numbers or a mask, and `X[:, a:b]` return another MappedRows and
    read nothing; `np.asarray(X)` reads all of X. For example, for a file with the rows [0, 1, 2], [3, 4, 5], [6, 7, 8],

        X = MappedRows.of(path, width=3)        # rows [0, 1, 2], columns range(0, 3)
        part = X[[2, 0]][:, 1:]                 # rows [2, 0],    columns range(1, 3)
        np.asarray(part)                        # [[7, 8], [1, 2]]

    A pickled MappedRows is a path and row numbers: another process opens the file itself, and can read it until the
    process that wrote the file removes it.

    Each read opens a map of the file and closes it after `ROWS_PER_MAP` rows, which releases the map's pages. As long
    as the page cache holds the file, reading a row takes some microseconds in any order; otherwise, reading rows out of
    order takes one disk access per row.
    """

    path: Path
    width: int  # number of columns of the file
    rows: Indices  # selected row numbers of the file, in order
    columns: range  # selected column numbers of the file
    file: ScratchFile | None = None  # keeps the file from being removed; None if this process does not own the file

    @classmethod
    def of(cls, path: str | Path, width: int) -> MappedRows:
        """Return all rows of a file that contains only float32 values in rows of `width` values."""
        path = Path(path).resolve()
        return cls(path, width, np.arange(path.stat().st_size // (4 * width)), range(width))

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return len(self.rows), len(self.columns)

    @property
    def ndim(self) -> int:
        """2."""
        return 2

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """float32."""
        return np.dtype(np.float32)

    @property
    def nbytes(self) -> int:
        """The size of the selected values in memory, in bytes."""
        return 4 * len(self.rows) * len(self.columns)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> MappedRows:
        """Select rows, in any order, and with `X[:, a:b]` columns, without reading values."""
        rows, columns = key if isinstance(key, tuple) else (key, ...)
        chosen = self.rows[rows]
        kept = self.columns if columns is ... else self.columns[columns]
        if np.ndim(chosen) != 1 or not isinstance(kept, range) or kept.step != 1:
            raise TypeError(f"got the index {key!r}; wanted rows by slice, numbers or mask, and columns as a:b.")
        return replace(self, rows=chosen, columns=kept)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all selected values, for numpy. Raises DataError if the file was removed."""
        if copy is False:
            raise ValueError("rows of a file cannot become an array without a copy.")
        X = np.empty(self.shape, dtype or np.float32)
        columns = slice(self.columns.start, self.columns.stop)
        for start in range(0, len(self), ROWS_PER_MAP):
            part = slice(start, start + ROWS_PER_MAP)
            X[part] = self._map()[self.rows[part], columns]
        return X

    def _map(self) -> Floats:
        """Return a memory map of the file, which is closed when nothing refers to it."""
        try:
            return np.memmap(str(self.path), np.float32, "r").reshape(-1, self.width)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {self.path}: {error}. Load the task again to write the file anew.") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedRows, (self.path, self.width, self.rows, self.columns)


Matrix: TypeAlias = Floats | MappedRows


def blocks(X: Matrix, rows: Indices | None = None) -> Iterator[Floats]:
    """Iterate over X (n, d), or over selected rows of X in order, as arrays of at most `BLOCK` bytes or one row.

    Yields one block at least, which is empty if there are no rows. For example, a row of 768 float32 values has 3,072
    bytes and a block of 2**22 bytes has 1,365 rows, so 3,000 rows are read as 1,365, 1,365 and 270 rows.

    An array is split at the same rows as a file, so that sums over blocks are bit-identical for both.
    """
    count = len(X) if rows is None else len(rows)
    step = max(1, BLOCK // (4 * X.shape[1] or 1))
    for start in range(0, count or 1, step):
        part = slice(start, start + step)
        yield np.asarray(X[part if rows is None else rows[part]])


def stack(a: Matrix, b: Matrix) -> Matrix:
    """Return the rows of `a`, then the rows of `b`.

    If both are rows of the same file, nothing is read: rows [4, 2] and rows [7] become rows [4, 2, 7].
    """
    if isinstance(a, MappedRows) and isinstance(b, MappedRows) and a.path == b.path:
        return replace(a, rows=np.concatenate([a.rows, b.rows]))
    return np.concatenate([np.asarray(a), np.asarray(b)])


def write_rows(folder: Path, shape: tuple[int, int], parts: Iterable[Floats]) -> MappedRows:
    """Write a matrix of `shape` (n, d), given as consecutive blocks of its rows, to a scratch file in `folder`.

    Raises DataError if the folder cannot be written or has too little space, before the first block is computed;
    ValueError if the blocks do not have n rows in total.
    """
    _remove_leftovers(folder)
    file, (n, width) = ScratchFile(folder), shape
    try:
        _write_parts(file.path, 4 * n * width, parts)
    except BaseException:
        file.remove()  # at once, because a traceback may keep this frame, and with it the file, alive
        raise
    return replace(MappedRows.of(file.path, width), file=file)


def _write_parts(path: Path, size: int, parts: Iterable[Floats]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            _reserve_space(file.fileno(), size)
            for part in parts:
                file.write(np.ascontiguousarray(part, np.float32).data)
            if file.tell() != size:
                raise ValueError(f"got {file.tell() // 4} numbers, wanted {size // 4}.")
    except OSError as error:
        raise DataError(
            f"cannot write {size / 1e9:.1f} GB of vectors, which are too large for memory, to {path.parent}: "
            f"{error.strerror or error}. Make room, or choose another --artifacts."
        ) from error


def _reserve_space(file: int, size: int) -> None:
    """Raise OSError if the disk is too small; file systems that cannot reserve space raise it on writing instead."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # a fork must not remove the file of its parent
        with suppress(OSError):
            path.unlink()


def _remove_leftovers(folder: Path) -> None:
    """Remove the scratch files of processes of this machine that no longer run."""
    for path in folder.glob(f"*{SUFFIX}"):
        machine, *rest = path.stem.rsplit("-", 2)
        if machine == platform.node() and len(rest) == 2 and rest[0].isdigit() and not _may_run(int(rest[0])):
            with suppress(OSError):
                path.unlink()


def _may_run(process: int) -> bool:
    """Whether a process with this number runs on this machine; True if the system does not tell."""
    if os.name == "nt":  # on Windows, signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
