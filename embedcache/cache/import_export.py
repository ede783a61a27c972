"""Vectors out of a cache and into it, as NumPy's npz or as Parquet, a block of clips at a time.

A file holds one dataset under one encoder: the manifest's columns, one entry a clip, and an array for each view
(Parquet: a list of numbers, whose shape stands in the metadata). No pickle is written or read.

What comes from elsewhere stands under a fingerprint of its own, never beside vectors that `ser extract` made. What a
fine-tuned encoder was trained on goes along, so that the leak guard knows it where the file is imported again.
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
from ..progress import Progress, silent
from ..provenance import TrainedOn, lay, of_store, of_text
from .shard import WIDEST
from .store import EmbeddingStore, slug

BLOCK_BYTES = 32 << 20
SUFFIXES = (".npz", ".parquet")
IDS = ("clip_id", "ids")
EXPORTED = (*VIEWS, "std")
LONGEST_ID = 4096  # characters
IMPORT_RECIPE = 1
TRAINED_ON = "trained_on"  # bytes of JSON, of a fine-tuned encoder
MOST_TEXT = 1 << 28  # bytes of a text


@dataclass(frozen=True)
class ImportResult:
    """What an import did."""

    clips: int  # in the file
    known: int  # of them, stored before with the same vectors
    store: EmbeddingStore


def export(
    store: EmbeddingStore,
    manifest: Manifest,
    path: str | Path,
    views: Sequence[str] = VIEWS,
    progress: Progress = silent,
) -> int:
    """Write the usable clips of a manifest with their vectors to a new .npz or .parquet; how many there are.

    Raises StoreError where a clip has no vector, the file exists or cannot be written, or pyarrow is not installed.
    """
    path, views = Path(path), tuple(dict.fromkeys(views))
    check_export(path, views)
    clips = manifest.usable
    trained_on = of_store(store.info, store.folder)
    blocks = {view: _blocks(store, [clip.key for clip in clips], view) for view in views}
    write = _write_npz if path.suffix == ".npz" else _write_parquet
    with progress("exporting", total=len(clips) * len(views), unit="rows") as advance:
        told = {view: _told(rows, advance) for view, rows in blocks.items()}
        write(path, store.info, clips, told, trained_on.to_json() if trained_on else "")
    return len(clips)


def check_export(path: Path, views: Sequence[str]) -> None:
    """Raise StoreError for what `export` cannot write, whatever is stored."""
    if path.suffix not in SUFFIXES:
        raise StoreError(f"{path}: the ending says the format; wanted {' or '.join(SUFFIXES)}.")
    if path.exists():
        raise StoreError(f"{path} exists already. Choose another name, or remove it.")
    if ragged := [view for view in views if is_ragged(view)]:
        raise StoreError(f"'{ragged[0]}' has rows of different lengths: read it from Python, with read_frames.")
    if not views or not set(views) <= set(EXPORTED):
        raise StoreError(f"got the views {', '.join(views) or '(none)'}; wanted some of {', '.join(EXPORTED)}.")


def import_npz(
    path: str | Path, cache: str | Path, name: str, manifest: Manifest, progress: Progress = silent
) -> ImportResult:
    """Store vectors from an .npz under the encoder name `name`, for the clips of a keyed manifest.

    The file has `clip_id` (or `ids`) (n,) and `pooled` (n, dim), `layers` (n, n_layers, dim) or both. Of one layer,
    `layers` is `pooled`; of several, `pooled` is the last. What `ser cache export` wrote of a fine-tuned encoder still
    says what it was trained on. Raises StoreError where that is lost, for ids that the manifest has not, for
    vectors that are not finite, and where a clip has other vectors under this name already.
    """
    check_file(Path(path), sys.maxsize, StoreError)
    if not slug(name):
        raise StoreError(f"got the name '{name}' for an encoder; wanted a word.")
    with _archive(Path(path)) as archive, np.errstate(over="ignore"):
        found = {view: member for view in VIEWS if (member := archive.member(view))}
        if not (ids := archive.ids(len(manifest))):
            raise ValueError("it lists no clips")
        trained_on = archive.trained_on(Path(path))
        info = _info(name, found, len(ids), trained_on.sha256 if trained_on else "")
        store = EmbeddingStore.of(cache, info)
        keys = _keys(Path(path), ids, manifest)
        if trained_on:
            lay(trained_on, store.folder)
        known = 0
        step = max(1, BLOCK_BYTES // (4 * info.dim * (info.n_layers + 1)))
        with progress("importing", total=len(ids), unit="clips") as advance:
            for begin in range(0, len(ids), step):
                block = keys[begin : begin + step]
                rows = _both(Path(path), {view: member.rows(len(block)) for view, member in found.items()}, begin)
                known += _add(store, block, rows, name)
                advance(len(block))
    return ImportResult(len(ids), known, store)


def _blocks(store: EmbeddingStore, keys: Sequence[str], view: str) -> Iterator[Vectors]:
    """Every row of a view, some at a time; the first block tells the shape, also where there are no rows."""
    step = max(1, BLOCK_BYTES // (4 * store.info.dim * store.info.n_layers))
    for begin in range(0, max(len(keys), 1), step):
        yield store.read(keys[begin : begin + step], view)


def _told(blocks: Iterator[Vectors], advance: Any) -> Iterator[Vectors]:
    for block in blocks:
        yield block
        advance(len(block))


def _columns(clips: Sequence[Clip]) -> dict[str, list[Any]]:
    """The manifest's columns; `seconds` are numbers."""
    taken = {*COLUMNS, *EXPORTED, "encoder", TRAINED_ON}  # a column of one's own that is called so stays behind
    extras = sorted({name for clip in clips for name in clip.extra} - taken)
    columns: dict[str, list[Any]] = {name: [getattr(clip, name) for clip in clips] for name in COLUMNS}
    return columns | {name: [clip.extra.get(name, "") for clip in clips] for name in extras}


