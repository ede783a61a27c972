"""Removal of stores, and of the lists of clips of datasets, by name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..artifacts import Artifacts
from ..errors import StoreError, UnknownName
from ..files.atomic import sync_folder
from ..text import count
from .listing import names_of
from .store import store_folders


@dataclass(frozen=True)
class Removable:
    """A store, or the files of a dataset, that can be removed."""

    about: str  # a line for people: what would be lost
    paths: tuple[Path, ...]


def find_removable(artifacts: Artifacts, names: Sequence[str]) -> list[Removable]:
    """Return what is called by these names: stores by folder or encoder, and extracted or imported datasets.

    Raises UnknownName for a name that nothing has, StoreError if a name stands for a dataset and for a store.
    """
    stores = {folder: names_of(folder) for folder in store_folders(artifacts.cache)}
    datasets = {path.stem: path for path in sorted(artifacts.manifests.glob("*.csv"))}
    found: dict[str, Removable] = {}
    for name in names:
        matches = [folder for folder, called in stores.items() if name in called]
        if matches and name in datasets:
            full = ", ".join(folder.name for folder in matches)
            raise StoreError(f"'{name}' is a dataset and an encoder; wanted one of them. Name the store {full}.")
        if not matches and name not in datasets:
            raise UnknownName("store or dataset", name, {*datasets, *(n for called in stores.values() for n in called)})
        found |= {folder.name: _store(folder) for folder in matches}
        found |= {f"dataset {name}": _dataset(artifacts, name)} if name in datasets else {}
    return list(found.values())


def remove(what: Removable) -> None:
    """Remove files and folders. Raises StoreError if one of them cannot be removed."""
    for path in what.paths:
        try:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
            sync_folder(path.parent)
        except OSError as error:
            raise StoreError(f"{path}: cannot be removed: {error.strerror or error}. Check its permissions.") from error


def _store(folder: Path) -> Removable:
    shards = [path for path in folder.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in shards) / 1e6
    return Removable(f"store {folder.name}: {count(len(shards), 'file')}, {size:.1f} MB", (folder,))


def _dataset(artifacts: Artifacts, name: str) -> Removable:
    paths = tuple(path for path in _files_of(artifacts, name) if path.exists())
    return Removable(f"dataset {name}: its list of clips; its vectors stay in their stores", paths)


def _files_of(artifacts: Artifacts, name: str) -> Iterator[Path]:
    yield from (artifacts.manifest(name), artifacts.keys(name), artifacts.copies(name), artifacts.skipped(name))
