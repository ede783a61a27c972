"""One shard: an HDF5 file of embeddings that is complete or absent; each row is checked whenever it is read.

The format, version 2 (the attributes belong to the root group):

    attribute  format           "ser-shard"
    attribute  format_version   2; version 1, which can be read too, has no ragged views
    attribute  encoder          EncoderInfo as JSON
    attribute  fingerprint      SHA-256 that must equal the fingerprint of `encoder`
    attribute  created, writer  when (UTC, ISO 8601) and by which version of ser it was written; only for information
    dataset    key              (n,) 64 bytes: SHA-256 of the audio file's bytes, in hexadecimal
    dataset    view/<name>      (n, …) little-endian float32: one row a clip; for a ragged view `frames:N`,
                                (sum of T, dim or fewer) little-endian float16: the frames of all clips at layer N,
                                end to end
    dataset    offset/<name>    (n + 1,) int64, only for ragged views: where the frames of each clip begin and end
    dataset    crc/<name>       (n,) uint32: CRC-32 of the view's name, the row's key and the row's bytes

Every dataset is contiguous, uncompressed and inside the file itself. When a shard is opened, HDF5 reports the offsets
of its datasets; rows are then read by plain file calls, which makes two hundred shards as fast as one. A file with
links, virtual datasets or external datasets is refused, because an untrusted cache must not read other files of
this machine.

A shard is also written by plain file calls, so that a full disk is an ordinary error and a file with this ending is
always whole (see `atomic_write`). A shard is never changed after it was written.

This module alone imports h5py.
"""

from __future__ import annotations

import errno
import io
import stat
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from .._version import __version__
from ..encoder import FRAMES, EncoderInfo, Frames, Rows, Vectors, is_ragged
from ..errors import StoreError
from ..files.atomic import atomic_write
from ..progress import Advance
from .key_index import DIGITS, Keys, pack, unpack

FORMAT = "ser-shard"
FORMAT_VERSION = 2
READABLE = (1, 2)  # format versions that this module reads
SUFFIX = ".h5"
RETRY_SECONDS = 300.0  # how long a reader retries while shards vanish; merging some of them takes less time
MAX_ROW_NUMBERS = 1 << 20  # numbers of one clip in all layers; the largest existing networks have half as many
BLOCK_BYTES = 4 << 20  # bytes that are read and checked at once: the memory that a read takes in addition to its result
REPAIR = "Run `ser cache repair`, then `ser extract` again: it adds the vectors that are missing."

Numbers = NDArray[np.int64]  # numbers of rows
Result = TypeVar("Result")


class DamagedShard(StoreError):
    """The bytes of a shard differ from those that were written."""


class VanishedShard(StoreError):
    """A shard has vanished since it was listed: another process merged it, or somebody removed it."""


@dataclass(frozen=True)
class Extent:
    """The place of one dataset's numbers in the file."""

    offset: int  # bytes from the beginning of the file
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """The size of the dataset, in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """The size of one entry of the first axis, in bytes."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True)
class View:
    """The datasets of one view."""

    values: Extent
    crcs: Extent
    offsets: Extent | None = None  # only for a ragged view

    @property
    def nbytes(self) -> int:
        """The size of the vectors, in bytes."""
        return self.values.nbytes