def _write_npz(
    path: Path, info: EncoderInfo, clips: Sequence[Clip], views: Mapping[str, Iterator[Vectors]], trained_on: str
) -> None:
    small = {"encoder": np.array(info.to_json())} | {name: np.array(c) for name, c in _columns(clips).items()}
    if trained_on:
        small[TRAINED_ON] = np.frombuffer(trained_on.encode(), np.uint8)
    with atomic_write(path, "wb", StoreError) as file, zipfile.ZipFile(file, "w") as archive:
        for name, values in small.items():
            with archive.open(f"{name}.npy", "w") as member:
                npy.write_array(member, values, allow_pickle=False)
        for view, blocks in views.items():
            with archive.open(f"{view}.npy", "w", force_zip64=True) as member:
                first = next(blocks)
                header = npy.header_data_from_array_1_0(first) | {"shape": (len(clips), *first.shape[1:])}
                npy.write_array_header_1_0(member, header)
                member.write(first.tobytes())
                for block in blocks:
                    member.write(block.tobytes())


def _write_parquet(
    path: Path, info: EncoderInfo, clips: Sequence[Clip], views: Mapping[str, Iterator[Vectors]], trained_on: str
) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise StoreError("Parquet needs pyarrow: `pip install pyarrow`, or export to .npz.") from error

    columns = pa.table(_columns(clips))
    begin, writer = 0, None
    with atomic_write(path, "wb", StoreError) as file:
        for parts in zip(*views.values(), strict=True):
            table = columns.slice(begin, len(parts[0]))
            for view, rows in zip(views, parts, strict=True):
                width = int(np.prod(rows.shape[1:]))
                table = table.append_column(view, pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), width))
            shapes = {view: list(rows.shape[1:]) for view, rows in zip(views, parts, strict=True)}
            said = {"encoder": info.to_json(), "shapes": json.dumps(shapes)}
            table = table.replace_schema_metadata(said | ({TRAINED_ON: trained_on} if trained_on else {}))
            writer = writer or pq.ParquetWriter(file, table.schema)
            writer.write_table(table)
            begin += len(table)
        if writer:
            writer.close()


