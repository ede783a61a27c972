"""Out of a cache and into it: the same numbers, and nothing believed of a file from elsewhere."""

import io
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.stores import INFO, key, rows

from embedcache import Clip, EmbeddingStore, Manifest, StoreError
from embedcache.cache import import_export as exchange
from embedcache.cache.import_export import export, import_npz

N = 12
MADE = rows(N)


def manifest(n: int = N) -> Manifest:
    clips = [Clip("d", f"c{i}", f"{i}.wav", "sad", f"s{i % 3}", "", {"text": "kids"}, key(i), 1.5) for i in range(n)]
    return Manifest("d", tuple(clips))


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    store = EmbeddingStore.of(tmp_path / "cache", INFO)
    store.write([key(n) for n in range(N)], MADE)
    return store


def npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)
    return path


def ids(n: int = N) -> list[str]:
    return [f"c{i}" for i in range(n)]


def test_an_npz_holds_the_manifest_and_the_vectors(
    store: EmbeddingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "BLOCK_BYTES", 5 * 48)  # five clips at a time
    skipped = Clip("d", "bad", "bad.wav", "sad", "s0", extra={"skipped": "is empty"})
    assert export(store, Manifest("d", (*manifest().clips, skipped)), tmp_path / "x.npz") == N
    with np.load(tmp_path / "x.npz", allow_pickle=False) as got:
        for view, made in MADE.items():
            np.testing.assert_array_equal(got[view], made)
        assert got["clip_id"].tolist() == ids()
        assert got["key"].tolist() == [key(n) for n in range(N)]
        assert (set(got["text"]), set(got["seconds"])) == ({"kids"}, {1.5})
        assert json.loads(str(got["encoder"]))["name"] == "toy"


def test_two_encoders_from_elsewhere_are_two_whatever_their_vectors(tmp_path: Path) -> None:
    """Nothing else is known of them than their names: with equal shapes, they must not share a fingerprint."""
    file = npz(tmp_path / "x.npz", clip_id=ids(), pooled=MADE["pooled"])
    first, again, other = (import_npz(file, tmp_path / "cache", name, manifest()) for name in ("a", "a", "b"))
    assert first.store.info.fingerprint == again.store.info.fingerprint != other.store.info.fingerprint
    assert (first.clips, other.clips) == (N, N)