@dataclass(frozen=True)
class Shard:
    """The header of a shard: its encoder, and the places of its keys and vectors, which are not in memory."""

    path: Path
    info: EncoderInfo
    key: Extent
    views: Mapping[str, View]
    format_version: int
    size: int  # of the file, in bytes
    created: str  # UTC, ISO 8601
    writer: str  # name and version of the program

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.key.shape[0]

    @property
    def nbytes(self) -> int:
        """The size of the vectors of all views, in bytes."""
        return sum(view.nbytes for view in self.views.values())

    @classmethod
    def open(cls, path: Path) -> Shard:
        """Read the header of a shard. Raises DamagedShard or StoreError if it is not a whole shard of this format."""
        with _hdf5(path) as file:
            info = _check_head(path, file)
            views = {name: _view(path, file, name, info) for name in sorted(_member(path, file, "view"))}
            key = _extent(path, file, "key", f"S{DIGITS}")
            about = (_printable(file.attrs.get(name, "")) for name in ("created", "writer"))
            shard = cls(path, info, key, views, int(file.attrs["format_version"]), path.stat().st_size, *about)
        for name, view in views.items():
            n_rows = view.values.shape[0] if view.offsets is None else view.offsets.shape[0] - 1
            if not n_rows == view.crcs.shape[0] == len(shard):
                raise DamagedShard(f"{path}: view '{name}' does not have one row for each key. {REPAIR}")
        return shard

    def keys(self) -> Keys:
        """Return the key of every row. Raises DamagedShard if a stored text is not a key."""
        with _faults(self.path), self.path.open("rb", buffering=0) as file:
            digits = _read_entries(file, self.key, np.arange(len(self))).tobytes()
        try:
            keys = pack([digits[at : at + DIGITS].decode("ascii") for at in range(0, len(digits), DIGITS)])
        except (StoreError, UnicodeDecodeError):
            keys = pack([])
        if keys.tobytes().hex().encode() != digits:  # also if a digit has become a capital letter
            raise DamagedShard(f"{self.path}: holds data that are not keys. {REPAIR}")
        return keys

    def read(self, view: str, rows: Numbers, keys: Keys, out: Vectors, positions: Numbers) -> None:
        """Write rows of one view into `out[positions]`; `keys` are the keys of these rows, in the same order.

        Raises DamagedShard if the checksum of a row is wrong; the message names the first key.
        """
        for part, block in self._sound_blocks(view, rows, keys):
            out[positions[part]] = np.asarray(block)

    def take(self, view: str, rows: Numbers, keys: Keys) -> Rows:
        """Return rows of one view in the order of `rows`: an array, or the frames of the clips for a ragged view.

        `keys` are the keys of these rows. Raises DamagedShard as `read` does.
        """
        if is_ragged(view):
            blocks = list(self._sound_blocks(view, rows, keys))
            order = np.argsort(np.concatenate([part for part, _ in blocks]))
            return Frames.join([cast(Frames, block) for _, block in blocks]).take(order)
        taken = np.empty((len(rows), *self.views[view].values.shape[1:]), np.float32)
        self.read(view, rows, keys, out=taken, positions=np.arange(len(rows)))
        return taken

    def damaged(self, view: str, advance: Advance = lambda step: None) -> Numbers:
        """Return the rows of a view whose checksum is wrong; `advance` receives the number of bytes read."""
        keys, damaged = self.keys(), [np.empty(0, np.int64)]
        for part, _, wrong in self._check_blocks(view, np.arange(len(self)), keys):
            damaged.append(part[wrong])
            advance(self.views[view].nbytes * len(part) / len(self))
        return np.concatenate(damaged)

    def verify(self, advance: Advance = lambda step: None) -> list[str]:
        """Check every row of every view against its checksum, and return one complaint for each damaged view."""
        complaints = []
        for view in self.views:
            try:
                if len(rows := self.damaged(view, advance)):
                    complaints.append(str(self._damage_error(view, self.keys()[rows])))
            except DamagedShard as error:
                complaints.append(str(error))
        return complaints

    def _sound_blocks(self, view: str, rows: Numbers, keys: Keys) -> Iterator[tuple[Numbers, Rows]]:
        """Yield the blocks of `_check_blocks`. Raises DamagedShard for a block with a wrong row."""
        for part, block, wrong in self._check_blocks(view, rows, keys):
            if wrong.any():
                raise self._damage_error(view, keys[part[wrong]])
            yield part, block

    def _check_blocks(self, view: str, rows: Numbers, keys: Keys) -> Iterator[tuple[Numbers, Rows, NDArray[np.bool_]]]:
        """Read rows in blocks, in the order of the file, and compare each row with its checksum.

        Yields the positions of the block's rows in `rows`, their vectors, and a mask of the wrong rows. For example,
        rows 7, 2 and 5 in blocks of two rows are read as 2 and 5, at the positions 1 and 2, and then 7, at position 0.
        """
        extents = self.views[view]
        step = max(1, BLOCK_BYTES * len(self) // max(extents.nbytes, 1))
        order = np.argsort(rows, kind="stable")
        with _faults(self.path), self.path.open("rb", buffering=0) as file:
            for begin in range(0, len(rows), step):
                part = order[begin : begin + step]
                block, crcs = _read_rows(file, extents, rows[part]), _read_entries(file, extents.crcs, rows[part])
                yield part, block, crcs != _crcs(view, keys[part], block)

    def _damage_error(self, view: str, keys: Keys) -> DamagedShard:
        first = unpack(keys[:1])[0][:12]
        return DamagedShard(
            f"{self.path}: {len(keys)} rows of '{view}' are damaged, the first for key {first}. {REPAIR}"
        )


def open_shards(folder: Path, opened: Sequence[Shard] = ()) -> tuple[list[Shard], list[tuple[Path, StoreError]]]:
    """Return the shards of a folder, sorted by name, and the path and error of each shard that cannot be opened.

    Shards in `opened` are not opened again. Other processes may write and merge shards at the same time, and one
    listing of a large folder can miss both a merged shard and its sources: the folder is listed until two listings
    agree.
    """
    results: dict[Path, Shard | StoreError] = {shard.path: shard for shard in opened}

    def open_listed() -> list[Path]:
        listed = sorted(folder.glob(f"*{SUFFIX}"))
        for path in listed:
            if path not in results:
                results[path] = _open_or_fault(path)
        if sorted(folder.glob(f"*{SUFFIX}")) != listed:
            raise VanishedShard(f"{folder}: has changed while it was listed.")
        return listed

    pairs = [(path, results[path]) for path in retry_vanished(folder, open_listed)]
    faults = [(path, fault) for path, fault in pairs if isinstance(fault, StoreError)]
    return [shard for _, shard in pairs if isinstance(shard, Shard)], faults


def retry_vanished(folder: Path, action: Callable[[], Result]) -> Result:
    """Call `action` until it returns without VanishedShard. Raises StoreError after RETRY_SECONDS."""
    deadline = time.monotonic() + RETRY_SECONDS
    while time.monotonic() < deadline:
        with suppress(VanishedShard):
            return action()
    raise StoreError(f"{folder}: its shards change faster than they are read. Run again when nothing changes them.")


def _open_or_fault(path: Path) -> Shard | StoreError:
    """Open a shard, or return its fault. Raises VanishedShard if another process merged it meanwhile."""
    try:
        return Shard.open(path)
    except VanishedShard as error:
        if not path.is_symlink():
            raise
        return StoreError(f"{path}: is a broken link. Remove it. ({error})")
    except StoreError as error:
        return error


def write_shard(folder: Path, info: EncoderInfo, keys: Sequence[str], rows: Mapping[str, Rows], name: str = "") -> Path:
    """Commit rows as a new shard in `folder`, and return its path.

    The shard gets a unique name unless `name` is given; a shard that has this name already is replaced. Raises
    StoreError if the shard cannot be written; nothing of it is left then.
    """
    stem = name or f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}"
    path = folder / f"{stem}{SUFFIX}"
    pieces, size = _hdf5_pieces(info, _columns(keys, rows))
    advice = "Stored vectors are intact. Make room or correct the folder's permissions, then run again to add the rest."
    with atomic_write(path, "wb", StoreError, advice) as file:
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
        file.truncate(size)
    return path


