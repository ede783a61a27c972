"""Looking after a cache: nothing that was stored is lost, whatever is damaged, merged or read meanwhile."""

import os
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.stores import INFO, key, ragged, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from embedcache import EmbeddingStore, StoreError
from embedcache.cache import maintenance as upkeep
from embedcache.cache.maintenance import compact, repair, summarise, verify
from embedcache.cache.shard import write_shard

MADE = rows(60)


def names(numbers: range | list[int]) -> list[str]:
    return [key(n) for n in numbers]


def fill(store: EmbeddingStore, *parts: range) -> EmbeddingStore:
    for part in parts:
        store.write(names(part), {view: made[part.start : part.stop] for view, made in MADE.items()})
    return store


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    """60 rows in three shards."""
    return fill(EmbeddingStore.of(tmp_path, INFO), range(30), range(30, 31), range(31, 60))


def check(store: EmbeddingStore, numbers: range | list[int] = range(60)) -> None:
    """These rows are there, right, and nothing is wrong with any."""
    again = EmbeddingStore(store.folder)
    for view, made in MADE.items():
        np.testing.assert_array_equal(again.read(names(numbers), view), made[list(numbers)])
    assert verify(store.folder) == []


def largest(store: EmbeddingStore) -> Path:
    return max(store.folder.glob("*.h5"), key=lambda path: path.stat().st_size)


def damage(path: Path, view: str, row: int) -> None:
    with h5py.File(path, "r+") as file:
        file[f"view/{view}"][row] += 1


def test_a_survey_says_what_there_is_and_what_is_wrong(store: EmbeddingStore) -> None:
    store.write([key(1)], {"std": rows(1)["layers"]})
    held = summarise(store.folder)
    assert (held.info, len(held.keys), held.views) == (INFO, 60, ("layers", "pooled", "std"))
    assert (held.shards, held.formats, held.faults) == (4, (2,), ())
    assert held.nbytes == sum(path.stat().st_size for path in store.folder.glob("*.h5"))
    assert held.created.startswith("20")
    assert held.writers == (f"ser {upkeep_version()}",)
    largest(store).write_bytes(b"nothing")
    held = summarise(store.folder)
    assert (held.shards, len(held.faults)) == (4, 1)
    assert len(held.keys) in (30, 31)


def upkeep_version() -> str:
    from embedcache import __version__

    return __version__


def test_a_repair_drops_the_damaged_rows_and_keeps_the_others(store: EmbeddingStore) -> None:
    path = largest(store)
    damage(path, "pooled", 7)
    damage(path, "layers", 8)
    damage(path, "layers", 7)
    assert len(verify(store.folder)) == 2
    mended = repair(store.folder)
    assert (mended.dropped, mended.set_aside) == ({"layers": names([7, 8]), "pooled": names([7])}, ())
    assert not path.exists()
    check(store, [*range(7), *range(9, 60)])
    again = EmbeddingStore(store.folder)
    assert again.missing(names(range(60)), ["pooled"]) == names([7])
    assert again.missing(names(range(60)), ["layers"]) == names([7, 8])
    assert repair(store.folder).rows == 0


def test_a_repair_sets_aside_what_cannot_be_opened(store: EmbeddingStore) -> None:
    path = largest(store)
    path.write_bytes(path.read_bytes()[:-100])
    assert "is damaged or not a shard" in verify(store.folder)[0]
    mended = repair(store.folder)
    assert [aside.name for aside in mended.set_aside] == [f"{path.name}.damaged"]
    check(store, range(30, 60))


def test_a_shard_whose_keys_are_none_is_set_aside(store: EmbeddingStore) -> None:
    path = largest(store)
    with h5py.File(path, "r+") as file:
        file["key"][3] = b"no key"
    assert "holds data that are not keys" in verify(store.folder)[0]
    assert len(repair(store.folder).set_aside) == 1
    check(store, range(30, 60))


