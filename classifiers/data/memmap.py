"""Vectors that are larger than memory: rows of a float32 matrix in a file, read a block at a time, and the file itself.

A `MappedRows` stands where an array of vectors would: folds and views of it are row and column numbers, and nothing is
read until `np.asarray` or `blocks` asks. Heads that stream never hold more than a block of it, others hold it all.

The file is scratch: it lies below the output folder, goes with the last object on it or with the process, and what a
killed process left goes when the next file is made. Its name says whose it is: `<machine>-<process>-<uuid>.f32`.
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

# Bytes that are handled at once: much against the cost of a call, and in the processor's cache where scikit-learn makes
# float64 copies of it: it is faster on 4 MB ten times than on 40 MB.
BLOCK = 2**22

# Rows that one map is read for. Its pages count as the process's memory until it is closed, and a row can bring a whole
# folio of the page cache along, 2 MB: 1,000 rows in random order had 0.9 GB resident (ext4, Linux 6.18), 32 have 64 MB.
ROWS_A_MAP = 32


class ScratchFile:
    """A name for a file that is removed when this object goes, and at the latest when its process ends."""

    def __init__(self, folder: Path) -> None:
        name = f"{platform.node()}-{os.getpid()}-{uuid.uuid4().hex}{SUFFIX}"
        self.path = folder.resolve() / name  # workers may stand in another folder
        self.remove = weakref.finalize(self, _remove, self.path, os.getpid())


# Bytes of X that are held in memory. A comparison in two processes holds it six times over: as the task, as the copy
# that both read, and in each its training rows and those scaled. With the libraries that is a machine of 8 GB.
IN_MEMORY = 2**30


def is_large(nbytes: int) -> bool:
    """Whether so many bytes of X stay in a file."""
    return nbytes > IN_MEMORY


@dataclass(frozen=True, eq=False)
class MappedRows:
    """Some rows and columns of a float32 matrix in a file, in the place of an array (n, d).

    `X[rows]`, with a slice, row numbers or a mask, and `X[:, a:b]` are further MappedRows, and read nothing;
    `np.asarray(X)` reads all of it. Pickled it is a path and row numbers: another process opens the file for itself,
    and has it for as long as the process that wrote it keeps it.

    Every reading opens a map and closes it after `ROWS_A_MAP` rows, which gives its pages back. While the page cache
    holds the file, a row costs some microseconds in any order; beyond, a row out of order is a read of the disk.
    """

    path: Path
    width: int  # columns of the file
    rows: Indices  # of the file, in order
    columns: range  # of the file
    file: ScratchFile | None = None  # what keeps the file; None where it is not ours to remove

    @classmethod
    def of(cls, path: str | Path, width: int) -> MappedRows:
        """All rows of a file that is nothing but float32 in rows of `width`."""
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
        """Bytes that these rows take in memory."""
        return 4 * len(self.rows) * len(self.columns)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> MappedRows:
        """Fewer rows, or rows in another order, and of `X[:, a:b]` fewer columns; nothing is read."""
        rows, columns = key if isinstance(key, tuple) else (key, ...)
        chosen = self.rows[rows]
        kept = self.columns if columns is ... else self.columns[columns]
        if np.ndim(chosen) != 1 or not isinstance(kept, range) or kept.step != 1:
            raise TypeError(f"got the index {key!r}; wanted rows by slice, numbers or mask, and columns as a:b.")
        return replace(self, rows=chosen, columns=kept)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it, read; numpy calls this. Raises DataError where the file is gone."""
        if copy is False:
            raise ValueError("rows of a file cannot become an array without a copy.")
        X = np.empty(self.shape, dtype or np.float32)
        columns = slice(self.columns.start, self.columns.stop)
        for start in range(0, len(self), ROWS_A_MAP):
            part = slice(start, start + ROWS_A_MAP)
            X[part] = self._map()[self.rows[part], columns]
        return X

    def _map(self) -> Floats:
        """A map of the file; it is closed when nothing refers to it."""
        try:
            return np.memmap(str(self.path), np.float32, "r").reshape(-1, self.width)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {self.path}: {error}. Load the task again: that writes it anew.") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedRows, (self.path, self.width, self.rows, self.columns)


Matrix: TypeAlias = Floats | MappedRows


def blocks(X: Matrix, rows: Indices | None = None) -> Iterator[Floats]:
    """X (n, d), or some rows of it, in order, as arrays of `BLOCK` bytes; one, which may be empty, at the least.

    An array is cut like a file, so that what is added up over the blocks is the same number for both.
    """
    count = len(X) if rows is None else len(rows)
    step = max(1, BLOCK // (4 * X.shape[1] or 1))
    for start in range(0, count or 1, step):
        part = slice(start, start + step)
        yield np.asarray(X[part if rows is None else rows[part]])


def stack(a: Matrix, b: Matrix) -> Matrix:
    """The rows of a, then those of b: both arrays, or both rows of one file."""
    if isinstance(a, MappedRows) and isinstance(b, MappedRows) and a.path == b.path:
        return replace(a, rows=np.concatenate([a.rows, b.rows]))
    return np.concatenate([np.asarray(a), np.asarray(b)])


def write_rows(folder: Path, shape: tuple[int, int], made: Iterable[Floats]) -> MappedRows:
    """Write the matrix (n, d) that the blocks `made` are the rows of into a scratch file in `folder`.

    Raises DataError where the folder cannot be written or has no room for all of it, before the first block is made;
    ValueError where the blocks do not come to n rows.
    """
    _remove_leftovers(folder)
    file, (n, width) = ScratchFile(folder), shape
    try:
        _fill(file.path, 4 * n * width, made)
    except BaseException:
        file.remove()  # at once: a traceback may hold this frame for long
        raise
    return replace(MappedRows.of(file.path, width), file=file)


def _fill(path: Path, size: int, made: Iterable[Floats]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            _reserve(file.fileno(), size)
            for block in made:
                file.write(np.ascontiguousarray(block, np.float32).data)
            if file.tell() != size:
                raise ValueError(f"got {file.tell() // 4} numbers, wanted {size // 4}.")
    except OSError as error:
        raise DataError(
            f"cannot write {size / 1e9:.1f} GB of vectors, which are too many for memory, to {path.parent}: "
            f"{error.strerror or error}. Make room, or choose another --artifacts."
        ) from error


def _reserve(file: int, size: int) -> None:
    """Make a disk that is too small say so now; where nothing can be reserved, writing will tell."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # a fork of the process that wrote it leaves it alone
        with suppress(OSError):
            path.unlink()


def _remove_leftovers(folder: Path) -> None:
    """Remove the files of this machine's processes that are no more."""
    for path in folder.glob(f"*{SUFFIX}"):
        machine, *rest = path.stem.rsplit("-", 2)
        if machine == platform.node() and len(rest) == 2 and rest[0].isdigit() and not _runs(int(rest[0])):
            with suppress(OSError):
                path.unlink()


def _runs(process: int) -> bool:
    """Whether a process of that number runs here; where the system cannot be asked, it may."""
    if os.name == "nt":  # there, signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