def _columns(keys: Sequence[str], rows: Mapping[str, Rows]) -> dict[str, NDArray[Any]]:
    """Return the datasets of a shard by their HDF5 names."""
    packed = pack(keys)
    columns: dict[str, NDArray[Any]] = {"key": np.array([key.encode() for key in unpack(packed)], f"S{DIGITS}")}
    for view, values in rows.items():
        stored = _as_stored(values)
        columns[f"view/{view}"] = stored.values if isinstance(stored, Frames) else stored
        if isinstance(stored, Frames):
            columns[f"offset/{view}"] = stored.offsets
        columns[f"crc/{view}"] = _crcs(view, packed, stored)
    return columns


def _as_stored(rows: Rows) -> Rows:
    """Return rows in the byte order and dtype of the file."""
    if isinstance(rows, Frames):
        return Frames(np.ascontiguousarray(rows.values, dtype="<f2"), rows.offsets.astype("<i8"))
    return np.ascontiguousarray(rows, dtype="<f4")


def _crcs(view: str, keys: Keys, rows: Rows) -> NDArray[np.uint32]:
    pairs = zip(unpack(keys), rows, strict=True)
    return np.array([zlib.crc32(row.data, zlib.crc32(f"{view}:{key}:".encode())) for key, row in pairs], dtype="<u4")


