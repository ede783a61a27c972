"""One shard: one HDF5 file of embeddings, complete or absent, each row checked when it is read.

The format, version 2 (attributes stand on the root):

    attribute  format           "ser-shard"
    attribute  format_version   2; version 1, which is read too, has no ragged views
    attribute  encoder          EncoderInfo as JSON
    attribute  fingerprint      SHA-256 that must equal that of `encoder`
    attribute  created, writer  when (UTC, ISO 8601) and by what version, for people
    dataset    key              (n,) 64 bytes: SHA-256 of the audio file's bytes, in hexadecimal
    dataset    view/<name>      (n, …) little-endian float32: one row a clip; of a ragged view `frames:N`,
                                (sum of T, dim or fewer) little-endian float16: the clips' frames of layer N, end to end
    dataset    offset/<name>    (n + 1,) int64, of ragged views alone: where each clip's frames begin and end
    dataset    crc/<name>       (n,) uint32: CRC-32 of the view's name, the row's key and the row's bytes

Every dataset is contiguous, uncompressed, and lies in the file itself. So HDF5 is asked once, when a shard is opened,
where the bytes are, and rows are then read by plain file calls: that is what makes two hundred shards as fast as one.
A file in which anything leads elsewhere (links, virtual or external datasets) is refused: a cache from a stranger must
not read other files of this machine.

A shard is written by plain file calls too, so that a full disk is an ordinary error, and a file of this ending is
always whole (`layout.atomic_write`). Shards are never changed afterwards.

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
READABLE = (1, 2)
SUFFIX = ".h5"
PATIENCE = 300.0  # seconds that a reader bears with shards that vanish under it: longer than it takes to merge some
WIDEST = 1 << 20  # numbers a clip: of the networks that there are, the largest have half of it in all layers
BLOCK_BYTES = 4 << 20  # read and checked at once: what a read takes beside its result

Numbers = NDArray[np.int64]
Result = TypeVar("Result")


class DamagedShard(StoreError):
    """The bytes of a shard are not those that were written."""


class VanishedShard(StoreError):
    """A shard that was there is not: it was compacted, or removed by hand."""


@dataclass(frozen=True)
class Extent:
    """Where the numbers of one dataset lie in the file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of one entry of the first axis."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True)
