"""Export of vectors from a cache to NumPy's .npz or to Parquet, and import of .npz files, a block of clips at a time.

A file holds one dataset under one encoder: the columns of the manifest, with one entry a clip, and an array for each
view. In Parquet a view is a column of lists of numbers, and the metadata hold the shape of its rows. No pickle is
written or read.

Imported vectors get a fingerprint of their own, so that they are never mixed with vectors that `ser extract` made. If
the encoder was fine-tuned, the file holds the list of its training data, too, so that the leak check has the list where
the file is imported.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ..encoder import VIEWS, EncoderInfo, Vectors, is_ragged
from ..errors import SerError, StoreError, complain
from ..files.atomic import atomic_write
from ..files.untrusted import check_file
from ..manifest import COLUMNS, Clip, Manifest
from ..progress import Advance, Progress, silent
from ..provenance import TrainedOn, parse_training_list, read_store_training_list, write_training_list
from ..text import install_hint
from .shard import MAX_ROW_NUMBERS
from .store import EmbeddingStore, find_stores, slug

BLOCK_BYTES = 32 << 20  # vectors that are held in memory at once
SUFFIXES = (".npz", ".parquet")
EXPORTABLE_VIEWS = (*VIEWS, "std")
ID_ARRAYS = ("clip_id", "ids")  # the names under which an imported file may list its clip ids
MAX_ID_CHARACTERS = 4096  # longest clip id that is imported
MAX_TEXT_BYTES = 1 << 28  # largest text that is imported
TRAINED_ON = "trained_on"  # the array or metadata with the training list of a fine-tuned encoder, as JSON
COMPARED = 64  # clips whose vectors are compared with those of fine-tuned encoders in the cache
SAME = 1e-4  # largest difference of equal vectors, which may have been rounded
IMPORT_RECIPE = 1  # recipe version of imported vectors; part of their fingerprint

Columns = dict[str, list[Any]]  # the columns of a manifest, one entry a clip


@dataclass(frozen=True)
class ImportResult:
    """The result of an import."""

    clips: int  # clips in the file
    cached: int  # clips of the file that were stored before, with the same vectors
    store: EmbeddingStore


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


def check_export(path: Path, views: Sequence[str]) -> None:
    """Raise StoreError for a path or views that `export` cannot write, whatever is stored."""
    if path.suffix not in SUFFIXES:
        raise StoreError(f"{path}: has the ending '{path.suffix}'; wanted {' or '.join(SUFFIXES)}.")
    if path.exists():
        raise StoreError(f"{path} exists already. Choose another name, or remove it.")
    if ragged := [view for view in views if is_ragged(view)]:
        raise StoreError(f"'{ragged[0]}' has rows of different lengths: read it from Python, with read_frames.")
    if not views or not set(views) <= set(EXPORTABLE_VIEWS):
        raise StoreError(f"got the views {', '.join(views) or '(none)'}; wanted some of {', '.join(EXPORTABLE_VIEWS)}.")


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


def import_npz(
    path: str | Path, cache: str | Path, name: str, manifest: Manifest, progress: Progress = silent
) -> ImportResult:
    """Store the vectors of an .npz under the encoder name `name`, for the clips of a keyed manifest.

    The file holds `clip_id` (or `ids`) (n,) and `pooled` (n, dim), `layers` (n, n_layers, dim) or both. If there is
    only `pooled`, it becomes the single layer; if there is only `layers`, its last layer becomes `pooled`. A file that
    `ser cache export` wrote for a fine-tuned encoder also holds the list of its training data, which is stored, too.

    So is the list of a fine-tuned encoder in the cache that gives the same vectors, whatever its name.

    Raises StoreError if that list is lost, if an id is not in the manifest, if a vector is not finite, and if a clip
    has other vectors under this name already.
    """
    path = Path(path)
    check_file(path, sys.maxsize, StoreError)
    if not slug(name):
        raise StoreError(f"got the encoder name '{name}'; wanted a name with letters or digits.")
    with _open_npz(path) as archive, np.errstate(over="ignore"):  # `_check_finite` reports an overflow
        arrays = {view: array for view in VIEWS if (array := archive.array(view))}
        ids = archive.ids(len(manifest))
        keys = _keys_of(ids, manifest, path)
        _dimensions(arrays, len(ids))
        trained_on = archive.trained_on(path) or _training_of_equal_vectors(path, keys, cache)
        info = _imported_encoder(name, arrays, len(ids), trained_on.sha256 if trained_on else "")
        store = EmbeddingStore.of(cache, info)
        if trained_on:
            write_training_list(trained_on, store.folder)
        cached = _import_blocks(path, arrays, keys, store, progress)
    return ImportResult(len(ids), cached, store)


def _training_of_equal_vectors(path: Path, keys: Sequence[str], cache: str | Path) -> TrainedOn | None:
    """Return the training list of the fine-tuned encoder in the cache that gives the vectors of the file; or None."""
    with _open_npz(path) as archive:
        arrays = {view: array for view in VIEWS if (array := archive.array(view))}
        first = {view: array.read_rows(min(COMPARED, len(keys))) for view, array in arrays.items()}
    for store in find_stores(cache):
        if store.info.trained_on and any(_equal_in(store, view, keys, rows) for view, rows in first.items()):
            return read_store_training_list(store.info, store.folder)
    return None


def _equal_in(store: EmbeddingStore, view: str, keys: Sequence[str], rows: NDArray[Any]) -> bool:
    """Whether a store has some of the keys (the first n of them), with the vectors `rows` (n, …) of the view."""
    missing = set(store.missing(list(keys[: len(rows)]), [view]))
    places = [place for place, key in enumerate(keys[: len(rows)]) if key not in missing]
    if not places:
        return False
    stored = store.rows([keys[place] for place in places], view)
    found = rows[places]
    return isinstance(stored, np.ndarray) and stored.shape == found.shape and np.allclose(stored, found, atol=SAME)


@dataclass(frozen=True)
class _NpyArray:
    """One array of an .npz, which is read from the beginning to the end."""

    name: str
    file: IO[bytes]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read_rows(self, count: int) -> NDArray[Any]:
        """Return the next `count` rows. Raises ValueError if the file ends before."""
        shape = (count, *self.shape[1:])
        wanted = int(np.prod(shape)) * self.dtype.itemsize
        data = self.file.read(wanted)
        if len(data) != wanted:
            raise ValueError(f"'{self.name}' ends after {len(data)} of {wanted} bytes")
        return np.frombuffer(data, self.dtype).reshape(shape)


@dataclass(frozen=True)
class _UntrustedNpz:
    """An .npz from elsewhere: no pickle is loaded, and no array may declare more than its bytes in the file."""

    zip: zipfile.ZipFile

    def array(self, name: str) -> _NpyArray | None:
        """Open an array; None if the file has no array of that name. Raises ValueError if it is not a plain array."""
        if f"{name}.npy" not in self.zip.namelist():
            return None
        size = self.zip.getinfo(f"{name}.npy").file_size
        file = self.zip.open(f"{name}.npy")
        if npy.read_magic(file) != (1, 0):  # headers of later versions may have 4 GB
            raise ValueError(f"'{name}' has an .npy header of another version; wanted version 1.0")
        shape, fortran, dtype = npy.read_array_header_1_0(file)
        if dtype.hasobject or fortran:
            raise ValueError(f"'{name}' holds objects or is in Fortran order; save np.ascontiguousarray(array) instead")
        if not all(type(length) is int and length >= 0 for length in shape):
            raise ValueError(f"'{name}' declares the shape {shape}")
        if int(np.prod(shape, dtype=object)) * dtype.itemsize > size:
            raise ValueError(f"'{name}' declares the shape {shape}, but has {size} bytes")
        return _NpyArray(name, file, shape, dtype)

    def text(self, name: str) -> str:
        """Return an array of one string, or of the bytes of one, as text; "" if the file has no such array."""
        array = self.array(name)
        if array is None:
            return ""
        size = int(np.prod(array.shape)) * array.dtype.itemsize
        if size > MAX_TEXT_BYTES or array.dtype.kind not in "Uu":
            raise ValueError(f"'{name}' is {array.dtype} {array.shape}; wanted a text")
        data = np.frombuffer(array.file.read(size), array.dtype)
        return data.tobytes().decode() if array.dtype.kind == "u" else str(data[0])

    def trained_on(self, path: Path) -> TrainedOn | None:
        """Return the training list if the file's encoder was fine-tuned. Raises StoreError if the list is lost."""
        text = self.text("encoder")
        try:
            sha256 = EncoderInfo.from_json(text).trained_on if text else ""
        except (ValueError, TypeError):  # another program has an array of its own that it calls `encoder`
            sha256 = ""
        return parse_training_list(self.text(TRAINED_ON), sha256, path) if sha256 else None

    def ids(self, most: int) -> list[str]:
        """Return the clip ids. Raises ValueError if the file lists no clips, or more than `most`."""
        array = next((found for name in ID_ARRAYS if (found := self.array(name))), None)
        if array is None:
            raise ValueError(f"no array {' or '.join(ID_ARRAYS)}; has {', '.join(self.zip.namelist()) or 'nothing'}")
        if len(array.shape) != 1:
            raise ValueError(f"'{array.name}' has the shape {array.shape}; wanted one id a clip, (n,)")
        if array.shape[0] > most:
            raise ValueError(f"it lists {array.shape[0]} clips, but the manifest has {most}")
        if array.dtype.itemsize > 4 * MAX_ID_CHARACTERS:
            raise ValueError(
                f"its ids are up to {array.dtype.itemsize // 4} characters long; wanted at most {MAX_ID_CHARACTERS}"
            )
        if not array.shape[0]:
            raise ValueError("it lists no clips")
        values = array.read_rows(array.shape[0]).tolist()
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


