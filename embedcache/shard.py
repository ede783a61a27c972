"""One shard: one HDF5 file of embeddings, complete or absent, each row checked when it is read.

The format, version 2 (attributes stand on the root):

    attribute  format           "ser-shard"
    attribute  format_version   2; version 1, which is read too, has no ragged views
    attribute  encoder          EncoderInfo as JSON
    attribute  fingerprint      SHA-256 that must equal that of `encoder`
    attribute  created, writer  when (UTC, ISO 8601) and by what version, for people
    dataset    key              (n,) 64 bytes: SHA-256 of the audio file's bytes, in hexadecimal
    dataset    view/<name>      (n, …) little-endian float32: one row a clip; of a ragged view `frames:N`,
                                (sum of T, dim) little-endian float16: the clips' frames of layer N, end to end
    dataset    offset/<name>    (n + 1,) int64, of ragged views alone: where each clip's frames begin and end
    dataset    crc/<name>       (n,) uint32: CRC-32 of the view's name, the row's key and the row's bytes

A shard is built in memory and written by plain file calls, so that a full disk is an ordinary error and a file of
this ending is always whole (`layout.atomic_write`). Shards are never changed afterwards.

This module alone imports h5py.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from . import __version__
from .encoder import EncoderInfo, Frames, Rows, Vectors, is_ragged
from .errors import StoreError
from .layout import atomic_write

FORMAT = "ser-shard"
FORMAT_VERSION = 2
READABLE = (1, 2)
SUFFIX = ".h5"
DENSE = 0.25  # from this share of a shard's rows on, one read of all is cheaper than many of some


@dataclass(frozen=True)
class Shard:
    """The head of one shard: what it holds, without the vectors."""

    path: Path
    info: EncoderInfo
    keys: tuple[str, ...]
    views: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> Shard:
        """Read the head. Raises StoreError for what is not a whole shard of this format."""
        with _file(path) as file:
            info = _check_head(path, file)
            keys = tuple(key.decode("ascii", "replace") for key in file["key"][:])
            views = tuple(sorted(file["view"]))
            for view in views:
                if not _rows_of(file, view) == len(file[f"crc/{view}"]) == len(keys):
                    raise StoreError(f"{path}: view '{view}' has not one row a key. {_mend(path)}")
        return cls(path, info, keys, views)

    def read(self, view: str, rows: NDArray[np.int64]) -> Vectors:
        """Rows of one view, in the order asked for. Raises StoreError naming the rows whose checksum is wrong."""
        with _file(self.path) as file:
            vectors = _take(file[f"view/{view}"], rows)
            stored = _take(file[f"crc/{view}"], rows)
        self._check(view, rows, stored, vectors)
        return vectors

    def read_frames(self, view: str, rows: NDArray[np.int64]) -> Frames:
        """The same of a ragged view."""
        with _file(self.path) as file:
            offsets, stored = file[f"offset/{view}"][:], _take(file[f"crc/{view}"], rows)
            if np.any(np.diff(offsets) < 0) or offsets[0] != 0 or offsets[-1] > len(file[f"view/{view}"]):
                raise StoreError(f"{self.path}: the offsets of '{view}' are damaged. {_mend(self.path)}")
            parts = [file[f"view/{view}"][offsets[row] : offsets[row + 1]] for row in rows]
            values = np.concatenate(parts or [file[f"view/{view}"][:0]])
        frames = Frames.of(values, [len(part) for part in parts])
        self._check(view, rows, stored, frames)
        return frames

    def _check(self, view: str, rows: NDArray[np.int64], stored: NDArray[Any], vectors: Rows) -> None:
        keys = [self.keys[row] for row in rows]
        wrong = [key for key, crc, row in zip(keys, stored, vectors, strict=True) if crc != _crc(view, key, row)]
        if wrong:
            raise StoreError(
                f"{self.path}: {len(wrong)} of {len(rows)} rows of '{view}' are damaged, the first for key "
                f"{wrong[0][:12]}. {_mend(self.path)}"
            )

    def verify(self) -> list[str]:
        """Every row of every view against its checksum: one complaint a damaged view."""
        complaints = []
        for view in self.views:
            try:
                (self.read_frames if is_ragged(view) else self.read)(view, np.arange(len(self.keys)))
            except StoreError as error:
                complaints.append(str(error))
        return complaints


def write_shard(folder: Path, info: EncoderInfo, keys: Sequence[str], rows: Mapping[str, Rows]) -> Shard:
    """Commit rows as a new shard in `folder`. Raises StoreError where it cannot be written; nothing is left then."""
    path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}{SUFFIX}"
    image = _image(info, keys, rows)
    advice = (
        "What was stored before is whole: make room or mend the folder's permissions, run again, and the rest is added."
    )
    with atomic_write(path, "wb", StoreError, advice) as file:
        file.write(image)
    return Shard(path, info, tuple(keys), tuple(sorted(rows)))


def _image(info: EncoderInfo, keys: Sequence[str], rows: Mapping[str, Rows]) -> bytes:
    """The bytes of the HDF5 file. Its own metadata carry checksums from version 1.10 of the format on."""
    with h5py.File("memory", "w", driver="core", backing_store=False, libver=("v110", "v110")) as file:
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["encoder"] = info.to_json()
        file.attrs["fingerprint"] = info.fingerprint
        file.attrs["created"] = datetime.now(UTC).isoformat(timespec="seconds")
        file.attrs["writer"] = f"ser {__version__}"
        file["key"] = np.array([key.encode("ascii") for key in keys], dtype="S64")
        for view, made in rows.items():
            stored = made if isinstance(made, Frames) else np.ascontiguousarray(made, dtype="<f4")
            if isinstance(stored, Frames):
                file[f"view/{view}"] = np.ascontiguousarray(stored.values, dtype="<f2")
                file[f"offset/{view}"] = stored.offsets
            else:
                file[f"view/{view}"] = stored
            crcs = [_crc(view, key, row) for key, row in zip(keys, stored, strict=True)]
            file[f"crc/{view}"] = np.array(crcs, dtype="<u4")
        file.flush()
        image: bytes = file.id.get_file_image()
        return image


def _rows_of(file: Any, view: str) -> int:
    return len(file[f"offset/{view}"]) - 1 if is_ragged(view) else len(file[f"view/{view}"])


def _crc(view: str, key: str, row: NDArray[Any]) -> int:
    return zlib.crc32(row.data, zlib.crc32(f"{view}:{key}:".encode()))


def _take(dataset: Any, rows: NDArray[np.int64]) -> NDArray[Any]:
    """`dataset[rows]` for rows in any order, h5py's own selection being slow and sorted."""
    if len(rows) > DENSE * len(dataset):
        taken: NDArray[Any] = dataset[:][rows]
        return taken
    sorted_rows, inverse = np.unique(rows, return_inverse=True)
    some: NDArray[Any] = dataset[sorted_rows][inverse]
    return some


@contextmanager
def _file(path: Path) -> Iterator[Any]:
    """An open HDF5 file; whatever HDF5 finds wrong with it becomes a StoreError."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"{path}: is damaged or no shard ({str(error)[:120]}). {_mend(path)}") from error


def _check_head(path: Path, file: Any) -> EncoderInfo:
    if file.attrs.get("format") != FORMAT:
        raise StoreError(f"{path}: is HDF5, but no shard of ser. Move it out of the cache.")
    version = int(file.attrs["format_version"])
    if version not in READABLE:
        raise StoreError(
            f"{path}: has shard format {version}, written by {file.attrs.get('writer', 'an unknown version')}; this is "
            f"ser {__version__}, which reads formats {READABLE}. Use that version of ser, or another --artifacts."
        )
    info = EncoderInfo.from_json(file.attrs["encoder"])
    if info.fingerprint != file.attrs["fingerprint"]:
        raise StoreError(f"{path}: its encoder does not match its fingerprint. {_mend(path)}")
    return info


def _mend(path: Path) -> str:
    return f"Remove {path.name} and run `ser extract` again: it fills in what is missing."