def test_a_survey_of_a_shard_whose_keys_are_none_tells_of_the_others(store: EmbeddingStore) -> None:
    with h5py.File(largest(store), "r+") as file:
        file["key"][3] = b"no key"
    held = summarise(store.folder)
    assert (held.info, held.shards, len(held.keys)) == (INFO, 3, 30)
    assert "holds data that are not keys" in held.faults[0]


def test_a_repair_touches_nothing_foreign(store: EmbeddingStore) -> None:
    foreign = store.folder / "a.h5"
    with h5py.File(foreign, "w") as file:
        file["data"] = [1]
    damage(largest(store), "pooled", 7)
    with pytest.raises(StoreError, match="is an HDF5 file, but not a shard of ser. Move it out"):
        repair(store.folder)
    assert len(list(store.folder.glob("*.h5"))) == 4


def test_a_repair_removes_what_killed_writers_left_long_ago(store: EmbeddingStore) -> None:
    old, young, future = (store.folder / f".{name}.part" for name in ("old", "young", "future"))
    for part, age in ((old, 2), (young, 0), (future, -400)):
        part.write_bytes(b"half")
        then = time.time() - age * 86_400
        os.utime(part, (then, then))
    assert repair(store.folder).removed_parts == 1
    assert (old.exists(), young.exists(), future.exists()) == (False, True, True)


def test_compaction_merges_small_shards_and_repeats_nothing(store: EmbeddingStore) -> None:
    fill(store, range(20, 50))  # a second writer's, at the same time
    store.write([key(50), key(51)], {"frames:1": ragged(3, 4), "std": rows(2)["layers"]})
    merged = compact(store.folder)
    assert merged.before == 5
    assert merged.after == 2  # rows with frames, and rows without
    check(store)
    again = EmbeddingStore(store.folder)
    assert sum(len(shard) for shard in again.shards) == 60 + 2
    np.testing.assert_array_equal(again.read_frames([key(51), key(50)], 1)[1], ragged(3, 4)[0])
    assert compact(store.folder) == upkeep.CompactResult(2, 2, 0)
    check(store)


def test_shards_that_are_large_enough_stay_as_they_are(store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "MERGED_BYTES", 30 * 64)  # of 30 rows of (3 + 1) x 4 float32
    before = {path.name for path in store.folder.glob("*.h5")}
    compact(store.folder)
    assert largest(store).name in before
    check(store)
    assert compact(store.folder).freed == 0


@settings(deadline=None, max_examples=25)
@given(
    parts=st.lists(st.tuples(st.integers(0, 59), st.integers(1, 20)), min_size=1, max_size=8),
    size=st.integers(100, 10_000),
)
def test_no_compaction_loses_or_repeats_a_row(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int]], size: int
) -> None:
    """Shards that overlap in any way, merged into shards of any size."""
    store = EmbeddingStore.of(tmp_path_factory.mktemp("c"), INFO)
    fill(store, *(range(begin, min(begin + length, 60)) for begin, length in parts))
    held = sorted({n for begin, length in parts for n in range(begin, min(begin + length, 60))})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upkeep, "MERGED_BYTES", size)
        compact(store.folder)
        check(store, held)
        assert sum(len(shard) for shard in EmbeddingStore(store.folder).shards) == len(held)
        for _ in range(3):  # what was large because of its repetitions may be small now
            compact(store.folder)
        again = EmbeddingStore(store.folder)
        assert compact(store.folder) == upkeep.CompactResult(len(again.shards), len(again.shards), 0)


def test_damage_is_not_carried_into_a_merged_shard(store: EmbeddingStore) -> None:
    damage(largest(store), "pooled", 7)
    before = sorted(store.folder.iterdir())
    with pytest.raises(StoreError, match="ser cache repair"):
        compact(store.folder)
    assert sorted(store.folder.iterdir()) == before