@contextmanager
def _open_npz(path: Path) -> Iterator[_UntrustedNpz]:
    """Open an .npz; any error that its contents cause becomes a StoreError."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield _UntrustedNpz(archive)
    except SerError:
        raise
    except Exception as error:  # for a malformed file, zipfile, its decompressors and numpy raise any exception
        raise StoreError(
            f"{path}: cannot be imported ({error}). Wanted a file as np.savez writes it, with the arrays clip_id (n,) "
            "and pooled (n, dim) or layers (n, n_layers, dim)."
        ) from error


def _imported_encoder(name: str, arrays: Mapping[str, _NpyArray], n_clips: int, trained_on: str) -> EncoderInfo:
    """Return the encoder that imported arrays are stored under; `trained_on` is the SHA-256 of its training list."""
    n_layers, dim = _dimensions(arrays, n_clips)
    return EncoderInfo(
        name=name,
        checkpoint="",
        weights_sha256="",
        sample_rate=0,
        n_layers=n_layers,
        dim=dim,
        precision="fp32",
        preprocessing=f"imported as {name}" + (f", trained on {trained_on}" if trained_on else ""),
        recipe_version=IMPORT_RECIPE,
        trained_on=trained_on,
    )


def _dimensions(arrays: Mapping[str, _NpyArray], n_clips: int) -> tuple[int, int]:
    """Return the number of layers and of dimensions. Raises ValueError if the arrays do not fit each other."""
    if not arrays:
        raise ValueError("neither 'pooled' nor 'layers' is in it")
    for view, array in arrays.items():
        n_axes = 2 if view == "pooled" else 3
        if array.dtype.kind != "f" or len(array.shape) != n_axes or array.shape[0] != n_clips:
            raise ValueError(f"'{view}' is {array.dtype} {array.shape}, but there are {n_clips} ids")
    dims = {array.shape[-1] for array in arrays.values()}
    n_layers = arrays["layers"].shape[1] if "layers" in arrays else 1
    if len(dims) > 1 or not 0 < max(dims) * n_layers <= MAX_ROW_NUMBERS:
        raise ValueError(f"it has vectors of {n_layers} layers and {' or '.join(map(str, dims))} numbers")
    return n_layers, dims.pop()


def _keys_of(ids: Sequence[str], manifest: Manifest, path: Path) -> list[str]:
    """Return the content key of each clip id. Raises StoreError for ids that are unknown or listed twice."""
    keys = {clip.clip_id: clip.key for clip in manifest.usable}
    if unknown := [f"{clip_id}: no usable clip of {manifest.dataset}" for clip_id in ids if clip_id not in keys]:
        advice = f"Rename them as the manifest does (such as {next(iter(keys), 'none')}), or leave them out."
        raise StoreError(*complain(f"{path}: {len(unknown)} of {len(ids)} ids are unknown", unknown, advice))
    if len(set(ids)) < len(ids):
        raise StoreError(f"{path}: lists {len(ids) - len(set(ids))} ids more than once. Keep one row a clip.")
    return [keys[clip_id] for clip_id in ids]


def _import_blocks(
    path: Path, arrays: Mapping[str, _NpyArray], keys: Sequence[str], store: EmbeddingStore, progress: Progress
) -> int:
    """Store the rows of the arrays, block by block; return the number of rows that were stored before."""
    step = max(1, BLOCK_BYTES // (4 * store.info.dim * (store.info.n_layers + 1)))
    cached = 0
    with progress("importing", total=len(keys), unit="clips") as advance:
        for begin in range(0, len(keys), step):
            block = keys[begin : begin + step]
            values = {view: array.read_rows(len(block)).astype(np.float32) for view, array in arrays.items()}
            _check_finite(path, values, begin)
            cached += _add_rows(store, block, _both_views(path, values))
            advance(len(block))
    return cached


def _check_finite(path: Path, values: Mapping[str, Vectors], begin: int) -> None:
    """Raise StoreError for a row that is not finite; `begin` is the number of the block's first row in the file."""
    for view, rows in values.items():
        finite = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
        if not finite.all():
            number = begin + int(finite.argmin())
            raise StoreError(f"{path}: row {number} of '{view}' is not finite. Leave that clip out.")


