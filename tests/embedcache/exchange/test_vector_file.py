"""Files of vectors: nothing believed of a file from elsewhere, and no array taken for another."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedcache import SerError, StoreError
from embedcache.exchange import parquet
from embedcache.exchange.raw_arrays import vector_columns
from embedcache.exchange.vector_file import VectorFile, open_vectors
from embedcache.files.object_arrays import read_object_array

N = 6
POOLED = np.random.default_rng(0).standard_normal((N, 4)).astype(np.float32)
LAYERS = np.random.default_rng(1).standard_normal((N, 3, 4)).astype(np.float32)
IDS = np.array([f"c{i}" for i in range(N)])


def opened(path: Path, **arrays: Any) -> VectorFile:
    np.savez(path / "x.npz", **arrays)
    return open_vectors(path / "x.npz")


def views(file: VectorFile, step: int = 4) -> dict[str, np.ndarray]:
    blocks = list(file.blocks(step))
    return {view: np.concatenate([block[view] for block in blocks]) for view in ("pooled", "layers")}


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", "<i2", ">i8", "u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_any_type_and_order_are_read(tmp_path: Path, dtype: str, order: str) -> None:
    pooled = np.asarray(np.abs(POOLED) * 10, dtype, order=order)
    file = opened(tmp_path, clip_id=IDS, X=pooled)
    assert (file.n_clips, file.n_layers, file.dim) == (N, 1, 4)
    np.testing.assert_array_equal(views(file)["pooled"], pooled.astype("f4"))
    np.testing.assert_array_equal(views(file)["layers"], pooled.astype("f4")[:, None])


@pytest.mark.parametrize("order", ["C", "F"])
def test_layers_alone_have_their_last_as_pooled(tmp_path: Path, order: str) -> None:
    file = opened(tmp_path, ids=IDS, layers=np.asarray(LAYERS, order=order))
    np.testing.assert_array_equal(views(file)["layers"], LAYERS)
    np.testing.assert_array_equal(views(file)["pooled"], LAYERS[:, -1])


def test_columns_have_the_names_of_others(tmp_path: Path) -> None:
    file = opened(tmp_path, X=POOLED, y=np.arange(N), actors=np.arange(N) / 1.0, filenames=IDS, logits=np.ones((N, 2)))
    assert file.columns == {"label": tuple("012345"), "speaker": tuple("012345"), "path": tuple(IDS)}
    assert [note.partition(": ")[2] for note in file.notes] == [
        "reads 'X' as pooled, 'filenames' as path, 'y' as label, 'actors' as speaker.",
        "'logits' float64 (6, 2) has not one row for each clip, and is not used.",
    ]


def test_entries_are_texts_as_a_person_would_write_them(tmp_path: Path) -> None:
    label = np.array(["sad", b"happy", 3, 4.0, float("nan"), None], object)
    assert opened(tmp_path, X=POOLED, label=label).columns["label"] == ("sad", "happy", "3", "4", "", "")


REFUSED = {
    "nothing": ({"clip_id": IDS}, "no vectors; has 'clip_id'"),
    "no clips": ({"X": np.ones((0, 4))}, "it lists no clips"),
    "texts": ({"X": np.array([["a"]])}, "'X' <U1 .1, 1.: wanted numbers"),
    "truth values": ({"X": np.ones((2, 2), bool)}, "'X' bool .2, 2.: wanted numbers"),
    "three axes": ({"X": np.ones((2, 3, 4))}, "wanted numbers .clips, dim., under the name pooled"),
    "flat layers": ({"layers": np.ones((2, 3))}, "wanted numbers .clips, layers, dim."),
    "no numbers": ({"X": np.ones((2, 0))}, "do not fit each other"),
    "too many numbers": ({"X": np.ones((1, 2_000_000), "u1")}, "do not fit each other"),
    "views of two lengths": ({"pooled": np.ones((2, 4)), "layers": np.ones((3, 1, 4))}, "do not fit each other"),
    "two arrays that may be meant": ({"X": POOLED, "embeddings": POOLED}, "X and embeddings may be pooled"),
    "too few ids": ({"clip_id": ["a"], "X": POOLED}, "'clip_id' <U1 .1,.: wanted one entry a clip, .6,."),
    "ids of two axes": ({"clip_id": IDS[:, None], "X": POOLED}, "wanted one entry a clip"),
    "long ids": ({"clip_id": np.array(["x" * 5000] * N), "X": POOLED}, "wanted texts of at most 4096"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_arrays_that_are_no_vectors_of_clips_are_refused(tmp_path: Path, name: str) -> None:
    arrays, said = REFUSED[name]
    with pytest.raises(StoreError, match=f"x.npz: cannot be read as vectors .*{said}"):
        opened(tmp_path, **arrays)


def test_two_truths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="'pooled' is not the last layer of 'layers'. Leave one of them out"):
        views(opened(tmp_path, pooled=POOLED, layers=LAYERS))


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/evil",)


@pytest.mark.parametrize("evil", [Evil(), [1, 2], Path("x"), {"a": 1}])
def test_no_object_is_made_of_a_pickle(tmp_path: Path, evil: object) -> None:
    column = np.empty(N, object)
    column[:] = [evil] * N
    np.savez(tmp_path / "x.npz", X=POOLED, clip_id=column)
    with pytest.raises(StoreError, match="holds a Python object of the type"):
        open_vectors(tmp_path / "x.npz")


@given(st.lists(st.one_of(st.text(), st.binary(), st.integers(), st.floats(allow_nan=False), st.booleans(), st.none())))
def test_an_array_of_objects_is_read_as_numpy_reads_it(entries: list[Any]) -> None:
    array = np.empty(len(entries), object)
    array[:] = entries
    for protocol in range(3, pickle.HIGHEST_PROTOCOL + 1):
        assert read_object_array(pickle.dumps(array, protocol)) == entries


@given(st.binary(max_size=60))
def test_bytes_that_are_no_pickle_of_an_array_are_an_error(data: bytes) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - whichever the unpickler raises; the file's reader converts it
        read_object_array(data)


def lying(shape: str) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"\0" * 64


@pytest.mark.parametrize("shape", ["(12, 1000000000)", "(12, -4)", "(True, 4)"])
def test_an_array_that_declares_more_than_it_has_takes_no_memory(tmp_path: Path, shape: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("pooled.npy", lying(shape))
    (tmp_path / "x.npy").write_bytes(lying(shape))
    for name in ("x.npz", "x.npy"):
        with pytest.raises(StoreError, match="'pooled' declares the shape"):
            open_vectors(tmp_path / name)


@pytest.mark.parametrize("kind", ["zlib", "second version", "list in a header", "nested", "no archive"])
def test_an_archive_that_breaks_its_readers_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, pooled=POOLED)
    if kind == "zlib":
        data = bytearray(path.read_bytes())
        data[60:70] = b"\xff" * 10
        path.write_bytes(data)
    elif kind == "no archive":
        path.write_bytes(b"PK\x03\x04 nothing")
    else:
        header = {"second version": b"{}", "list in a header": b"{[]: 1}", "nested": b"(" * 5000}[kind]
        version, width = (2, 4) if kind == "second version" else (1, 2)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(
                "pooled.npy", b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(width, "little") + header
            )
    with pytest.raises(StoreError, match="cannot be read as vectors"):
        views(open_vectors(path))


@pytest.mark.parametrize("name", ["x.npz", "x.npy", "x.parquet", "x.csv"])
def test_damaged_files_are_an_error_or_whole(tmp_path: Path, name: str) -> None:
    """A bit is flipped, or the end is missing: an error of ours, or numbers; never another exception."""
    path = tmp_path / name
    frame = pd.DataFrame(POOLED, columns=[f"f{i}" for i in range(4)])
    write = {".npz": lambda: np.savez(path, X=POOLED), ".npy": lambda: np.save(path, POOLED)}
    write |= {".parquet": lambda: frame.to_parquet(path), ".csv": lambda: frame.to_csv(path)}
    write[path.suffix]()
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(100):
        spoilt = bytearray(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data)
        spoilt[rng.integers(len(spoilt))] ^= 1 << rng.integers(8)
        path.write_bytes(spoilt)
        try:
            views(open_vectors(path))
        except SerError as error:
            assert name in str(error)


def test_other_files_and_pipes_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    for name, said in (
        ("pipe.npz", "wanted a file"),
        ("none.npz", "cannot be read"),
        ("x.mat", "has the ending '.mat'"),
    ):
        with pytest.raises(StoreError, match=said):
            open_vectors(tmp_path / name)


SERIES = {
    "f0 f1 f2 age": "f0 f1 f2",
    "0 1 2 emotion": "0 1 2",
    "emb_1 emb_10 emb_2 emb_3 emb_4 emb_5 emb_6 emb_7 emb_8 emb_9": " ".join(f"emb_{i}" for i in range(1, 11)),
    "f5": "",
    "age height": "",
}


@pytest.mark.parametrize("names", SERIES)
def test_numbered_columns_are_the_numbers_of_a_vector(names: str) -> None:
    assert vector_columns(names.split()) == SERIES[names].split()


@pytest.mark.parametrize("names", ["f0 f2 f3", "f0 f1 f2 zcr", "mfcc_0 mfcc_1 mel_0 mel_1", "x00 x1 x1 x0", "f2 f3 f4"])
def test_numbers_that_may_belong_to_the_vector_are_not_lost(names: str) -> None:
    with pytest.raises(ValueError, match="may be the vectors, but what of .*Rename all numbers of a vector so"):
        vector_columns(names.split())


def test_a_table_without_numbered_columns_or_numbers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("clip_id,age,height\na,1,2\n")
    with pytest.raises(StoreError, match="no columns with one name and consecutive numbers, such as f0, f1"):
        open_vectors(path)
    path.write_text("clip_id,f0,f1\na,1,2\nb,1,x\n")
    with pytest.raises(StoreError, match="no columns with one name and consecutive numbers"):
        open_vectors(path)


def test_lists_of_several_lengths_are_refused(tmp_path: Path) -> None:
    for lists in ([[1.0, 2.0], [1.0]], [[1.0], None]):
        pd.DataFrame({"embedding": lists}).to_parquet(tmp_path / "x.parquet")
        with pytest.raises(StoreError, match="several lengths|without a vector"):
            open_vectors(tmp_path / "x.parquet")


def test_a_compressed_archive_is_read_in_blocks(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, X=POOLED)
    (tmp_path / "x.npz").write_bytes(buffer.getvalue())
    assert [len(block["pooled"]) for block in open_vectors(tmp_path / "x.npz").blocks(4)] == [4, 2]


def test_a_list_of_numbers_is_the_vector_whatever_other_columns_are_numbered(tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": IDS, "embedding": list(POOLED), "take_1": 1, "take_2": 2})
    frame.to_parquet(tmp_path / "x.parquet")
    np.testing.assert_array_equal(views(open_vectors(tmp_path / "x.parquet"))["pooled"], POOLED)


def test_row_numbers_of_pandas_are_no_ids(tmp_path: Path) -> None:
    frame = pd.DataFrame({"file": IDS, "embedding": list(POOLED)})
    frame.sample(frac=1, random_state=0).to_parquet(tmp_path / "x.parquet")
    file = open_vectors(tmp_path / "x.parquet")
    assert "clip_id" not in file.columns
    assert sorted(file.ids or ()) == sorted(IDS)


def test_an_npy_of_three_axes_may_be_frames_and_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", LAYERS)
    with pytest.raises(StoreError, match=r"wanted numbers \(clips, dim\), under the name pooled"):
        open_vectors(tmp_path / "x.npy")


def test_labels_of_8_bits_are_labels(tmp_path: Path) -> None:
    assert opened(tmp_path, X=POOLED, y=np.arange(N, dtype=np.uint8)).columns["label"] == tuple("012345")


def test_what_is_no_plain_array_is_passed_over_and_said(tmp_path: Path) -> None:
    record = np.zeros(N, [("a", "<f4"), ("b", "<i4")])
    file = opened(tmp_path, X=POOLED, clip_id=IDS, config=np.array({"a": 1}), record=record)
    assert [note.partition(": ")[2] for note in file.notes][:2] == [
        "'config' holds Python objects (), and is not used.",
        "'record' holds records (6,), and is not used.",
    ]


def test_names_that_are_not_unicode_are_refused(tmp_path: Path) -> None:
    ids = np.array([f"caf\udce9_{i}" for i in range(N)])
    with pytest.raises(StoreError, match="surrogates not allowed"):
        opened(tmp_path, X=POOLED, clip_id=ids)


def test_a_parquet_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_BYTES", 10)
    pd.DataFrame({"embedding": list(POOLED)}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(StoreError, match="wanted at most 10"):
        open_vectors(tmp_path / "x.parquet")
