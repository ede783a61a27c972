"""What `ser cache ls` shows: the stores of a cache by name, and a row of facts for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..artifacts import Artifacts
from ..errors import StoreError, UnknownName
from ..manifest import Manifest
from .maintenance import StoreSummary, hours, summarise
from .store import store_folders

COLUMNS = ("store", "views", "clips", "hours", "MB", "shards", "format", "written", "by", "vectors")


def stores_named(artifacts: Artifacts, names: Sequence[str] = ()) -> list[Path]:
    """Return the folders of all stores, or of those called `names`: a store's folder name, or its encoder.

    Raises StoreError for an empty cache, UnknownName for a name that no store has.
    """
    folders = store_folders(artifacts.cache)
    if not folders:
        raise StoreError(f"{artifacts.cache}: holds no vectors. Run `ser extract` first.")
    by_name = {name for folder in folders for name in names_of(folder)}
    for name in names:
        if name not in by_name:
            raise UnknownName("store", name, by_name, "`ser extract` makes one")
    return [folder for folder in folders if not names or names_of(folder) & set(names)]


def list_stores(artifacts: Artifacts, names: Sequence[str] = ()) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return a row of COLUMNS for each store, and a sentence for each shard that cannot be opened."""
    manifests = manifests_in(artifacts)
    summaries = [summarise(folder) for folder in stores_named(artifacts, names)]
    return [_row(one, manifests) for one in summaries], [fault for one in summaries for fault in one.faults]


def manifests_in(artifacts: Artifacts) -> list[Manifest]:
    """Every manifest of an output folder, those of augmented copies included. Their speakers are not checked."""
    return [Manifest.from_csv(path, check_speakers=False) for path in artifacts.manifest_paths]


def names_of(folder: Path) -> set[str]:
    """Return the names of a store: that of its folder, and that of its encoder as part of a folder's name."""
    return {folder.name, folder.name.rpartition("-")[0]}


def _row(store: StoreSummary, manifests: Sequence[Manifest]) -> tuple[str, ...]:
    return (
        store.folder.name,
        ",".join(store.views),
        str(len(store.keys)),
        f"{hours(store, manifests):.2f}",
        f"{store.nbytes / 1e6:.1f}",
        str(store.shards),
        ",".join(map(str, store.formats)),
        store.created[:16].replace("T", " "),
        ", ".join(store.writers),
        "imported" if store.info and store.info.is_imported else "extracted" if store.info else "",
    )
