"""Unpack a zip file into a folder, completely or not at all.

No existing file is changed, and no file is written outside the folder.
"""

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
from .http import RESUME_ADVICE, writing

LARGEST = 20 << 30  # maximum size of all files after unpacking, in bytes
MEMBERS = 200_000  # maximum number of files in an archive
RATIO = 100  # maximum ratio of unpacked to packed size: audio shrinks to about a half, a zip bomb to a thousandth
SMALL = 100 << 20  # unpacked size in bytes up to which any ratio is accepted, because so little data does no harm
DAMAGE_ERRORS = (  # what zipfile raises for damaged archives: mostly BadZipFile, but not always
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, NotImplementedError, OverflowError, RuntimeError, ValueError),
)


class BadArchive(DataError):
    """An archive that is damaged or has contents that no dataset has."""


def unpack(archive: Path, folder: Path) -> dict[str, int]:
    """Unpack the files of a zip archive below `folder`. Return their sizes in bytes by path relative to `folder`.

    Hidden files are left out, as they are when clips are read. Raises BadArchive if the archive cannot be used, and
    DataError if a file of the same name with different content exists, or if a file cannot be written.
    """
    # Files are unpacked into a hidden folder on the same file system, so that a rename puts them in place.
    hidden = folder / f".unpacking-{archive.name.lstrip('.')}"
    with writing(folder):
        shutil.rmtree(hidden, ignore_errors=True)  # a killed run may have left it
        try:
            with _open_archive(archive) as packed:
                members = _check_members(packed, archive)
                for name, member in members.items():
                    _extract(packed, member, hidden / name)
            _refuse_to_overwrite(hidden, folder, members)
            _move_into_place(hidden, folder, members)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    return {name: member.file_size for name, member in members.items()}


def path_fault(path: str, root: Path) -> str:
    """Return why a path from an untrusted source cannot name a file below `root`, or "" if it can."""
    if not path or not path.isprintable() or any(character in path for character in '\\:*?"<>|'):
        return "contains characters that are not allowed in a file name"
    parts = path.split("/")  # not PurePath, which accepts "a//b" and "./a"
    if any(part in ("", ".", "..") or part != part.strip() or part.endswith(".") for part in parts):
        return "is not a plain relative path"
    try:
        inside = (root / path).resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # RuntimeError: links that form a circle
        inside = False
    return "" if inside else "leads outside the folder"


def duplicates(paths: Sequence[str]) -> list[str]:
    """Return the paths that name the same file as another path, on a file system that treats `a` and `A` as equal."""
    counts = Counter(path.casefold() for path in paths)
    return [path for path in paths if counts[path.casefold()] > 1]


@contextmanager
def _open_archive(archive: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive. An error of zipfile inside the block becomes a BadArchive."""
    try:
        with zipfile.ZipFile(archive) as packed:
            yield packed
    except DAMAGE_ERRORS as error:
        with archive.open("rb") as file:
            start = file.read(40)
        raise BadArchive(
            f"{archive.name}: not a valid zip file: {str(error).rstrip('.')}; it begins with {start!r}. The file was "
            "removed. Run the same command to fetch it again. If the error stays, open the address in a browser."
        ) from error


def _check_members(packed: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the files to unpack, by path. Raises BadArchive if the archive has contents that no dataset has."""
    files = [member for member in packed.infolist() if not member.is_dir()]
    faults = [
        f"{member.orig_filename!r}: {fault}" for member in files if (fault := _member_fault(member, archive.parent))
    ]
    faults += [f"{name!r}: is listed more than once" for name in duplicates([member.filename for member in files])]
    total = sum(member.file_size for member in files)
    limit = min(LARGEST, max(RATIO * archive.stat().st_size, SMALL))
    if total > limit:
        faults.append(f"{total:,} bytes after unpacking; the maximum for this archive is {limit:,}")
    if len(files) > MEMBERS:
        faults.append(f"{len(files):,} files; the maximum is {MEMBERS:,}")
    if faults:
        advice = "Nothing was unpacked, and the archive was removed. Download it by hand and check its contents."
        raise BadArchive(*complain(f"{archive.name} has contents that no dataset has", faults, advice))
    return {member.filename: member for member in files if not _is_hidden(member.filename)}


def _member_fault(member: zipfile.ZipInfo, folder: Path) -> str:
    """Return why a member of an archive is refused, or ""."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or a device; wanted a regular file"
    if member.flag_bits & 1:
        return "is encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"has compression method {member.compress_type}; wanted stored or deflated"
    return path_fault(member.orig_filename, folder)  # not `filename`, which ends at a NUL character


def _is_hidden(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts)


def _extract(packed: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Write one file and sync it to disk.

    zipfile reads at most the declared size, and then compares the checksum. A shorter file is an error here.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with packed.open(member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 18)
        file.flush()
        os.fsync(file.fileno())
    if target.stat().st_size != member.file_size:
        raise zipfile.BadZipFile(f"{member.filename} ends too early")


def _refuse_to_overwrite(hidden: Path, folder: Path, names: Iterable[str]) -> None:
    different = [name for name in names if _exists_with_other_content(hidden / name, folder / name)]
    if different:
        advice = f"Nothing was unpacked. Move these files away, or choose another --root. {RESUME_ADVICE}"
        raise DataError(*complain(f"{folder}: files with these names exist with different content", different, advice))


def _exists_with_other_content(new: Path, old: Path) -> bool:
    return os.path.lexists(old) and not (old.is_file() and filecmp.cmp(new, old, shallow=False))


def _move_into_place(hidden: Path, folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (hidden / name).replace(folder / name)
    for parent in {(folder / name).parent for name in names}:
        sync_folder(parent)
