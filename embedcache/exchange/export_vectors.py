"""Export of vectors from a cache to NumPy's .npz or to Parquet, a block of clips at a time.

A file holds one dataset under one encoder: the columns of the manifest, with one entry a clip, and an array for each
view. In Parquet a view is a column of lists of numbers, and the metadata hold the shape of its rows. No pickle is
written or read.

If the encoder was fine-tuned, the file holds the list of its training data, too.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from ..cache.store import EmbeddingStore
from ..encoder import VIEWS, EncoderInfo, Log, Vectors, is_ragged, no_log
from ..errors import SerError, StoreError
from ..files.atomic import atomic_write
from ..files.existing import check_replaceable
from ..manifest import COLUMNS, Clip, Manifest
from ..progress import Advance, Progress, silent
from ..provenance import read_store_training_list
from ..text import install_hint
from .vector_file import open_vectors

BLOCK_BYTES = 32 << 20  # vectors that are held in memory at once
SUFFIXES = (".npz", ".parquet")
EXPORTABLE_VIEWS = (*VIEWS, "std")
TRAINED_ON = "trained_on"  # the array or metadata with the training list of a fine-tuned encoder, as JSON

Columns = dict[str, list[Any]]  # the columns of a manifest, one entry a clip


def export(
    store: EmbeddingStore,
    manifest: Manifest,
    path: str | Path,
    views: Sequence[str] = VIEWS,
    progress: Progress = silent,
) -> int:
    """Write the usable clips of a manifest and their vectors to a new .npz or .parquet; return the number of clips.

    Raises StoreError if a clip has no vector, the file exists or cannot be written, or pyarrow is not installed.
    """
    path, views = Path(path), tuple(dict.fromkeys(views))
    check_export(path, views)
    clips = manifest.usable
    trained_on = read_store_training_list(store.info, store.folder)
    write = _write_npz if path.suffix == ".npz" else _write_parquet
    with progress("exporting", total=len(clips) * len(views), unit="rows") as advance:
        blocks = {view: _read_blocks(store, [clip.key for clip in clips], view, advance) for view in views}
        write(path, store.info, clips, blocks, trained_on.to_json() if trained_on else "")
    return len(clips)


def check_export(path: Path, views: Sequence[str], log: Log = no_log) -> None:
    """Raise StoreError for a path or views that `export` cannot write, whatever is stored.

    A file that `export` wrote is replaced, of which `log` receives a line; any other file is refused.
    """
    if path.suffix not in SUFFIXES:
        raise StoreError(f"{path}: has the ending '{path.suffix}'; wanted {' or '.join(SUFFIXES)}.")
    check_replaceable(path, _is_export, log, StoreError, "name")
    if ragged := [view for view in views if is_ragged(view)]:
        raise StoreError(f"'{ragged[0]}' has rows of different lengths: read it from Python, with read_frames.")
    if not views or not set(views) <= set(EXPORTABLE_VIEWS):
        raise StoreError(f"got the views {', '.join(views) or '(none)'}; wanted some of {', '.join(EXPORTABLE_VIEWS)}.")


def _is_export(path: Path) -> bool:
    """Whether a file is one that `export` wrote: vectors that name their encoder."""
    try:
        return open_vectors(path).encoder is not None
    except SerError:
        return False


def _read_blocks(store: EmbeddingStore, keys: Sequence[str], view: str, advance: Advance) -> Iterator[Vectors]:
    """Yield the rows of a view in blocks; without keys, one empty block, from which the shape of a row can be read."""
    step = max(1, BLOCK_BYTES // (4 * store.info.dim * store.info.n_layers))
    for begin in range(0, max(len(keys), 1), step):
        block = store.read(keys[begin : begin + step], view)
        yield block
        advance(len(block))


def _columns(clips: Sequence[Clip]) -> Columns:
    """Return the columns of the manifest; `seconds` holds numbers, the others hold texts.

    An extra column with the name of an array that the file holds anyway is left out.
    """
    taken = {*COLUMNS, *EXPORTABLE_VIEWS, "encoder", TRAINED_ON}
    extras = sorted({name for clip in clips for name in clip.extra} - taken)
    columns: Columns = {name: [getattr(clip, name) for clip in clips] for name in COLUMNS}
    return columns | {name: [clip.extra.get(name, "") for clip in clips] for name in extras}


def _write_npz(
    path: Path, info: EncoderInfo, clips: Sequence[Clip], views: Mapping[str, Iterator[Vectors]], trained_on: str
) -> None:
    arrays = {"encoder": np.array(info.to_json())}
    arrays |= {name: np.array(column) for name, column in _columns(clips).items()}
    if trained_on:
        arrays[TRAINED_ON] = np.frombuffer(trained_on.encode(), np.uint8)
    with atomic_write(path, "wb", StoreError) as file, zipfile.ZipFile(file, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                npy.write_array(member, values, allow_pickle=False)
        for view, blocks in views.items():
            with archive.open(f"{view}.npy", "w", force_zip64=True) as member:
                _write_npy(member, blocks, len(clips))


def _write_npy(file: IO[bytes], blocks: Iterator[Vectors], n_rows: int) -> None:
    """Write blocks of rows as one .npy array of `n_rows` rows."""
    first = next(blocks)
    header = npy.header_data_from_array_1_0(first) | {"shape": (n_rows, *first.shape[1:])}
    npy.write_array_header_1_0(file, header)
    file.write(first.tobytes())
    for block in blocks:
        file.write(block.tobytes())


def _write_parquet(
    path: Path, info: EncoderInfo, clips: Sequence[Clip], views: Mapping[str, Iterator[Vectors]], trained_on: str
) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise StoreError(
            f"Parquet needs pyarrow. Install it with `{install_hint('parquet')}`, or export to .npz."
        ) from error

    columns = pa.table(_columns(clips))
    begin, writer = 0, None
    with atomic_write(path, "wb", StoreError) as file:
        for parts in zip(*views.values(), strict=True):  # a block of each view, of the same clips
            block = dict(zip(views, parts, strict=True))
            table = _with_views(columns.slice(begin, len(parts[0])), block)
            table = table.replace_schema_metadata(_metadata(info, block, trained_on))
            writer = writer or pq.ParquetWriter(file, table.schema)
            writer.write_table(table)
            begin += len(table)
        if writer:
            writer.close()


def _with_views(table: Any, block: Mapping[str, Vectors]) -> Any:
    """Return a table with a column of lists for each view."""
    import pyarrow as pa

    for view, rows in block.items():
        width = int(np.prod(rows.shape[1:]))
        table = table.append_column(view, pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), width))
    return table


def _metadata(info: EncoderInfo, block: Mapping[str, Vectors], trained_on: str) -> dict[str, str]:
    shapes = {view: list(rows.shape[1:]) for view, rows in block.items()}
    metadata = {"encoder": info.to_json(), "shapes": json.dumps(shapes)}
    return metadata | ({TRAINED_ON: trained_on} if trained_on else {})