@dataclass(frozen=True)
class _Member:
    """One array of an npz, read from its beginning to its end."""

    name: str
    file: IO[bytes]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def rows(self, count: int) -> NDArray[Any]:
        """The next rows."""
        shape = (count, *self.shape[1:])
        wanted = int(np.prod(shape)) * self.dtype.itemsize
        data = self.file.read(wanted)
        if len(data) != wanted:
            raise ValueError(f"'{self.name}' ends after {len(data)} of {wanted} bytes")
        return np.frombuffer(data, self.dtype).reshape(shape)


@dataclass(frozen=True)
class _Archive:
    """An npz, of which nothing is believed: no pickle, no array that is larger than its bytes."""

    zip: zipfile.ZipFile

    def member(self, name: str) -> _Member | None:
        """An array by name, opened. Raises ValueError for what cannot be one."""
        if f"{name}.npy" not in self.zip.namelist():
            return None
        size = self.zip.getinfo(f"{name}.npy").file_size
        file = self.zip.open(f"{name}.npy")
        if npy.read_magic(file) != (1, 0):  # the others' headers may have 4 GB
            raise ValueError(f"'{name}' has a header that plain arrays have not")
        shape, fortran, dtype = npy.read_array_header_1_0(file)
        if dtype.hasobject or fortran:
            raise ValueError(f"'{name}' holds objects or stands in Fortran's order; wanted np.ascontiguousarray of it")
        if not all(type(length) is int and length >= 0 for length in shape):
            raise ValueError(f"'{name}' declares the shape {shape}")
        if int(np.prod(shape, dtype=object)) * dtype.itemsize > size:
            raise ValueError(f"'{name}' declares the shape {shape}, and has {size} bytes")
        return _Member(name, file, shape, dtype)

    def text(self, name: str) -> str:
        """What a string, or bytes, of the file says; "" where there is none."""
        member = self.member(name)
        if member is None:
            return ""
        size = int(np.prod(member.shape)) * member.dtype.itemsize
        if size > MOST_TEXT or member.dtype.kind not in "Uu":
            raise ValueError(f"'{name}' is {member.dtype} {member.shape}; wanted a text")
        data = np.frombuffer(member.file.read(size), member.dtype)
        return data.tobytes().decode() if member.dtype.kind == "u" else str(data[0])

    def trained_on(self, path: Path) -> TrainedOn | None:
        """What the encoder was fine-tuned on, where the file names it. Raises StoreError where it does not list it."""
        said = self.text("encoder")
        try:
            named = EncoderInfo.from_json(said).trained_on if said else ""
        except (ValueError, TypeError):  # another program's
            named = ""
        return of_text(self.text(TRAINED_ON), named, path) if named else None

    def ids(self, most: int) -> list[str]:
        """The clips' ids, of which there can be as many as the manifest has."""
        member = next((found for name in IDS if (found := self.member(name))), None)
        if member is None:
            raise ValueError(f"no array {' or '.join(IDS)}; has {', '.join(self.zip.namelist()) or 'nothing'}")
        if len(member.shape) != 1:
            raise ValueError(f"'{member.name}' has the shape {member.shape}; wanted one id a clip, (n,)")
        if member.shape[0] > most:
            raise ValueError(f"it lists {member.shape[0]} clips, the manifest has {most}")
        if member.dtype.itemsize > 4 * LONGEST_ID:
            raise ValueError(f"its ids are up to {member.dtype.itemsize // 4} characters long")
        values = member.rows(member.shape[0]).tolist()
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


@contextmanager
def _archive(path: Path) -> Iterator[_Archive]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield _Archive(archive)
    except SerError:
        raise
    except Exception as error:  # zipfile, its decompressors and numpy raise anything for a file that is none
        raise StoreError(
            f"{path}: cannot be imported ({error}). Wanted what np.savez writes, with the arrays clip_id (n,) and "
            "pooled (n, dim) or layers (n, n_layers, dim)."
        ) from error


