"""Out of a cache: the same numbers, with the columns of the manifest."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.stores import INFO, key, rows

from embedcache import Clip, EmbeddingStore, Manifest, StoreError
from embedcache.exchange import export_vectors as exchange
from embedcache.exchange.export_vectors import export

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
    assert export(store, manifest(), tmp_path / "x.npz") == 12  # an earlier export is replaced
    (tmp_path / "mine.npz").write_bytes(b"a file of somebody")
    with pytest.raises(StoreError, match=r"mine.npz exists already. ser did not write it, so it stays"):
        export(store, manifest(), tmp_path / "mine.npz")
