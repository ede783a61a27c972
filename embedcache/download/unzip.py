"""A zip file into a folder: everything in it, or nothing; no file that is there is changed, none leaves the folder."""

from __future__ import annotations

import filecmp
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ..errors import DataError, complain
from ..files.atomic import sync_folder
from .http import AGAIN, writing

LARGEST = 20 << 30  # bytes, unpacked
MEMBERS = 200_000
RATIO = 100  # unpacked to packed: sound shrinks to a half, a bomb to a thousandth
UNREADABLE = (  # what the reader of zips raises for damage: it says BadZipFile for most of it, not for all
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, NotImplementedError, OverflowError, RuntimeError, ValueError),
)
SMALL = 100 << 20  # bytes that are unpacked whatever their ratio: nobody is hurt by them


class Unsound(DataError):
    """An archive that is damaged, or that no honest packer has made."""


def unpack(archive: Path, folder: Path) -> dict[str, int]:
    """Put the files of a zip below `folder`; gives their paths in it, with their sizes in bytes.

    Hidden files are left out, as where clips are read. Raises Unsound for an archive that cannot be used, and
    DataError where a file of that name with another content is there, or nothing can be written.
    """
    hidden = folder / f".unpacking-{archive.name.lstrip('.')}"  # beside its place, so that a rename suffices
    with writing(folder):
        shutil.rmtree(hidden, ignore_errors=True)  # of a run that was killed
        try:
            with _opened(archive) as packed:
                members = _members(packed, archive)
                for name, member in members.items():
                    _extract(packed, member, hidden / name)
            _refuse_to_overwrite(hidden, folder, members)
            for name in members:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (hidden / name).replace(folder / name)
            for place in {(folder / name).parent for name in members}:
                sync_folder(place)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    return {name: member.file_size for name, member in members.items()}


def stray(path: str, root: Path) -> str:
    """Why a path that a stranger wrote is not one of a file below `root`; "" where it is."""
    if not path or not path.isprintable() or any(character in path for character in '\\:*?"<>|'):
        return "holds characters that no name has"
    parts = path.split("/")  # not PurePath, which makes "a//b" and "./a" good
    if any(part in ("", ".", "..") or part != part.strip() or part.endswith(".") for part in parts):
        return "is not a plain path below a folder"
    try:
        inside = (root / path).resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        inside = False
    return "" if inside else "leads out of the folder"


def clashes(paths: Sequence[str]) -> list[str]:
    """The paths that stand for one file, at least where a system does not tell `a` from `A`."""
    counts = Counter(path.casefold() for path in paths)
    return [path for path in paths if counts[path.casefold()] > 1]


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """The archive. Whatever the reader of zips finds wrong becomes Unsound."""
    try:
        with zipfile.ZipFile(archive) as packed:
            yield packed
    except UNREADABLE as error:
        with archive.open("rb") as file:
            begin = file.read(40)
        raise Unsound(
            f"{archive.name}: not a sound zip: {str(error).rstrip('.')}; it begins with {begin!r}. It was removed; "
            "the same command fetches it anew. Where it stays so, see with a browser what the address gives."
        ) from error


def _members(packed: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    """The files to unpack, by path. Raises Unsound where any is not what a dataset holds."""
    files = [member for member in packed.infolist() if not member.is_dir()]
    faults = [f"{member.orig_filename!r}: {fault}" for member in files if (fault := _fault(member, archive.parent))]
    faults += [f"{name!r}: stands there more than once" for name in clashes([member.filename for member in files])]
    total = sum(member.file_size for member in files)
    allowed = min(LARGEST, max(RATIO * archive.stat().st_size, SMALL))
    if total > allowed:
        faults.append(f"{total:,} bytes when unpacked; from this archive at most {allowed:,} are")
    if len(files) > MEMBERS:
        faults.append(f"{len(files):,} files; at most {MEMBERS:,} are unpacked")
    if faults:
        advice = "Nothing was unpacked, the archive was removed. Get it by hand from where it is published, and look."
        raise Unsound(complain(f"{archive.name} holds what a dataset does not", faults, advice))
    return {member.filename: member for member in files if not _hidden(member.filename)}


def _fault(member: zipfile.ZipInfo, folder: Path) -> str:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or a device; wanted plain files"
    if member.flag_bits & 1:
        return "is encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is packed by method {member.compress_type}; wanted stored or deflated"
    return stray(member.orig_filename, folder)  # `filename` ends at a NUL


def _hidden(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts)


def _extract(packed: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """One file, synced. The reader gives no byte beyond the declared size, and then compares the checksum."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with packed.open(member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 18)
        file.flush()
        os.fsync(file.fileno())
    if target.stat().st_size != member.file_size:
        raise zipfile.BadZipFile(f"{member.filename} ends too early")


def _refuse_to_overwrite(hidden: Path, folder: Path, names: Iterable[str]) -> None:
    other = [name for name in names if _is_other(hidden / name, folder / name)]
    if other:
        advice = f"Nothing was unpacked. Move them away, or choose another --root. {AGAIN}"
        raise DataError(complain(f"{folder}: files of the same name with another content are there", other, advice))


def _is_other(new: Path, old: Path) -> bool:
    return os.path.lexists(old) and not (old.is_file() and filecmp.cmp(new, old, shallow=False))