def test_readers_go_on_while_shards_are_merged_under_them(store: EmbeddingStore) -> None:
    """A reader that had the old shards open, before, during and after."""
    reader = EmbeddingStore(store.folder)
    reader.missing(names(range(60)))
    compact(store.folder)
    for view, made in MADE.items():
        np.testing.assert_array_equal(reader.read(names(range(60)), view), made)
    ended, right = threading.Event(), []

    def read() -> None:
        mine = EmbeddingStore(store.folder)
        while not ended.is_set():
            right.append(np.array_equal(mine.read(names(range(60)), "layers"), MADE["layers"]))
            right.append(not EmbeddingStore(store.folder).missing(names(range(60))))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in readers:
        thread.start()
    for n in range(15):
        fill(EmbeddingStore(store.folder), range(n, n + 20))
        compact(store.folder)
    ended.set()
    for thread in readers:
        thread.join()
    assert len(right) > 10
    assert all(right)
    check(store)


def test_a_compaction_that_is_stopped_has_lost_nothing(store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after the merged shard is committed: every row lies in two shards until the next time."""
    monkeypatch.setattr(upkeep, "_remove", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        compact(store.folder)
    monkeypatch.undo()
    assert len(list(store.folder.glob("*.h5"))) == 4
    check(store)
    assert compact(store.folder).after == 1
    check(store)


def test_damaged_offsets_of_frames_cost_no_other_view(store: EmbeddingStore) -> None:
    store.write([key(50), key(51)], {"frames:1": ragged(3, 4), "std": rows(2)["layers"]})
    path = next(shard.path for shard in store.shards if "std" in shard.views)
    with h5py.File(path, "r+") as file:
        file["offset/frames:1"][1] = 99
    mended = repair(store.folder)
    assert (mended.dropped, mended.set_aside) == ({"frames:1": names([50, 51])}, ())
    np.testing.assert_array_equal(EmbeddingStore(store.folder).read(names([50, 51]), "std"), rows(2)["layers"])


def test_a_file_that_goes_while_hdf5_opens_it_is_not_taken_for_damaged(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 looks a file up by name once more, after it has opened it, and says nothing of why it failed."""
    path, real = largest(store), h5py.File

    def late(name: object, *more: object, **options: object) -> object:
        if name == path and path.exists():
            path.unlink()
            raise OSError("can't retrieve stat info for file")
        return real(name, *more, **options)

    monkeypatch.setattr(h5py, "File", late)
    assert len(EmbeddingStore(store.folder).keys) in (30, 31)


def test_a_link_that_leads_nowhere_is_a_fault(store: EmbeddingStore) -> None:
    (store.folder / "zz.h5").symlink_to("/nowhere")
    assert "is a broken link. Remove it" in verify(store.folder)[0]
    assert summarise(store.folder).shards == 4
    for work in (compact, EmbeddingStore, repair):
        with pytest.raises(StoreError, match="is a broken link"):
            work(store.folder)


def test_layers_that_there_are_not_are_refused(store: EmbeddingStore) -> None:
    store.write([key(50)], {"frames:1": ragged(3)})
    for layer in (3, -4, 99):
        with pytest.raises(StoreError, match=f"got layer {layer}; wanted 0 to 2"):
            store.read_frames([key(50)], layer)


def test_a_shard_that_is_merged_as_soon_as_it_is_written_is_found(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write_shard

    def and_merged(*arguments: object) -> Path:
        path = written(*arguments)
        compact(store.folder)
        return path

    monkeypatch.setattr("embedcache.cache.store.write_shard", and_merged)
    fill(store, range(50, 60))
    assert not store.missing(names(range(60)))
    assert all(shard.path.exists() for shard in store.shards)


def test_a_store_whose_shards_keep_vanishing_is_an_error(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = EmbeddingStore(store.folder)

    def vanish(self: EmbeddingStore) -> None:
        for path in store.folder.glob("*.h5"):
            path.unlink()
        write_shard(store.folder, INFO, names(range(60)), MADE)

    refresh = EmbeddingStore.refresh
    monkeypatch.setattr(EmbeddingStore, "refresh", lambda self: (refresh(self), vanish(self)))
    vanish(reader)
    monkeypatch.setattr("embedcache.cache.shard.RETRY_SECONDS", 0.5)
    with pytest.raises(StoreError, match="change faster than they are read"):
        reader.read(names(range(60)), "pooled")
