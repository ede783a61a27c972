"""Parquet files from elsewhere: columns of lists, or of one number each, become arrays of vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StoreError
from ..text import install_hint
from .raw_arrays import RawArray, RawFile, column_of, in_memory, longest_series

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

    table = pq.read_table(path)
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    shapes = json.loads(metadata.get("shapes", "{}"))
    series = longest_series([name for name in table.column_names if _is_number(table.schema.field(name).type)])
    arrays = {
        name: _array(name, table.column(name), shapes.get(name)) for name in table.column_names if name not in series
    }
    if INDEX in arrays:
        index = arrays.pop(INDEX)
        arrays.setdefault("clip_id", RawArray("clip_id", index.shape, index.dtype, index.blocks))
    if series:
        arrays["pooled"] = in_memory("pooled", np.stack([table.column(name).to_numpy() for name in series], axis=1))
    return RawFile(path, arrays, metadata)


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _array(name: str, column: Any, shape: list[int] | None) -> RawArray:
    """Return a column of lists as (n, length), or as (n, *shape); a column of single values as (n,)."""
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
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
