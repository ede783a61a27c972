"""Shards and stores: what is committed is read back bit for bit, and nothing wrong is read silently."""

import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.stores import INFO, key, ragged, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from embedcache import EmbeddingStore, EncoderInfo, StoreError, UnknownName, find_stores
from embedcache.cache import shard as module
from embedcache.cache.key_index import Index, pack, unpack
from embedcache.cache.shard import write_shard


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    """40 rows in three shards."""
    store = EmbeddingStore.of(tmp_path, INFO)
    made = rows(40)
    for a, b in ((0, 25), (25, 26), (26, 40)):
        store.write([key(n) for n in range(a, b)], {view: r[a:b] for view, r in made.items()})
    return store


def largest(store: EmbeddingStore) -> Path:
    """The shard with rows 0 to 24."""
    return max(store.folder.glob("*.h5"), key=lambda path: path.stat().st_size)


@settings(deadline=None, max_examples=30)
@given(wanted=st.lists(st.integers(0, 39), max_size=60))
def test_rows_come_back_in_any_order(tmp_path_factory: pytest.TempPathFactory, wanted: list[int]) -> None:
    folder = tmp_path_factory.mktemp("s")
    store = EmbeddingStore.of(folder, INFO)
    made = rows(40)
    for part in (slice(0, 25), slice(25, 40)):
        store.write([key(n) for n in range(40)[part]], {view: r[part] for view, r in made.items()})
    again = EmbeddingStore(store.folder)
    if not wanted:
        assert len(again.read([], "pooled")) == 0
        return
    for view in ("pooled", "layers"):
        np.testing.assert_array_equal(again.read([key(n) for n in wanted], view), made[view][wanted])


@pytest.mark.parametrize("shards", [1, 20])
def test_a_read_takes_no_memory_beside_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 100_000)
    wide = replace(INFO, dim=256)
    store = EmbeddingStore.of(tmp_path, wide)
    made = np.random.default_rng(0).standard_normal((2000, 3, 256), np.float32)
    order = np.random.default_rng(1).permutation(2000)
    for part in np.array_split(order, shards):
        store.write([key(n) for n in part], {"layers": made[part]})
    keys = [key(n) for n in range(2000)]
    store.missing(keys, ["layers"])
    tracemalloc.start()
    got = store.read(keys, "layers")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(got, made)
    assert peak < got.nbytes * 1.2  # 6.1 MB, and lists of what lies where


def test_missing_is_by_view_once_and_in_order(store: EmbeddingStore) -> None:
    assert store.missing([key(50), key(3), key(41), key(50)]) == [key(50), key(41)]
    assert store.missing([key(3)], ["pooled", "std"]) == [key(3)]
    assert store.keys == {key(n) for n in range(40)}
    with pytest.raises(StoreError, match=r"no 'pooled' vectors for 1 of 2 clips. Run `ser extract`"):
        store.read([key(1), key(99)], "pooled")


def test_verify_is_silent_on_a_sound_store(store: EmbeddingStore) -> None:
    assert EmbeddingStore(store.folder).verify() == []


def test_a_damaged_row_is_named_and_others_are_still_read(store: EmbeddingStore) -> None:
    path = largest(store)
    with h5py.File(path, "r+") as file:
        file["view/pooled"][7, 2] += 1
    damaged = EmbeddingStore(store.folder)
    with pytest.raises(StoreError, match=f"1 rows of 'pooled' are damaged, the first for key {key(7)[:12]}"):
        damaged.read([key(7)], "pooled")
    damaged.read([key(6), key(8)], "pooled")
    assert len(damaged.verify()) == 1


def test_a_row_under_the_key_of_another_is_damage(store: EmbeddingStore) -> None:
    """Two keys change places, so that each is whole and belongs to a whole row: of another recording."""
    path = largest(store)
    with h5py.File(path, "r+") as file:
        keys = file["key"][:]
        file["key"][:] = keys[[1, 0, *range(2, len(keys))]]
    with pytest.raises(StoreError, match="1 row of 'pooled' is damaged|rows of 'pooled' are damaged"):
        EmbeddingStore(store.folder).read([key(0)], "pooled")
    np.testing.assert_array_equal(EmbeddingStore(store.folder).read([key(5)], "pooled"), rows(40)["pooled"][[5]])