def test_a_parquet_is_a_table_of_the_same(
    store: EmbeddingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet

    monkeypatch.setattr(exchange, "BLOCK_BYTES", 5 * 48)
    export(store, manifest(), tmp_path / "x.parquet")
    table = pd.read_parquet(tmp_path / "x.parquet")
    np.testing.assert_array_equal(np.stack(table["layers"]), MADE["layers"].reshape(N, -1))
    np.testing.assert_array_equal(np.stack(table["pooled"]), MADE["pooled"])
    assert table["speaker"].tolist() == [clip.speaker for clip in manifest().clips]
    about = pyarrow.parquet.read_schema(tmp_path / "x.parquet").metadata
    assert json.loads(about[b"shapes"]) == {"pooled": [4], "layers": [3, 4]}


def test_what_cannot_be_exported_is_said(store: EmbeddingStore, tmp_path: Path) -> None:
    for path, views, said in (
        (tmp_path / "x.csv", ["pooled"], "wanted .npz or .parquet"),
        (tmp_path, ["pooled"], "has the ending ''; wanted .npz or .parquet"),
        (tmp_path / "x.npz", ["frames:1"], "read it from Python"),
        (tmp_path / "x.npz", ["std"], "no 'std' vectors for 12 of 12 clips"),
        (tmp_path / "x.npz", [], "wanted some of pooled, layers, std"),
        (tmp_path / "x.npz", ["bogus"], "got the views bogus"),
    ):
        with pytest.raises(StoreError, match=said):
            export(store, manifest(), path, views)
        assert not path.is_file()
    export(store, manifest(), tmp_path / "x.npz")
    with pytest.raises(StoreError, match="exists already"):
        export(store, manifest(), tmp_path / "x.npz")


def test_what_was_exported_is_imported_under_a_fingerprint_of_its_own(
    store: EmbeddingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(store, manifest(), tmp_path / "x.npz")
    monkeypatch.setattr(exchange, "BLOCK_BYTES", 5 * 64)
    done = import_npz(tmp_path / "x.npz", tmp_path / "cache", "toy", manifest())
    assert (done.clips, done.cached) == (N, 0)
    assert done.store.info.fingerprint != INFO.fingerprint
    for view, made in MADE.items():
        np.testing.assert_array_equal(EmbeddingStore(done.store.folder).read([key(n) for n in range(N)], view), made)
    assert import_npz(tmp_path / "x.npz", tmp_path / "cache", "toy", manifest()).cached == N


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
def test_pooled_alone_is_one_layer(tmp_path: Path, dtype: str) -> None:
    pooled = MADE["pooled"].astype(dtype)
    file = npz(tmp_path / "x.npz", ids=np.array(ids()), pooled=pooled)
    done = import_npz(file, tmp_path, "theirs", manifest())
    assert (done.store.info.n_layers, done.store.info.dim) == (1, 4)
    np.testing.assert_array_equal(done.store.read([key(3)], "layers")[0, 0], pooled[3].astype("f4"))


def test_layers_alone_have_their_last_as_pooled(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, clip_id=np.array(ids(5)), layers=MADE["layers"][:5])
    (tmp_path / "x.npz").write_bytes(buffer.getvalue())
    done = import_npz(tmp_path / "x.npz", tmp_path, "theirs", manifest())
    np.testing.assert_array_equal(done.store.read([key(2)], "pooled")[0], MADE["layers"][2, -1])


def test_a_name_stands_for_one_way_to_make_vectors(tmp_path: Path) -> None:
    first = npz(tmp_path / "a.npz", clip_id=np.array(ids()), pooled=MADE["pooled"])
    import_npz(first, tmp_path, "theirs", manifest())
    second = npz(tmp_path / "b.npz", clip_id=np.array(ids()), pooled=MADE["pooled"] + 1)
    with pytest.raises(StoreError, match="12 clips have other vectors under 'theirs' already"):
        import_npz(second, tmp_path, "theirs", manifest())
    twins = Manifest("d", tuple(replace(clip, key=key(0)) for clip in manifest().clips))
    with pytest.raises(StoreError, match="11 clips have other vectors under 'twins'"):
        import_npz(first, tmp_path, "twins", twins)


REFUSED = {
    "unknown ids": ({"clip_id": ["c0", "zz"], "pooled": np.ones((2, 4))}, "1 of 2 ids are unknown.*zz: no usable clip"),
    "ids twice": ({"clip_id": ["c0", "c0"], "pooled": np.ones((2, 4))}, "lists 1 ids more than once"),
    "no ids": ({"pooled": np.ones((2, 4))}, "no array clip_id or ids; has pooled.npy"),
    "one id": ({"clip_id": np.array("c0"), "pooled": np.ones((1, 4))}, r"'clip_id' has the shape \(\); wanted one id"),
    "nothing": ({"clip_id": np.empty(0, "U2"), "pooled": np.ones((0, 4))}, "it lists no clips"),
    "no vectors": ({"clip_id": ["c0"]}, "neither 'pooled' nor 'layers'"),
    "too few": ({"clip_id": ["c0", "c1"], "pooled": np.ones((1, 4))}, "there are 2 ids"),
    "integers": ({"clip_id": ["c0"], "pooled": np.ones((1, 4), int)}, "'pooled' is int64"),
    "flat": ({"clip_id": ["c0"], "layers": np.ones((1, 4))}, r"'layers' is float64 \(1, 4\)"),
    "NaN": ({"clip_id": ["c0", "c1"], "pooled": np.array([[1.0], [np.nan]])}, "row 1 of 'pooled' is not finite"),
    "two truths": (
        {"clip_id": ["c0"], "pooled": np.ones((1, 4)), "layers": np.zeros((1, 2, 4))},
        "not the last layer of 'layers'",
    ),
    "pickle": ({"clip_id": np.array(["c0"], object), "pooled": np.ones((1, 4))}, "holds objects"),
    "more than there are": ({"clip_id": [f"x{i}" for i in range(13)], "pooled": np.ones((13, 4))}, "lists 13 clips"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_not_meant_is_refused(tmp_path: Path, name: str) -> None:
    arrays, said = REFUSED[name]
    file = npz(tmp_path / "x.npz", **arrays)
    with pytest.raises(StoreError, match=f"(?s)x.npz: .*{said}"):
        import_npz(file, tmp_path, "theirs", manifest())
    assert not list(tmp_path.glob("*/*.h5"))


def lying(shape: str) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"\0" * 64


def test_an_array_that_declares_more_than_it_has_takes_no_memory(tmp_path: Path) -> None:
    for shape, said in (
        ("(12, 1000000000)", "has 19[0-9] bytes"),
        ("(12, -4)", "declares the shape"),
        ("(True, 4)", "declares the shape"),
    ):
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("pooled.npy", lying(shape))
            with archive.open("clip_id.npy", "w") as member:
                np.lib.format.write_array(member, np.array(ids()))
        with pytest.raises(StoreError, match=said):
            import_npz(tmp_path / "x.npz", tmp_path, "theirs", manifest())


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(StoreError, match="cannot be imported"):
        import_npz(tmp_path / "x.npz", tmp_path, "theirs", manifest())
    with pytest.raises(StoreError, match="cannot be read"):
        import_npz(tmp_path / "none.npz", tmp_path, "theirs", manifest())


@pytest.mark.parametrize("kind", ["zlib", "second version", "list in a header", "nested"])
def test_an_archive_that_breaks_its_readers_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, clip_id=np.array(ids()), pooled=MADE["pooled"])
    if kind == "zlib":
        data = bytearray(path.read_bytes())
        data[60:70] = b"\xff" * 10
        path.write_bytes(data)
    else:
        header = {"second version": b"{}", "list in a header": b"{[]: 1}", "nested": b"(" * 5000}[kind]
        version, width = (2, 4) if kind == "second version" else (1, 2)
        member = b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(width, "little") + header
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("pooled.npy", member)
            archive.writestr("clip_id.npy", member)
    with pytest.raises(StoreError, match="cannot be imported"):
        import_npz(path, tmp_path, "theirs", manifest())


def test_names_of_nothing_and_pipes_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(StoreError, match="wanted a file"):
        import_npz(tmp_path / "pipe.npz", tmp_path, "theirs", manifest())
    file = npz(tmp_path / "x.npz", clip_id=np.array(ids()), pooled=MADE["pooled"])
    with pytest.raises(StoreError, match="wanted a name with letters or digits"):
        import_npz(file, tmp_path, "", manifest())