class View:
    """The datasets of one view; `offsets` of a ragged one."""

    values: Extent
    crcs: Extent
    offsets: Extent | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors."""
        return self.values.nbytes


@dataclass(frozen=True)
class Shard:
    """The head of one shard: what it holds and where, without keys and vectors."""

    path: Path
    info: EncoderInfo
    key: Extent
    views: Mapping[str, View]
    format_version: int
    size: int  # of the file, in bytes
    created: str
    writer: str

    def __len__(self) -> int:
        """Rows."""
        return self.key.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors."""
        return sum(view.nbytes for view in self.views.values())

    @classmethod
    def open(cls, path: Path) -> Shard:
        """Read the head. Raises DamagedShard or StoreError for what is not a whole shard of this format."""
        with _hdf5(path) as file:
            info = _check_head(path, file)
            views = {name: _view(path, file, name, info) for name in sorted(_member(path, file, "view"))}
            key = _extent(path, file, "key", f"S{DIGITS}")
            about = (_shown(file.attrs.get(name, "")) for name in ("created", "writer"))
            shard = cls(path, info, key, views, int(file.attrs["format_version"]), path.stat().st_size, *about)
        for name, view in views.items():
            rows = view.values if view.offsets is None else view.offsets
            if not rows.shape[0] - bool(view.offsets) == view.crcs.shape[0] == len(shard):
                raise DamagedShard(f"{path}: view '{name}' has not one row a key. {_mend()}")
        return shard

    def keys(self) -> Keys:
        """The key of every row. Raises DamagedShard where they are no keys."""
        with _faults(self.path), self.path.open("rb", buffering=0) as file:
            digits = _take(file, self.key, np.arange(len(self))).tobytes()
        try:
            packed = pack([digits[at : at + DIGITS].decode("ascii") for at in range(0, len(digits), DIGITS)])
        except (StoreError, UnicodeDecodeError):
            packed = pack([])
        if packed.tobytes().hex().encode() != digits:  # also where a digit has become a capital
            raise DamagedShard(f"{self.path}: holds something else than keys. {_mend()}")
        return packed

    def read(self, view: str, rows: Numbers, keys: Keys, into: Vectors, at: Numbers) -> None:
        """Put rows of one view, which belong to these keys, into `into[at]`. Raises DamagedShard naming a wrong one."""
        for here, block in self._blocks(view, rows, keys):
            into[at[here]] = np.asarray(block)

    def take(self, view: str, rows: Numbers, keys: Keys) -> Rows:
        """The same as rows of their own, in order; of a ragged view, the clips' frames."""
        if is_ragged(view):
            blocks = list(self._blocks(view, rows, keys))
            order = np.argsort(np.concatenate([here for here, _ in blocks]))
            return Frames.join([cast(Frames, block) for _, block in blocks]).take(order)
        taken = np.empty((len(rows), *self.views[view].values.shape[1:]), np.float32)
        self.read(view, rows, keys, into=taken, at=np.arange(len(rows)))
        return taken

    def damaged(self, view: str, advance: Advance = lambda step: None) -> Numbers:
        """The rows of a view whose checksum is wrong; `advance` is told the bytes read."""
        keys, wrong = self.keys(), [np.empty(0, np.int64)]
        for here, _, bad in self._checked(view, np.arange(len(self)), keys):
            wrong.append(here[bad])
            advance(self.views[view].nbytes * len(here) / len(self))
        return np.concatenate(wrong)

    def verify(self, advance: Advance = lambda step: None) -> list[str]:
        """Every row of every view against its checksum: one complaint a damaged view."""
        complaints = []
        for view in self.views:
            try:
                if len(wrong := self.damaged(view, advance)):
                    self._refuse(view, self.keys()[wrong])
            except DamagedShard as error:
                complaints.append(str(error))
        return complaints

    def _blocks(self, view: str, rows: Numbers, keys: Keys) -> Iterator[tuple[Numbers, Rows]]:
        for here, block, bad in self._checked(view, rows, keys):
            if bad.any():
                self._refuse(view, keys[here[bad]])
            yield here, block

    def _checked(self, view: str, rows: Numbers, keys: Keys) -> Iterator[tuple[Numbers, Rows, NDArray[np.bool_]]]:
        """Blocks of rows in the file's order: which of `rows` they are, their vectors, and which of them are wrong."""
        held = self.views[view]
        step = max(1, BLOCK_BYTES * len(self) // max(held.nbytes, 1))
        order = np.argsort(rows, kind="stable")
        with _faults(self.path), self.path.open("rb", buffering=0) as file:
            for begin in range(0, len(rows), step):
                here = order[begin : begin + step]
                block, crcs = _rows(file, held, rows[here]), _take(file, held.crcs, rows[here])
                yield here, block, crcs != _crcs(view, keys[here], block)

    def _refuse(self, view: str, keys: Keys) -> None:
        what = f"{len(keys)} rows of '{view}' are damaged, the first for key {unpack(keys[:1])[0][:12]}"
        raise DamagedShard(f"{self.path}: {what}. {_mend()}")


def open_shards(folder: Path, known: Sequence[Shard] = ()) -> tuple[list[Shard], list[tuple[Path, StoreError]]]:
    """The shards of a folder by name, and what is wrong with those that cannot be opened; `known` ones stay open.

    Others may write and merge meanwhile, and one listing of a large folder can miss a merged shard and its sources too:
    it is listed until two listings agree.
    """
    found: dict[Path, Shard | StoreError] = {shard.path: shard for shard in known}

    def look() -> list[Path]:
        listed = sorted(folder.glob(f"*{SUFFIX}"))
        for path in listed:
            if path not in found:
                found[path] = _opened(path)
        if sorted(folder.glob(f"*{SUFFIX}")) != listed:
            raise VanishedShard(f"{folder}: has changed while it was listed.")
        return listed

    pairs = [(path, found[path]) for path in patiently(folder, look)]
    faults = [(path, fault) for path, fault in pairs if isinstance(fault, StoreError)]
    return [shard for _, shard in pairs if isinstance(shard, Shard)], faults


def patiently(folder: Path, action: Callable[[], Result]) -> Result:
    """The action's result, tried again while shards vanish under it. Raises StoreError where that does not end."""
    last = time.monotonic() + PATIENCE
    while time.monotonic() < last:
        with suppress(VanishedShard):
            return action()
    raise StoreError(f"{folder}: its shards change faster than they are read. Run again when that has ended.")


def _opened(path: Path) -> Shard | StoreError:
    """A shard, or what is wrong with it. Raises VanishedShard where it is merged meanwhile."""
    try:
        return Shard.open(path)
    except VanishedShard as error:
        if not path.is_symlink():
            raise
        return StoreError(f"{path}: is a link that leads nowhere. Remove it. ({error})")
    except StoreError as error:
        return error


def write_shard(folder: Path, info: EncoderInfo, keys: Sequence[str], rows: Mapping[str, Rows], name: str = "") -> Path:
    """Commit rows as a new shard in `folder`. Raises StoreError where it cannot be written; nothing is left then.

    Without a `name` it gets one of its own; a shard of that name is replaced.
    """
    stem = name or f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}"
    path = folder / f"{stem}{SUFFIX}"
    columns = _columns(keys, rows)
    pieces, size = _skeleton(info, columns)
    advice = (
        "What was stored before is whole: make room or mend the folder's permissions, run again, and the rest is added."
    )
    with atomic_write(path, "wb", StoreError, advice) as file:
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
        file.truncate(size)
    return path