def _hdf5_pieces(info: EncoderInfo, columns: Mapping[str, NDArray[Any]]) -> tuple[list[tuple[int, Any]], int]:
    """Return the pieces, (offset, bytes), of an HDF5 file of these datasets, and the size of the file in bytes.

    HDF5 lays out the datasets without their numbers. From version 1.10 on, its own metadata carry checksums.
    """
    layout, pieces = _SparseFile(), []
    with h5py.File(layout, "w", libver=("v110", "v110")) as file:
        about = {"encoder": info.to_json(), "fingerprint": info.fingerprint, "writer": f"ser {__version__}"}
        created = datetime.now(UTC).isoformat(timespec="seconds")
        file.attrs.update({"format": FORMAT, "format_version": FORMAT_VERSION, "created": created, **about})
        for name, values in columns.items():
            dataset = file.create_dataset(name, values.shape, values.dtype, dcpl=_creation_plan())
            if values.size:
                pieces.append((dataset.id.get_offset(), values.data))
    return [*layout.written, *pieces], layout.size


def _creation_plan() -> Any:
    """Return the HDF5 properties of a dataset that gets its place in the file at once, and is not filled."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return plan


class _SparseFile(io.RawIOBase):
    """A file object that records the bytes and the offset of each write, and takes no memory for gaps."""

    def __init__(self) -> None:
        self.written: list[tuple[int, bytes]] = []  # offset, bytes
        self.size = self.position = 0  # in bytes

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}
        self.position = starts[whence] + offset
        return self.position

    def tell(self) -> int:
        return self.position

    def write(self, data: Any) -> int:
        self.written.append((self.position, bytes(data)))
        self.position += len(data)
        self.size = max(self.size, self.position)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        self.size = self.position if size is None else size
        return self.size


@contextmanager
def _hdf5(path: Path) -> Iterator[Any]:
    """Open an HDF5 file; errors of HDF5 become a StoreError. Without a lock, because shards never change."""
    with _faults(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise StoreError(f"{path}: is not a regular file. Move it out of the cache.")
    with _faults(path), h5py.File(path, "r", locking=False) as file:
        try:
            yield file
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
            raise DamagedShard(f"{path}: is damaged or not a shard ({str(error)[:120]}). {REPAIR}") from error


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Turn an OSError into an error that says whether the shard is gone, damaged, or cannot be read now."""
    try:
        yield
    except FileNotFoundError as error:
        raise VanishedShard(f"{path}: was there when the store was opened, but is gone now.") from error
    except OSError as error:
        if not path.exists():  # HDF5 opens a file and then looks up its name once more
            raise VanishedShard(f"{path}: was there when the store was opened, but is gone now.") from error
        if error.errno in (None, errno.EIO):
            raise DamagedShard(f"{path}: is damaged or not a shard ({str(error)[:120]}). {REPAIR}") from error
        raise StoreError(f"{path}: cannot be read: {error.strerror}. Correct that, then run again.") from error


def _read_entries(file: Any, extent: Extent, numbers: Numbers) -> NDArray[Any]:
    """Return entries of the first axis by their numbers, which must rise; one call reads each run of neighbours.

    For example, the numbers 2, 3, 4, 8 take two calls: one for entries 2 to 4, one for entry 8.
    """
    entries = np.empty((len(numbers), *extent.shape[1:]), extent.dtype)
    memory = entries.reshape(-1).view(np.uint8).data
    width = extent.row_bytes
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    edges = [0, *breaks.tolist(), len(numbers)] if len(numbers) else []
    for begin, end in pairwise(edges):
        _fill(file, extent.offset + int(numbers[begin]) * width, memory[begin * width : end * width])
    return entries


def _fill(file: Any, offset: int, memory: memoryview) -> None:
    """Fill `memory` with the bytes of the file from `offset` on. Raises OSError if the file ends before."""
    file.seek(offset)
    while len(memory):
        count = file.readinto(memory)
        if not count:
            raise OSError("the file ends before its last row")
        memory = memory[count:]


def _read_rows(file: Any, view: View, numbers: Numbers) -> Rows:
    """Return rows of a view by ascending row numbers. Raises OSError if the offsets of frames are damaged."""
    if view.offsets is None:
        return _read_entries(file, view.values, numbers)
    begins, ends = _read_entries(file, view.offsets, numbers), _read_entries(file, view.offsets, numbers + 1)
    if np.any(begins < 0) or np.any(ends < begins) or np.any(ends > view.values.shape[0]):
        raise OSError("the offsets of its frames are damaged")
    if np.any(begins[1:] < ends[:-1], where=np.diff(numbers) > 0):  # the same clip may be asked for twice
        raise OSError("the offsets of its frames overlap")
    parts = [_read_entries(file, view.values, np.arange(a, b)) for a, b in zip(begins, ends, strict=True)]
    return Frames.of(np.concatenate(parts), [len(part) for part in parts])


