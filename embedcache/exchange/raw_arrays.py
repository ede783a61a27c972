"""Arrays of a file from elsewhere, before it is known what they mean; read in blocks of rows, to save memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files.tables import column_form
from ..manifest import SYNONYMS
from ..text import examples

# Columns of numbers, by their letters and digits, that are known not to be numbers of a vector.
KNOWN_NUMBERS = frozenset(other for column, others in SYNONYMS.items() for other in (column_form(column), *others)) | {
    "y",
    "id",
    "index",
    "age",
    "seconds",
    "duration",
    "samplerate",
    "fold",
    "split",
    "intensity",
    "repetition",
}
IDS = frozenset({"id", "clipid", "path", *SYNONYMS["clip_id"], *SYNONYMS["path"]})  # without a plural s
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


def vector_columns(numbers: Sequence[str]) -> list[str]:
    """Return the columns that together hold the vectors, in order, given the names of all columns of numbers.

    They have one beginning and consecutive numbers from 0 or 1, such as `f0, f1, f2`. Returns nothing if there are no
    two such columns. Raises ValueError if other columns of numbers may be part of the vectors as well, which would be
    lost: a second group, such as `mfcc_0, mfcc_1, chroma_0, chroma_1`, a group with gaps, or a number alone, unless
    that has a name that is known here.
    """
    groups: dict[str, list[tuple[int, str]]] = {}
    for name in numbers:
        if match := SERIES.fullmatch(name):
            groups.setdefault(match[1], []).append((int(match[2]), name))
    several = {prefix: sorted(group) for prefix, group in groups.items() if len(group) > 1}
    if not several:
        return []
    chosen = [name for _, name in next(iter(several.values()))]
    numbered = [number for number, _ in next(iter(several.values()))]
    others = [name for name in numbers if name not in chosen and column_form(name) not in KNOWN_NUMBERS]
    if len(several) > 1 or others or numbered not in (list(range(len(chosen))), list(range(1, len(chosen) + 1))):
        raise ValueError(
            f"the columns {examples(chosen)} may be the vectors, but what of {examples(others or chosen[-1:])}? wanted "
            "the numbers of a vector as f0, f1, f2, … without a gap, and no other numbers. Rename all numbers of a "
            "vector so, and remove other columns of numbers"
        )
    return chosen


def has_ids(names: Iterable[str]) -> bool:
    """Whether one of the names is that of clip ids or paths."""
    forms = {column_form(name).removesuffix("s") for name in names}
    return not forms.isdisjoint(IDS)
