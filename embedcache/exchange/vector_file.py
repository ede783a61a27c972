"""Files of vectors from elsewhere: .npz, .npy with a table beside it, Parquet and CSV.

A file holds vectors, one row a clip, as `pooled` (n, dim), `layers` (n, n_layers, dim) or both, and may hold columns:
clip ids, labels, speakers and whatever else is known of the clips. Arrays and columns may have the names that other
programs give them, such as `X`, `y` and `actors`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..cache.shard import MAX_ROW_NUMBERS
from ..encoder import VIEWS, EncoderInfo, Vectors
from ..errors import SerError, StoreError
from ..files.tables import MISSING, column_form, read_table
from ..files.untrusted import check_file
from ..manifest import SYNONYMS
from ..text import examples
from . import SUFFIXES, is_vector_file
from .csv_vectors import read_csv_vectors
from .npz import read_npy, read_npz
from .parquet import read_parquet
from .raw_arrays import RawArray, RawFile, column_of

READERS: Mapping[str, Callable[[Path], RawFile]] = dict(
    zip(SUFFIXES, (read_npz, read_npy, read_parquet, read_parquet, read_csv_vectors, read_csv_vectors), strict=True)
)
TABLES = (".csv", ".tsv")  # endings of the table beside an .npy
# Further names of arrays in files of vectors, by their letters and digits; a plural `s` does not count.
VECTORS = {
    "pooled": ("x", "embedding", "vector", "feature", "feat", "emb"),
    "layers": ("hiddenstate", "layerembedding"),
}
COLUMNS = {
    **SYNONYMS,
    "clip_id": (*SYNONYMS["clip_id"], "id"),
    "label": (*SYNONYMS["label"], "y"),
}
IGNORED = ("dataset", "key", "seconds", "skipped", "std")  # what `ser cache export` writes besides
MAX_CHARACTERS = 4096  # longest text in a column that is imported


@dataclass(frozen=True)
class VectorFile:
    """An opened file of vectors. The vectors are read in blocks, the columns are in memory."""

    path: Path
    n_clips: int
    n_layers: int
    dim: int
    arrays: Mapping[str, RawArray]  # `pooled` (n, dim), `layers` (n, n_layers, dim) or both
    columns: Mapping[str, tuple[str, ...]]  # texts (n,) by name; a missing value is ""
    encoder: EncoderInfo | None  # the encoder, if `ser cache export` wrote the file
    trained_on: str  # the training list of a fine-tuned encoder, as JSON; "" if the file has none
    notes: tuple[str, ...]  # what was assumed, a sentence each

    @property
    def ids(self) -> tuple[str, ...] | None:
        """The clip ids, or the paths of the clips; None if the file has neither."""
        return self.columns.get("clip_id") or self.columns.get("path")

    def blocks(self, step: int) -> Iterator[dict[str, Vectors]]:
        """Yield `pooled` and `layers` of `step` clips at a time, as float32.

        If the file has only `pooled`, it is the single layer; if it has only `layers`, the last layer is `pooled`.
        Raises StoreError if `pooled` is not the last layer, or if the file ends too early.
        """
        with converted_errors(self.path), np.errstate(over="ignore"):  # infinity is reported where it is checked
            for parts in zip(*(array.blocks(step) for array in self.arrays.values()), strict=True):
                floats = [part.astype(np.float32) for part in parts]
                yield _both_views(self.path, dict(zip(self.arrays, floats, strict=True)))


def open_vectors(path: str | Path, table: str | Path | None = None) -> VectorFile:
    """Open a file of vectors; `table` is a table with one row for each vector, in the order of the vectors.

    An .npy takes the table of its own name, such as `x.csv` for `x.npy`, if no other is given. Raises StoreError if the
    file cannot be read or does not hold vectors, DataError if the table cannot be read.
    """
    path = Path(path)
    if not is_vector_file(path):
        raise StoreError(
            f"{path}: has the ending '{path.suffix}'; wanted {', '.join(SUFFIXES)}. Save it as one of these."
        )
    check_file(path, sys.maxsize, StoreError)
    beside = Path(table) if table else _table_beside(path)
    with converted_errors(path):
        raw = READERS[path.suffix.lower()](path)
        raw = raw if beside is None else _with_table(raw, beside)
        return _interpret(raw)


@contextmanager
def converted_errors(path: Path) -> Iterator[None]:
    """Convert every error that the contents of a file cause to a StoreError."""
    try:
        yield
    except SerError:
        raise
    except (
        Exception
    ) as error:  # for a malformed file, zipfile, its decompressors, numpy and pyarrow raise any exception
        raise StoreError(
            f"{path}: cannot be read as vectors ({error}). Wanted pooled (n, dim), or layers (n, n_layers, dim), with "
            "clip_id (n,), or label (n,) and speaker (n,)."
        ) from error


def _table_beside(path: Path) -> Path | None:
    tables = [path.with_suffix(suffix) for suffix in TABLES] if path.suffix.lower() == ".npy" else []
    return next((table for table in tables if table.is_file()), None)


def _with_table(raw: RawFile, path: Path) -> RawFile:
    """Return the file with the columns of a table. Raises StoreError if they have names that the file has, too."""
    table = read_table(path, SYNONYMS, ())
    names = list(table.rows[0].cells) if table.rows else []
    if both := [name for name in names if name in raw.arrays]:
        raise StoreError(f"{path} and {raw.path} both have {examples(both)}; wanted each in one of them. Remove one.")
    columns = {name: column_of(name, [row.cells[name] for row in table.rows]) for name in names}
    return replace(raw, arrays={**raw.arrays, **columns}, notes=(*raw.notes, *table.notes))


def _interpret(raw: RawFile) -> VectorFile:
    """Return the file with its arrays under their names here. Raises ValueError if they are no vectors of clips."""
    known = {column: _find(raw, column, others) for column, others in {**VECTORS, **COLUMNS}.items()}
    used = {column: raw.arrays[name] for column, name in known.items() if name}
    arrays = {view: used[view] for view in VIEWS if view in used}
    n_clips, n_layers, dim = _dimensions(arrays, raw)
    columns = {name: array for name, array in used.items() if name not in VIEWS}
    others = [array for name, array in raw.arrays.items() if name not in known.values() and name not in IGNORED]
    columns |= {array.name: array for array in others if array.shape == (n_clips,)}
    unused = [array.about for array in others if array.shape != (n_clips,)]
    notes = [f"{raw.path}: reads {', '.join(renamed)}."] if (renamed := _renamed(known)) else []
    notes += [f"{raw.path}: {examples(unused)} has not one row for each clip, and is not used."] if unused else []
    return VectorFile(
        path=raw.path,
        n_clips=n_clips,
        n_layers=n_layers,
        dim=dim,
        arrays=arrays,
        columns={name: _texts(array, n_clips) for name, array in columns.items()},
        encoder=_encoder(raw.texts.get("encoder", "")),
        trained_on=raw.texts.get("trained_on", ""),
        notes=(*raw.notes, *notes),
    )


def _find(raw: RawFile, name: str, others: Sequence[str]) -> str:
    """Return the name that a file gives an array; "" if there is none. Raises ValueError if several may be meant."""
    if name in raw.arrays:
        return name
    forms = {_singular(other) for other in (name, *others)}
    found = [given for given in raw.arrays if _singular(given) in forms and given not in IGNORED]
    if len(found) > 1:
        raise ValueError(f"{' and '.join(found)} may be {name}; give the name '{name}' to the one that is meant")
    return found[0] if found else ""


def _singular(name: str) -> str:
    return column_form(name).removesuffix("s")


def _renamed(known: Mapping[str, str]) -> list[str]:
    return [
        f"'{name}' as {column}" for column, name in known.items() if name and column_form(name) != column_form(column)
    ]


def _dimensions(arrays: Mapping[str, RawArray], raw: RawFile) -> tuple[int, int, int]:
    """Return the number of clips, layers and dimensions. Raises ValueError if the arrays do not fit each other."""
    if not arrays:
        raise ValueError(f"no vectors; has {examples([a.about for a in raw.arrays.values()], 6) or 'nothing'}")
    for view, array in arrays.items():
        n_axes = 2 if view == "pooled" else 3
        if not array.is_number or len(array.shape) != n_axes:
            axes = "(clips, dim)" if view == "pooled" else "(clips, layers, dim)"
            raise ValueError(f"{array.about}: wanted numbers {axes}, under the name {view}")
    n_clips = {array.shape[0] for array in arrays.values()}
    dims = {array.shape[-1] for array in arrays.values()}
    n_layers = arrays["layers"].shape[1] if "layers" in arrays else 1
    if len(n_clips) > 1 or len(dims) > 1 or not 0 < max(dims) * n_layers <= MAX_ROW_NUMBERS:
        raise ValueError(f"the vectors do not fit each other: {', '.join(array.about for array in arrays.values())}")
    if not max(n_clips):
        raise ValueError("it lists no clips")
    return n_clips.pop(), n_layers, dims.pop()


def _texts(array: RawArray, n_clips: int) -> tuple[str, ...]:
    """Return a column as texts, "" for a missing value. Raises ValueError if it has not one short text a clip."""
    if array.shape != (n_clips,):
        raise ValueError(f"{array.about}: wanted one entry a clip, ({n_clips},)")
    if np.dtype(array.dtype).itemsize > 4 * MAX_CHARACTERS:
        raise ValueError(f"{array.about}: wanted texts of at most {MAX_CHARACTERS} characters")
    texts = tuple(_text(value) for value in array.values())
    if (longest := max(map(len, texts))) > MAX_CHARACTERS:
        raise ValueError(f"'{array.name}' has a text of {longest:,} characters; wanted at most {MAX_CHARACTERS}")
    return texts


def _text(value: Any) -> str:
    """Return an entry of a column as text: 1.0, as pandas writes numbers beside missing ones, is 1; NaN is missing."""
    if isinstance(value, bytes):
        value = value.decode()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    text.encode()  # raises UnicodeEncodeError, a ValueError, for what a file name that is not UTF-8 became
    return "" if text in MISSING else text


def _encoder(text: str) -> EncoderInfo | None:
    try:
        return EncoderInfo.from_json(text) if text else None
    except (ValueError, TypeError):  # another program has a text of its own that it calls `encoder`
        return None


def infinite_rows(vectors: Vectors) -> list[int]:
    """Return the rows of vectors (n, …) that hold NaN or infinity."""
    finite = np.isfinite(vectors).reshape(len(vectors), -1).all(axis=1)
    return [int(row) for row in np.flatnonzero(~finite)]


def _both_views(path: Path, values: Mapping[str, Vectors]) -> dict[str, Vectors]:
    """Return `pooled` and `layers`; `values` may hold only one of them. Raises StoreError if they differ."""
    layers = values["layers"] if "layers" in values else values["pooled"][:, None]
    pooled = values.get("pooled", layers[:, -1])
    if not np.allclose(pooled, layers[:, -1], rtol=1e-3, atol=1e-5, equal_nan=True):
        raise StoreError(f"{path}: 'pooled' is not the last layer of 'layers'. Leave one of them out.")
    return {"pooled": np.ascontiguousarray(layers[:, -1]), "layers": layers}