def _columns(keys: Sequence[str], rows: Mapping[str, Rows]) -> dict[str, NDArray[Any]]:
    """The datasets of a shard, by path."""
    packed = pack(keys)
    columns: dict[str, NDArray[Any]] = {"key": np.array([key.encode() for key in unpack(packed)], f"S{DIGITS}")}
    for view, made in rows.items():
        stored = _stored(made)
        columns[f"view/{view}"] = stored.values if isinstance(stored, Frames) else stored
        if isinstance(stored, Frames):
            columns[f"offset/{view}"] = stored.offsets
        columns[f"crc/{view}"] = _crcs(view, packed, stored)
    return columns


def _stored(rows: Rows) -> Rows:
    """Rows as their bytes are stored."""
    if isinstance(rows, Frames):
        return Frames(np.ascontiguousarray(rows.values, dtype="<f2"), rows.offsets.astype("<i8"))
    return np.ascontiguousarray(rows, dtype="<f4")


def _crcs(view: str, keys: Keys, rows: Rows) -> NDArray[np.uint32]:
    pairs = zip(unpack(keys), rows, strict=True)
    return np.array([zlib.crc32(row.data, zlib.crc32(f"{view}:{key}:".encode())) for key, row in pairs], dtype="<u4")


def _skeleton(info: EncoderInfo, columns: Mapping[str, NDArray[Any]]) -> tuple[list[tuple[int, Any]], int]:
    """What an HDF5 file of these datasets consists of, as (offset, bytes), and its size.

    HDF5 lays the datasets out without their numbers. Its own metadata carry checksums from version 1.10 on.
    """
    sheet, pieces = _Sheet(), []
    with h5py.File(sheet, "w", libver=("v110", "v110")) as file:
        about = {"encoder": info.to_json(), "fingerprint": info.fingerprint, "writer": f"ser {__version__}"}
        created = datetime.now(UTC).isoformat(timespec="seconds")
        file.attrs.update({"format": FORMAT, "format_version": FORMAT_VERSION, "created": created, **about})
        for name, values in columns.items():
            made = file.create_dataset(name, values.shape, values.dtype, dcpl=_now_and_empty())
            if values.size:
                pieces.append((made.id.get_offset(), values.data))
    return [*sheet.written, *pieces], sheet.size


