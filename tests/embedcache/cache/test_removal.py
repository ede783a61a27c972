"""What `ser cache rm` removes: what is named, and nothing else."""

from pathlib import Path

import pytest

from embedcache import Artifacts, StoreError, UnknownName, find_stores
from embedcache.cache.removal import find_removable, remove


def files(place: Artifacts) -> set[str]:
    return {path.relative_to(place.root).as_posix() for path in place.root.rglob("*") if path.is_file()}


def test_a_store_is_removed_with_its_folder(artifacts: Artifacts) -> None:
    (store,) = find_stores(artifacts.cache)
    (found,) = find_removable(artifacts, ["mfcc", store.folder.name])
    assert found.about.startswith(f"store {store.folder.name}: ")
    before = files(artifacts)
    remove(found)
    assert not store.folder.exists()
    assert {name for name in before - files(artifacts) if store.folder.name not in name} == set()


def test_a_dataset_is_removed_without_its_vectors(artifacts: Artifacts) -> None:
    artifacts.keys("ravdess").write_text("{}")
    before = files(artifacts)
    (found,) = find_removable(artifacts, ["ravdess"])
    remove(found)
    assert before - files(artifacts) == {"manifests/ravdess.csv", "manifests/ravdess.keys.json"}


def test_a_name_of_nothing_is_told(artifacts: Artifacts) -> None:
    with pytest.raises(UnknownName, match="no store or dataset 'mfc'; have .*did you mean 'mfcc'"):
        find_removable(artifacts, ["mfc"])


def test_a_name_of_two_things_is_a_question(artifacts: Artifacts) -> None:
    artifacts.manifest("ravdess").rename(artifacts.manifest("mfcc"))
    with pytest.raises(
        StoreError, match="'mfcc' is a dataset and an encoder; wanted one of them. Name the store mfcc-"
    ):
        find_removable(artifacts, ["mfcc"])


def test_a_link_to_a_store_is_removed_alone(artifacts: Artifacts, tmp_path: Path) -> None:
    (store,) = find_stores(artifacts.cache)
    place = store.folder.rename(tmp_path / store.folder.name)
    store.folder.symlink_to(place)
    for one in find_removable(artifacts, ["mfcc"]):
        remove(one)
    assert not store.folder.is_symlink()
    assert list(place.glob("*.h5"))
