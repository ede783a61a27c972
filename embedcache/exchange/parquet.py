"""Parquet files from elsewhere: columns of lists, or of one number each, become arrays of vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StoreError
from ..text import install_hint
from .raw_arrays import RawArray, RawFile, column_of, has_ids, in_memory, vector_columns

MAX_BYTES = 16 << 30  # largest file in memory
INDEX = "__index_level_0__"  # the column in which pandas writes the index of a table


def read_parquet(path: Path) -> RawFile:
    """Return the columns of a Parquet file as arrays.

    Columns of numbers with one name and consecutive numbers, such as `f0, f1, f2`, are one array, `pooled`. Raises
    StoreError if pyarrow is not installed, ValueError or an error of pyarrow if the file is malformed.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise StoreError(f"Parquet needs pyarrow. Install it with `{install_hint('parquet')}`.") from error

    if (size := _bytes_in_memory(pq.ParquetFile(path).metadata)) > MAX_BYTES:
        raise ValueError(f"it holds {size:,} bytes; wanted at most {MAX_BYTES:,}")
    table = pq.read_table(path)
    found = (table.schema.metadata or {}).items()
    metadata = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in found}
    shapes = _shapes(metadata)
    lists = any(_is_list(table.schema.field(name).type) for name in table.column_names)
    numbers = [name for name in table.column_names if _is_number(table.schema.field(name).type)]
    series = [] if lists else vector_columns(numbers)
    arrays = {
        name: _array(name, table.column(name), shapes.get(name)) for name in table.column_names if name not in series
    }
    index = arrays.pop(INDEX, None)
    if index and not _is_number(table.schema.field(INDEX).type) and not has_ids(arrays):
        arrays["clip_id"] = RawArray("clip_id", index.shape, index.dtype, index.blocks)
    if series:
        arrays["pooled"] = in_memory("pooled", np.stack([table.column(name).to_numpy() for name in series], axis=1))
    return RawFile(path, arrays, metadata)


def _bytes_in_memory(metadata: Any) -> int:
    return sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))


def _shapes(metadata: dict[str, str]) -> dict[str, list[int]]:
    """Return the shapes of rows that `ser cache export` writes; none for a file of another program."""
    try:
        shapes = json.loads(metadata["shapes"]) if "encoder" in metadata else {}
    except (KeyError, ValueError):
        return {}
    return shapes if isinstance(shapes, dict) else {}


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _array(name: str, column: Any, shape: list[int] | None) -> RawArray:
    """Return a column of lists as (n, length), or as (n, *shape); a column of single values as (n,)."""
    if not _is_list(column.type):
        return column_of(name, column.to_pylist())
    flat = np.concatenate([np.empty(0, np.float32), *(_numbers(name, chunk) for chunk in column.chunks)])
    array = flat.reshape(len(column), -1) if len(column) else np.empty((0, 0), np.float32)
    return in_memory(name, array.reshape(len(array), *shape) if shape else array)


def _numbers(name: str, chunk: Any) -> Any:
    """Return the numbers of all lists of a chunk, one after the other. Raises ValueError if their lengths differ."""
    import pyarrow.compute as pc

    if chunk.null_count:
        raise ValueError(f"'{name}' has {chunk.null_count} rows without a vector")
    if len(pc.list_value_length(chunk).unique()) > 1:
        raise ValueError(f"'{name}' has vectors of several lengths")
    return chunk.flatten().to_numpy(zero_copy_only=False)