def _printable(text: object) -> str:
    """Return up to 100 characters of a text from a file, without those that a terminal would obey."""
    return "".join(letter for letter in str(text)[:100] if letter.isprintable())


def _check_head(path: Path, file: Any) -> EncoderInfo:
    """Return the encoder of a shard. Raises StoreError or DamagedShard if the attributes are not those of a shard."""
    if file.attrs.get("format") != FORMAT:
        if "fingerprint" in file.attrs:
            raise DamagedShard(f"{path}: was a shard, but its format attribute is damaged. {REPAIR}")
        raise StoreError(f"{path}: is an HDF5 file, but not a shard of ser. Move it out of the cache.")
    version = int(file.attrs["format_version"])
    if version not in READABLE:
        writer = _printable(file.attrs.get("writer", "an unknown version"))
        raise StoreError(
            f"{path}: has shard format {version}, written by {writer}; this is ser {__version__}, which reads formats "
            f"{READABLE}. Use that version, or another --artifacts."
        )
    info = EncoderInfo.from_json(file.attrs["encoder"])
    if info.fingerprint != file.attrs["fingerprint"]:
        raise DamagedShard(f"{path}: its encoder does not match its fingerprint. {REPAIR}")
    return info


def _view(path: Path, file: Any, name: str, info: EncoderInfo) -> View:
    """Return the datasets of a view. Raises DamagedShard if their names or shapes do not fit the encoder."""
    ragged = is_ragged(name)
    layers = [f"{FRAMES}:{layer}" for layer in range(min(info.n_layers, MAX_ROW_NUMBERS))] if ragged else []
    if info.dim * info.n_layers > MAX_ROW_NUMBERS or (name not in layers if ragged else not name.isidentifier()):
        raise DamagedShard(f"{path}: has a view '{_printable(name)}', which its encoder does not provide. {REPAIR}")
    values = _extent(path, file, f"view/{name}", "<f2" if ragged else "<f4")
    row_shape = (info.dim,) if ragged or name == "pooled" else (info.n_layers, info.dim)
    narrow = ragged and len(values.shape) == 2 and 0 < values.shape[1] < info.dim  # frames may hold fewer numbers
    if values.shape[1:] != row_shape and not narrow:
        raise DamagedShard(f"{path}: rows of '{name}' have the shape {values.shape[1:]}, wanted {row_shape}. {REPAIR}")
    offsets = _extent(path, file, f"offset/{name}", "<i8") if ragged else None
    return View(values, _extent(path, file, f"crc/{name}", "<u4"), offsets)


def _extent(path: Path, file: Any, name: str, dtype: str) -> Extent:
    """Return the place of a dataset in the file.

    Raises StoreError if its numbers are in other files or in pieces, DamagedShard for another dtype or a place beyond
    the end of the file.
    """
    dataset = _member(path, file, name)
    shape, offset = dataset.shape, dataset.id.get_offset()
    plan = dataset.id.get_create_plist()
    if plan.get_layout() != h5py.h5d.CONTIGUOUS or plan.get_external_count():
        raise StoreError(
            f"{path}: '{name}' is stored in other files or in pieces, so this is not a shard of ser. Move it out of "
            "the cache."
        )
    if not shape or dataset.dtype != np.dtype(dtype):  # a scalar, () or None, has no rows
        raise DamagedShard(f"{path}: '{name}' is {dataset.dtype} {shape}, wanted rows of {dtype}. {REPAIR}")
    extent = Extent(offset or 0, shape, np.dtype(dtype))
    if extent.nbytes and (offset is None or offset + extent.nbytes > path.stat().st_size):
        raise DamagedShard(f"{path}: '{name}' extends beyond the end of the file. {REPAIR}")
    return extent


def _member(path: Path, file: Any, name: str) -> Any:
    """Return a group or dataset of this very file: no link is followed, wherever it leads."""
    node = file
    for part in name.split("/"):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            raise DamagedShard(f"{path}: has no '{name}'. {REPAIR}")
        if not isinstance(link, h5py.HardLink):
            raise StoreError(f"{path}: '{name}' is a link, so this is not a shard of ser. Move it out of the cache.")
        node = node[part]
    return node