def _both_views(path: Path, values: Mapping[str, Vectors]) -> dict[str, Vectors]:
    """Return `pooled` and `layers`; `values` may hold only one of them. Raises StoreError if they differ."""
    layers = values["layers"] if "layers" in values else values["pooled"][:, None]
    pooled = values.get("pooled", layers[:, -1])
    if not np.allclose(pooled, layers[:, -1], rtol=1e-4, atol=1e-5):
        raise StoreError(f"{path}: 'pooled' is not the last layer of 'layers'. Leave one of them out.")
    return {"pooled": np.ascontiguousarray(layers[:, -1]), "layers": layers}


def _add_rows(store: EmbeddingStore, keys: Sequence[str], views: Mapping[str, Vectors]) -> int:
    """Store the rows whose keys the store lacks; return the number of the other rows.

    Several clips may be copies of one recording, and then have one key. For example, if the keys are a, b, b, c and the
    store holds a, then row 0 must equal the stored row, row 2 must equal row 1, and rows 1 and 3 are written. Raises
    StoreError, before anything is written, if a row differs from the one that it must equal.
    """
    missing = set(store.missing(keys))
    first = _first_rows(keys, missing)
    layers = views["layers"]
    if changed := [*_unlike_stored(store, keys, layers, missing), *_unlike_first(keys, layers, first)]:
        raise StoreError(
            f"{len(changed)} clips have other vectors under '{store.info.name}' already, the first with key "
            f"{changed[0][:12]}. One name stands for one encoder: choose another name with --encoder."
        )
    if first:
        numbers = list(first.values())
        store.write(list(first), {view: rows[numbers] for view, rows in views.items()})
    return sum(key not in missing for key in keys)


def _first_rows(keys: Sequence[str], missing: set[str]) -> dict[str, int]:
    """Return the number of the first row of each missing key: for a, b, b, c without a, {"b": 1, "c": 3}."""
    first: dict[str, int] = {}
    for number, key in enumerate(keys):
        if key in missing:
            first.setdefault(key, number)
    return first


def _unlike_stored(store: EmbeddingStore, keys: Sequence[str], layers: Vectors, missing: set[str]) -> list[str]:
    """Return the keys whose rows differ from the rows that the store holds."""
    numbers = [number for number, key in enumerate(keys) if key not in missing]
    if not numbers:
        return []
    stored = store.read([keys[number] for number in numbers], "layers")
    return [keys[n] for n, row in zip(numbers, stored, strict=True) if not np.array_equal(row, layers[n])]


def _unlike_first(keys: Sequence[str], layers: Vectors, first: Mapping[str, int]) -> list[str]:
    """Return the keys whose rows differ from the first row of the same key."""
    return [key for n, key in enumerate(keys) if key in first and not np.array_equal(layers[first[key]], layers[n])]
