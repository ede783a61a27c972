"""Arrays of a file from elsewhere, before it is known what they mean; read in blocks of rows, to save memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SERIES = re.compile(r"(.*?)(\d+)")  # the name of a column that holds one number of each vector: `emb_17`

Blocks = Callable[[int], Iterator[NDArray[Any]]]  # number of rows in a block -> the blocks, in order


@dataclass(frozen=True)
class RawArray:
    """An array of a file. The first axis is that of the clips, if the array belongs to clips."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # numpy's name of the data type: "float32", "<U12", "object"
    blocks: Blocks

    @property
    def is_number(self) -> bool:
        """Whether the entries are integers or floats."""
        return np.dtype(self.dtype).kind in "fiu"

    @property
    def about(self) -> str:
        """The array for a message: `X float32 (1440, 768)`."""
        return f"'{self.name}' {self.dtype} {self.shape}"

    def values(self) -> list[Any]:
        """Return all entries of a column (n,) as Python objects."""
        return [value for block in self.blocks(max(1, *self.shape)) for value in block.tolist()]


@dataclass(frozen=True)
class RawFile:
    """The arrays of a file by name, and texts that belong to the whole file."""

    path: Path
    arrays: Mapping[str, RawArray]
    texts: Mapping[str, str]  # the file's own description, such as that of its encoder
    notes: tuple[str, ...] = ()


def in_memory(name: str, array: NDArray[Any]) -> RawArray:
    """Return an array that is in memory already."""
    return RawArray(name, array.shape, str(array.dtype), lambda step: sliced(array, step))


def sliced(array: NDArray[Any], step: int) -> Iterator[NDArray[Any]]:
    """Yield an array in blocks of `step` rows."""
    yield from (array[begin : begin + step] for begin in range(0, len(array), step))


def column_of(name: str, values: Sequence[Any]) -> RawArray:
    """Return a column of Python objects (n,)."""
    column = np.empty(len(values), object)
    column[:] = values
    return in_memory(name, column)


def longest_series(names: Sequence[str]) -> list[str]:
    """Return the columns that together hold the vectors, in order: those with one beginning and consecutive numbers.

    The numbers begin at 0 or 1: `id, f0, f1, f2, age` gives `f0, f1, f2`. Returns nothing if there are no two such
    columns.
    """
    series: dict[str, dict[int, str]] = {}
    for name in names:
        if match := SERIES.fullmatch(name):
            series.setdefault(match[1], {})[int(match[2])] = name
    whole = [found for found in series.values() if sorted(found) in _counted(len(found))]
    longest = max(whole, key=len, default={})
    return [longest[number] for number in sorted(longest)] if len(longest) > 1 else []


def _counted(length: int) -> tuple[list[int], list[int]]:
    return list(range(length)), list(range(1, length + 1))