def _now_and_empty() -> Any:
    """How to make a dataset that has its place in the file at once, and is not filled."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return plan


class _Sheet(io.RawIOBase):
    """A file that remembers what was written where, and takes no room for what was not."""

    def __init__(self) -> None:
        self.written: list[tuple[int, bytes]] = []
        self.size = self.at = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + (self.size if whence == io.SEEK_END else self.at if whence == io.SEEK_CUR else 0)
        return self.at

    def tell(self) -> int:
        return self.at

    def write(self, data: Any) -> int:
        self.written.append((self.at, bytes(data)))
        self.at += len(data)
        self.size = max(self.size, self.at)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        self.size = self.at if size is None else size
        return self.size


@contextmanager
def _hdf5(path: Path) -> Iterator[Any]:
    """An open HDF5 file; whatever HDF5 finds wrong with it becomes a StoreError. Shards never change: no lock."""
    with _faults(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise StoreError(f"{path}: is no file. Move it out of the cache.")
    with _faults(path), h5py.File(path, "r", locking=False) as file:
        try:
            yield file
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
            raise DamagedShard(f"{path}: is damaged or no shard ({str(error)[:120]}). {_mend()}") from error


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """What the system says of a file, told apart: it is gone, it may not be read now, its bytes are bad."""
    try:
        yield
    except FileNotFoundError as error:
        raise VanishedShard(f"{path}: was there when the store was opened, and is gone.") from error
    except OSError as error:
        if not path.exists():  # HDF5 had opened it, and looked it up by name once more
            raise VanishedShard(f"{path}: was there when the store was opened, and is gone.") from error
        if error.errno in (None, errno.EIO):
            raise DamagedShard(f"{path}: is damaged or no shard ({str(error)[:120]}). {_mend()}") from error
        raise StoreError(f"{path}: cannot be read: {error.strerror}. Mend that, and run again.") from error


def _take(file: Any, extent: Extent, rows: Numbers) -> NDArray[Any]:
    """Entries of the first axis, by number and in rising order: one call a run of neighbours."""
    taken = np.empty((len(rows), *extent.shape[1:]), extent.dtype)
    memory = taken.reshape(-1).view(np.uint8).data
    width = extent.row_bytes
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    edges = [0, *breaks.tolist(), len(rows)] if len(rows) else []
    for begin, end in pairwise(edges):
        _fill(file, extent.offset + int(rows[begin]) * width, memory[begin * width : end * width])
    return taken


def _fill(file: Any, offset: int, memory: memoryview) -> None:
    file.seek(offset)
    while len(memory):
        count = file.readinto(memory)
        if not count:
            raise OSError("it ends before its rows do")
        memory = memory[count:]


def _rows(file: Any, view: View, rows: Numbers) -> Rows:
    """Rows of a view by number, in rising order."""
    if view.offsets is None:
        return _take(file, view.values, rows)
    begins, ends = _take(file, view.offsets, rows), _take(file, view.offsets, rows + 1)
    if np.any(begins < 0) or np.any(ends < begins) or np.any(ends > view.values.shape[0]):
        raise OSError("the offsets of its frames are damaged")
    if np.any(begins[1:] < ends[:-1], where=np.diff(rows) > 0):
        raise OSError("the offsets of its frames overlap")
    parts = [_take(file, view.values, np.arange(a, b)) for a, b in zip(begins, ends, strict=True)]
    return Frames.of(np.concatenate(parts), [len(part) for part in parts])


def _shown(text: object) -> str:
    """What a file says of itself, fit for a terminal."""
    return "".join(letter for letter in str(text)[:100] if letter.isprintable())


def _check_head(path: Path, file: Any) -> EncoderInfo:
    if file.attrs.get("format") != FORMAT:
        if "fingerprint" in file.attrs:
            raise DamagedShard(f"{path}: was a shard, and its format is no word any more. {_mend()}")
        raise StoreError(f"{path}: is HDF5, but no shard of ser. Move it out of the cache.")
    version = int(file.attrs["format_version"])
    if version not in READABLE:
        raise StoreError(
            f"{path}: has shard format {version}, written by {_shown(file.attrs.get('writer', 'an unknown version'))}; "
            f"this is ser {__version__}, which reads formats {READABLE}. Use that version, or another --artifacts."
        )
    info = EncoderInfo.from_json(file.attrs["encoder"])
    if info.fingerprint != file.attrs["fingerprint"]:
        raise DamagedShard(f"{path}: its encoder does not match its fingerprint. {_mend()}")
    return info


def _view(path: Path, file: Any, name: str, info: EncoderInfo) -> View:
    ragged = is_ragged(name)
    layers = [f"{FRAMES}:{layer}" for layer in range(min(info.n_layers, WIDEST))] if ragged else []
    if info.dim * info.n_layers > WIDEST or (name not in layers if ragged else not name.isidentifier()):
        raise DamagedShard(f"{path}: has a view that no encoder gives. {_mend()}")
    values = _extent(path, file, f"view/{name}", "<f2" if ragged else "<f4")
    wanted = (info.dim,) if ragged or name == "pooled" else (info.n_layers, info.dim)
    narrow = ragged and len(values.shape) == 2 and 0 < values.shape[1] < info.dim  # frames may keep fewer numbers
    if values.shape[1:] != wanted and not narrow:
        raise DamagedShard(f"{path}: rows of '{name}' have the shape {values.shape[1:]}. {_mend()}")
    offsets = _extent(path, file, f"offset/{name}", "<i8") if ragged else None
    return View(values, _extent(path, file, f"crc/{name}", "<u4"), offsets)


def _extent(path: Path, file: Any, name: str, dtype: str) -> Extent:
    """Where a dataset lies. Raises StoreError where that is not in this file, DamagedShard for what was not written."""
    dataset = _member(path, file, name)
    shape, offset = dataset.shape, dataset.id.get_offset()
    plan = dataset.id.get_create_plist()
    if plan.get_layout() != h5py.h5d.CONTIGUOUS or plan.get_external_count():
        raise StoreError(
            f"{path}: '{name}' lies in other files or in pieces: no shard of ser. Move it out of the cache."
        )
    if shape is None or dataset.dtype != np.dtype(dtype):
        raise DamagedShard(f"{path}: '{name}' is {dataset.dtype}, wanted {dtype}. {_mend()}")
    extent = Extent(offset or 0, shape, np.dtype(dtype))
    if extent.nbytes and (offset is None or offset + extent.nbytes > path.stat().st_size):
        raise DamagedShard(f"{path}: '{name}' ends after the file does. {_mend()}")
    return extent


def _member(path: Path, file: Any, name: str) -> Any:
    """A group or dataset that stands in this very file: no link is followed, wherever it leads."""
    node = file
    for part in name.split("/"):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            raise DamagedShard(f"{path}: has no '{name}'. {_mend()}")
        if not isinstance(link, h5py.HardLink):
            raise StoreError(f"{path}: '{name}' leads elsewhere: no shard of ser. Move it out of the cache.")
        node = node[part]
    return node


def _mend() -> str:
    return "Run `ser cache repair`, then `ser extract` again: it fills in what is missing."