def test_a_shard_of_another_version_is_refused(store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORMAT_VERSION", 3)
    monkeypatch.setattr(module, "__version__", "9.9\x1b[31m")  # a terminal would obey it
    write_shard(store.folder, INFO, [key(77)], rows(1))
    monkeypatch.undo()
    with pytest.raises(
        StoreError, match=r"has shard format 3, written by ser 9.9.31m; this is ser .*, which reads formats \(1, 2\)"
    ):
        EmbeddingStore(store.folder)


def test_a_shard_of_the_first_version_is_read(store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORMAT_VERSION", 1)
    write_shard(store.folder, INFO, [key(77)], rows(1))
    np.testing.assert_array_equal(EmbeddingStore(store.folder).read([key(77)], "pooled"), rows(1)["pooled"])


def test_frames_come_back_clip_by_clip_whatever_shard_they_lie_in(store: EmbeddingStore) -> None:
    first, second = ragged(3, 1, 4), ragged(0, 7)
    layer = INFO.n_layers - 1
    store.write([key(50), key(51), key(52)], {f"frames:{layer}": first})
    store.write([key(60), key(61)], {f"frames:{layer}": second, **rows(2)})
    again = EmbeddingStore(store.folder)
    assert again.verify() == []
    got = again.read_frames([key(61), key(50), key(52), key(60)])
    for ours, wanted in zip(got, (second[1], first[0], first[2], second[0]), strict=True):
        np.testing.assert_array_equal(ours, wanted)
    assert len(again.read_frames([], layer)) == 0
    with pytest.raises(StoreError, match=r"no 'frames:0' vectors for 1 of 1 clips. Run `ser extract --views frames:0`"):
        again.read_frames([key(50)], 0)
    with pytest.raises(StoreError, match=r"rows of different lengths. Use read_frames"):
        again.read([key(50)], f"frames:{layer}")


@pytest.mark.parametrize("part", ["offset", "view", "crc"])
def test_damage_to_frames_is_noticed(store: EmbeddingStore, part: str) -> None:
    import h5py

    path = write_shard(store.folder, INFO, [key(50), key(51)], {"frames:1": ragged(3, 4)})
    with h5py.File(path, "r+") as file:
        file[f"{part}/frames:1"][1] = 1
    assert len(EmbeddingStore(store.folder).verify()) == 1
    with pytest.raises(StoreError, match="damaged"):
        EmbeddingStore(store.folder).read_frames([key(50), key(51)], 1)


@pytest.mark.parametrize("name", ["key", "crc/pooled"])
def test_a_number_where_rows_belong_is_damage(store: EmbeddingStore, name: str) -> None:
    with h5py.File(largest(store), "r+") as file:
        kind = file[name].dtype
        del file[name]
        file.create_dataset(name, data=np.zeros((), kind))
    with pytest.raises(StoreError, match="wanted rows of"):
        EmbeddingStore(store.folder).read([key(5)], "pooled")


def test_a_foreign_hdf5_file_is_refused(store: EmbeddingStore) -> None:
    with h5py.File(store.folder / "foreign.h5", "w") as file:
        file["data"] = [1, 2, 3]
    with pytest.raises(StoreError, match=r"is an HDF5 file, but not a shard of ser. Move it out"):
        EmbeddingStore(store.folder)


def replaced(path: Path, name: str, by: object) -> None:
    """Put something else where a dataset was."""
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = by


def secret(folder: Path) -> Path:
    """An HDF5 file of this machine that a shard may not lead to: 25 rows, as the shard has."""
    with h5py.File(folder / "secret", "w") as file:
        file["vectors"] = np.full((25, 4), 7, "<f4")
    return folder / "secret"


@pytest.mark.parametrize("name", ["view/pooled", "view", "key", "crc/pooled"])
@pytest.mark.parametrize("link", [h5py.ExternalLink, lambda path, name: h5py.SoftLink(f"/{name}")])
def test_a_link_is_not_followed(store: EmbeddingStore, tmp_path: Path, name: str, link: object) -> None:
    replaced(largest(store), name, link(str(secret(tmp_path)), "vectors"))
    with pytest.raises(StoreError, match=r"is a link, so this is not a shard of ser. Move it out of the cache"):
        EmbeddingStore(store.folder)


def test_a_virtual_dataset_is_refused(store: EmbeddingStore, tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((25, 4), "<f4")
    layout[:] = h5py.VirtualSource(secret(tmp_path), "vectors", (25, 4))
    with h5py.File(largest(store), "r+") as file:
        del file["view/pooled"]
        file.create_virtual_dataset("view/pooled", layout)
    with pytest.raises(StoreError, match="'view/pooled' is stored in other files or in pieces"):
        EmbeddingStore(store.folder)


def test_numbers_in_another_file_or_in_pieces_are_refused(store: EmbeddingStore) -> None:
    sound = largest(store).read_bytes()
    for storage in ({"external": [("/etc/passwd", 0, 400)]}, {"chunks": True}, {"compression": "gzip"}):
        largest(store).write_bytes(sound)
        with h5py.File(largest(store), "r+") as file:
            del file["view/pooled"]
            file.create_dataset("view/pooled", (25, 4), "<f4", **storage)
        with pytest.raises(StoreError, match="is stored in other files or in pieces"):
            EmbeddingStore(store.folder)


@pytest.mark.parametrize(
    "wrong", [np.ones((25, 5), "<f4"), np.ones((24, 4), "<f4"), np.ones((25, 4), "<f8"), np.ones(25)]
)
def test_numbers_of_another_shape_or_kind_are_damage(store: EmbeddingStore, wrong: np.ndarray) -> None:
    replaced(largest(store), "view/pooled", wrong)
    with pytest.raises(StoreError, match="Run `ser cache repair`"):
        EmbeddingStore(store.folder)


def test_a_shard_that_declares_a_terabyte_takes_no_memory(store: EmbeddingStore) -> None:
    with h5py.File(largest(store), "r+") as file:
        del file["view/pooled"]
        plan = module._creation_plan()
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
        file.create_dataset("view/pooled", (1 << 36, 4), "<f4", dcpl=plan)
    with pytest.raises(StoreError, match="'view/pooled' extends beyond the end of the file"):
        EmbeddingStore(store.folder)


def test_what_is_no_regular_file_does_not_hang(store: EmbeddingStore) -> None:
    os.mkfifo(store.folder / "pipe.h5")
    with pytest.raises(StoreError, match="is not a regular file. Move it out"):
        EmbeddingStore(store.folder)


def test_what_is_no_key_is_refused(store: EmbeddingStore) -> None:
    for wrong in ("", "ab", "g" * 64, " " * 64, "../" * 22):
        with pytest.raises(StoreError, match="is not a key; wanted the 64 hexadecimal digits"):
            store.missing([key(1), wrong])


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=30), st.lists(st.binary(min_size=32, max_size=32)))
def test_the_index_finds_what_is_there(held: list[bytes], others: list[bytes]) -> None:
    """Against a dictionary, with keys that end in zeros, which numpy's strings of bytes are blind to."""
    held = [*held, bytes(32), b"a" + bytes(31), b"a" * 31 + bytes(1)]
    shards = [(pack([k.hex() for k in part]), ("pooled",)) for part in (held[::2], held[1::2])]
    places = {k: (n, row) for n in (1, 0) for row, k in reversed(list(enumerate(held[n::2])))}
    asked = [*held, *others]
    got = Index.of(shards).find(pack([k.hex() for k in asked]), "pooled")
    assert [tuple(place) for place in got.tolist()] == [places.get(k, (-1, -1)) for k in asked]
    assert unpack(pack([k.hex() for k in asked])) == [k.hex() for k in asked]


def test_vectors_of_two_fingerprints_never_mix(store: EmbeddingStore) -> None:
    other = EncoderInfo("toy", "", "", 16_000, 3, 4, "bf16", "none", 1)
    write_shard(store.folder, other, [key(77)], rows(1))
    with pytest.raises(StoreError, match="Move it into a folder of its own"):
        EmbeddingStore(store.folder)


def test_an_encoder_of_other_types_is_damage(store: EmbeddingStore) -> None:
    for changes in ({"name": ["toy"]}, {"dim": "4"}, {"n_layers": True}):
        strange = replace(INFO, **changes)
        with h5py.File(largest(store), "r+") as file:
            file.attrs["encoder"], file.attrs["fingerprint"] = strange.to_json(), strange.fingerprint
        with pytest.raises(StoreError, match="wrong type of"):
            EmbeddingStore(store.folder)


def test_a_forged_encoder_is_refused(store: EmbeddingStore) -> None:
    path = largest(store)
    with h5py.File(path, "r+") as file:
        file.attrs["encoder"] = EncoderInfo("toy", "", "f" * 64, 16_000, 3, 4, "fp32", "none", 1).to_json()
    with pytest.raises(StoreError, match="does not match its fingerprint"):
        EmbeddingStore(store.folder)


def test_what_a_killed_writer_left_is_passed_over(store: EmbeddingStore) -> None:
    (store.folder / "x.h5.part").write_bytes(b"half")
    assert len(EmbeddingStore(store.folder).keys) == 40


def test_the_fingerprint_is_of_what_decides_the_numbers() -> None:
    same = EncoderInfo("other", "elsewhere", "", 16_000, 3, 4, "fp32", "none", 1)
    assert same.fingerprint == INFO.fingerprint
    changes = {"weights_sha256": "a", "sample_rate": 8000, "n_layers": 2, "dim": 5, "precision": "bf16"}
    changes |= {"preprocessing": "soxr 2", "recipe_version": 2}
    for name, value in changes.items():
        assert EncoderInfo(**{**INFO.__dict__, name: value}).fingerprint != INFO.fingerprint, name
    assert EncoderInfo.from_json(INFO.to_json()) == INFO


def test_stores_are_found_by_name_checkpoint_or_folder(store: EmbeddingStore, tmp_path: Path) -> None:
    for name in ("toy", store.folder.name):
        assert [found.folder for found in find_stores(tmp_path, name)] == [store.folder]
    with pytest.raises(UnknownName, match="no extracted encoder 'toyy'; have toy .did you mean 'toy'"):
        find_stores(tmp_path, "toyy")


def test_files_have_the_permissions_that_the_umask_gives(store: EmbeddingStore) -> None:
    """A shared cache is read by others."""
    ours = store.folder / "ours"
    ours.write_text("")
    for path in store.folder.glob("*.h5"):
        assert path.stat().st_mode == ours.stat().st_mode