def _info(name: str, found: Mapping[str, _Member], count: int, trained_on: str) -> EncoderInfo:
    """The encoder that the file's arrays tell of."""
    if not found:
        raise ValueError("neither 'pooled' nor 'layers' is in it")
    for view, member in found.items():
        if member.dtype.kind != "f" or len(member.shape) != (2 if view == "pooled" else 3) or member.shape[0] != count:
            raise ValueError(f"'{view}' is {member.dtype} {member.shape}, there are {count} ids")
    dims = {member.shape[-1] for member in found.values()}
    n_layers = found["layers"].shape[1] if "layers" in found else 1
    if len(dims) > 1 or not 0 < max(dims) * n_layers <= WIDEST:
        raise ValueError(f"it has vectors of {n_layers} layers and {' or '.join(map(str, dims))} numbers")
    return EncoderInfo(
        name=name,
        checkpoint="",
        weights_sha256="",
        sample_rate=0,
        n_layers=n_layers,
        dim=dims.pop(),
        precision="fp32",
        preprocessing=f"imported as {name}" + (f", trained on {trained_on}" if trained_on else ""),
        recipe_version=IMPORT_RECIPE,
        trained_on=trained_on,
    )


def _keys(path: Path, ids: Sequence[str], manifest: Manifest) -> list[str]:
    keys = {clip.clip_id: clip.key for clip in manifest.usable}
    if strange := [f"{clip_id}: no usable clip of {manifest.dataset}" for clip_id in ids if clip_id not in keys]:
        advice = f"Rename them as the manifest does (such as {next(iter(keys), 'none')}), or leave them out."
        raise StoreError(complain(f"{path}: {len(strange)} of {len(ids)} ids are unknown", strange, advice))
    if len(set(ids)) < len(ids):
        raise StoreError(f"{path}: lists {len(ids) - len(set(ids))} ids more than once. Keep one row a clip.")
    return [keys[clip_id] for clip_id in ids]


def _both(path: Path, rows: Mapping[str, NDArray[Any]], begin: int) -> dict[str, Vectors]:
    """`pooled` and `layers`, float32 and finite, whichever of them there is."""
    given = {view: values.astype(np.float32) for view, values in rows.items()}
    for view, values in given.items():
        if not (finite := np.isfinite(values).reshape(len(values), -1).all(axis=1)).all():
            raise StoreError(
                f"{path}: row {begin + int(finite.argmin())} of '{view}' is not finite. Leave that clip out."
            )
    layers = given["layers"] if "layers" in given else given["pooled"][:, None]
    pooled = given.get("pooled", layers[:, -1])
    if not np.allclose(pooled, layers[:, -1], rtol=1e-4, atol=1e-5):
        raise StoreError(f"{path}: 'pooled' is not the last of 'layers'. Leave one of them out.")
    return {"pooled": np.ascontiguousarray(layers[:, -1]), "layers": layers}


def _add(store: EmbeddingStore, keys: Sequence[str], rows: Mapping[str, Vectors], name: str) -> int:
    """Store the rows that are new; how many were there before. Raises StoreError where one has changed."""
    lacking = set(store.missing(keys))
    known = [number for number, key in enumerate(keys) if key not in lacking]
    before = store.read([keys[number] for number in known], "layers") if known else rows["layers"][:0]
    new = {keys[n]: n for n in reversed(range(len(keys))) if keys[n] in lacking}  # two clips may be one recording
    pairs = [
        *zip(known, before, strict=True),
        *((n, rows["layers"][new[key]]) for n, key in enumerate(keys) if key in new),
    ]
    if changed := [keys[n] for n, other in pairs if not np.array_equal(other, rows["layers"][n])]:
        raise StoreError(
            f"{len(changed)} clips have other vectors under '{name}' already, the first with key {changed[0][:12]}. "
            "A name stands for one way to make vectors: choose another with --encoder."
        )
    if new:
        store.write(list(new), {view: values[list(new.values())] for view, values in rows.items()})
    return len(known)
