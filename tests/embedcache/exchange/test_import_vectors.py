"""Into a cache: all of a file or nothing of it, for the clips that it means, under a name of its own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.stores import INFO, key, rows

from embedcache import Artifacts, Clip, DataError, EmbeddingStore, Manifest, StoreError, find_stores
from embedcache.exchange import import_vectors as importing
from embedcache.exchange.export_vectors import export
from embedcache.exchange.import_vectors import ImportResult, import_vectors
from embedcache.exchange.matching import match_clips

N = 12
MADE = rows(N)
POOLED = MADE["pooled"]


def manifest(**change: Any) -> Manifest:
    clips = [
        Clip("d", f"c{i}", f"/there/s{i % 3}/c{i}.wav", "sad", f"s{i % 3}", "", {"text": "kids"}, key(i), 1.5)
        for i in range(N)
    ]
    return Manifest("d", tuple(replace(clip, **change) for clip in clips))


@pytest.fixture
def place(tmp_path: Path) -> Artifacts:
    place = Artifacts(tmp_path / "artifacts")
    manifest().to_csv(place.manifest("d"))
    return place


def ids(n: int = N) -> list[str]:
    return [f"c{i}" for i in range(n)]


def npz(place: Artifacts, **arrays: Any) -> Path:
    path = place.root.parent / "x.npz"
    np.savez(path, **arrays)
    return path


def imported(place: Artifacts, dataset: str = "d", encoder: str = "theirs", **arrays: Any) -> ImportResult:
    return import_vectors(npz(place, **arrays), place, encoder, dataset)


def nothing_is_stored(place: Artifacts) -> bool:
    return not list(place.root.rglob("*.h5")) and [path.name for path in place.manifests.glob("*.csv")] == ["d.csv"]


def test_what_was_exported_is_imported_under_a_fingerprint_of_its_own(
    place: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EmbeddingStore.of(place.cache, INFO)
    store.write([key(n) for n in range(N)], MADE)
    for name in ("x.npz", "x.parquet"):
        export(store, manifest(), tmp_path / name)
        monkeypatch.setattr(importing, "BLOCK_BYTES", 5 * 64)  # a few clips at a time
        done = import_vectors(tmp_path / name, place, f"again-{name}", "d")
        assert (done.clips, done.cached) == (N, 0)
        assert done.store.info.fingerprint != INFO.fingerprint
        for view, made in MADE.items():
            found = EmbeddingStore(done.store.folder).read([key(n) for n in range(N)], view)
            np.testing.assert_array_equal(found, made)
        assert import_vectors(tmp_path / name, place, f"again-{name}", "d").cached == N


def test_two_encoders_from_elsewhere_are_two_whatever_their_vectors(place: Artifacts) -> None:
    """Nothing else is known of them than their names: with equal shapes, they must not share a fingerprint."""
    first, again, other = (imported(place, encoder=name, clip_id=ids(), pooled=POOLED) for name in ("a", "a", "b"))
    assert first.store.info.fingerprint == again.store.info.fingerprint != other.store.info.fingerprint


@pytest.mark.parametrize("name", ["mfcc", "wav2vec2-base", "toy"])
def test_the_name_of_an_encoder_of_ser_is_refused(place: Artifacts, name: str) -> None:
    EmbeddingStore.of(place.cache, INFO).write([key(0)], rows(1))  # the store of an encoder that is called toy
    with pytest.raises(StoreError, match=f"'{name}' is an encoder of ser.* such as --encoder my-{name}"):
        imported(place, encoder=name, clip_id=ids(), pooled=POOLED)


IDS = {
    "paths": [f"/elsewhere/s{i % 3}/c{i}.wav" for i in range(N)],
    "paths of Windows": [f"C:\\data\\c{i}.WAV" for i in range(N)],
    "names": [f"c{i}.flac" for i in range(N)],
    "bytes": np.array([f"c{i}" for i in range(N)], "S4"),
    "objects, as pandas saves them": np.array([f"c{i}" for i in range(N)], object),
}


@pytest.mark.parametrize("name", IDS)
def test_ids_are_paths_names_or_ids(place: Artifacts, name: str) -> None:
    order = np.random.default_rng(0).permutation(N)
    done = imported(place, clip_id=np.asarray(IDS[name])[order], pooled=POOLED[order])
    assert (done.clips, done.notes) == (N, ())
    np.testing.assert_array_equal(done.store.read([key(n) for n in range(N)], "pooled"), POOLED)


def test_equal_names_in_two_folders_are_told_apart_by_the_folder(place: Artifacts) -> None:
    clips = tuple(replace(c, clip_id=f"s{i}/a", path=f"/there/s{i}/a.wav") for i, c in enumerate(manifest().clips))
    Manifest("d", clips).to_csv(place.manifest("d"))
    done = imported(place, path=[f"x/s{i}/a.wav" for i in range(N)], X=POOLED)
    np.testing.assert_array_equal(done.store.read([key(n) for n in range(N)], "pooled"), POOLED)
    with pytest.raises(StoreError, match="2 of 2 ids are unknown"):
        imported(place, encoder="b", path=["a.wav", "x/a.wav"], X=POOLED[:2])


def test_a_file_is_meant_before_the_id_of_another_clip(place: Artifacts) -> None:
    """Clip ids 0 to 11, and files named by other numbers: a path is a file, and a number that is both is refused."""
    clips = tuple(replace(c, clip_id=str(i), path=f"/there/{(i + 5) % N}.wav") for i, c in enumerate(manifest().clips))
    Manifest("d", clips).to_csv(place.manifest("d"))
    done = imported(place, path=[clip.path for clip in clips], X=POOLED)
    np.testing.assert_array_equal(done.store.read([key(n) for n in range(N)], "pooled"), POOLED)
    with pytest.raises(StoreError, match="12 of 12 ids are unknown"):
        imported(place, encoder="b", clip_id=[str(i) for i in range(N)], X=POOLED)


def test_a_file_of_several_spans_or_channels_means_none_of_them() -> None:
    """The name of a recording is not that of its last span, and a number behind a dot is no suffix of a file."""
    spans = {"a.wav@1-2": ("1", "2"), "a.wav@3-4.5": ("3", "4.5"), "a.wav@6-": ("6", None), "b.wav@0-1": ("0", "1")}
    clips = [
        Clip("d", name, f"/there/{name[:5]}", "sad", "s", extra={"start": start} | ({"end": end} if end else {}))
        for name, (start, end) in spans.items()
    ]
    clips += [Clip("d", f"c.wav#{n}", "/there/c.wav", "sad", f"s{n}", extra={"channel": f"{n}"}) for n in (0, 1)]
    clips += [Clip("d", "d.wav", "/there/d.wav", "sad", "s")]
    both = Manifest("d", tuple(clips))
    wrong = ["a.wav", "/there/a.wav", "a", "b.wav", "b", "c.wav", "c", "a.wav@1-2.5", "a.wav@3-4.7", "a.wav@3-4", "x"]
    assert match_clips(wrong, both) == {}
    right = {**{name: name for name in spans}, "c.wav#1": "c.wav#1", "x/a.wav@1-2.npy": "a.wav@1-2", "d": "d.wav"}
    assert {one: clip.clip_id for one, clip in match_clips(right, both).items()} == right


@pytest.mark.parametrize("name", ["user/model", "a b", "mfcc ", ""])
def test_a_name_that_is_no_name_of_a_folder_is_refused(place: Artifacts, name: str) -> None:
    with pytest.raises(StoreError, match="wanted letters, digits"):
        imported(place, encoder=name, clip_id=ids(), pooled=POOLED)


def test_one_name_has_vectors_of_one_size(place: Artifacts) -> None:
    imported(place, clip_id=ids(), pooled=POOLED)
    with pytest.raises(StoreError, match="'theirs' has vectors of 1 layers and 4 numbers .* `ser cache rm theirs-"):
        imported(place, clip_id=ids(), pooled=POOLED[:, :3])


def test_one_large_number_hides_no_other_vectors(place: Artifacts) -> None:
    large = np.full((N, 1), 20_000.0, np.float32)
    imported(place, clip_id=ids(), pooled=np.hstack([POOLED, large]))
    with pytest.raises(StoreError, match="one recording has several vectors"):
        imported(place, clip_id=ids(), pooled=np.hstack([POOLED[::-1], large]))


def test_a_new_dataset_of_an_old_name_has_no_old_vectors(place: Artifacts) -> None:
    first = imported(place, "new", X=POOLED, **OWN)
    place.manifest("new").unlink()
    second = imported(place, "new", encoder="other", X=POOLED[::-1], **OWN)
    assert not set(first.manifest.keys) & set(second.manifest.keys)


def test_nothing_is_stored_if_the_list_of_clips_cannot_be(place: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(Manifest, "to_csv", full)
    with pytest.raises(StoreError, match="the disk is full"):
        imported(place, "new", X=POOLED, **OWN)
    assert nothing_is_stored(place)


def test_ratings_are_no_labels(place: Artifacts) -> None:
    with pytest.raises(DataError, match=r"12 labels for 12 clips.*Are these ratings"):
        imported(place, "new", X=POOLED, y=np.linspace(0, 1, N), actors=OWN["actors"])


def test_rows_without_ids_are_taken_in_order_and_said(place: Artifacts) -> None:
    imported(place, "new", X=POOLED, **OWN)
    note = imported(place, "new", encoder="other", X=POOLED, **OWN).notes[-1]
    assert note.startswith("the file has no clip ids; its rows are taken in the order of new")


def test_a_part_of_the_clips_is_imported_and_counted(place: Artifacts) -> None:
    done = imported(place, clip_id=ids(5), pooled=POOLED[:5])
    assert done.clips == 5
    assert done.notes == ("7 clips of d have no vectors of it; comparisons leave them out.",)
    rest = imported(place, clip_id=ids()[5:], pooled=POOLED[5:])
    assert (rest.clips, rest.notes) == (7, ())


def test_clips_with_known_faults_are_left_out_and_said(place: Artifacts) -> None:
    first = replace(manifest().clips[0], extra={"skipped": "known fault: has no sound"})
    Manifest("d", (first, *manifest().clips[1:])).to_csv(place.manifest("d"))
    done = imported(place, clip_id=ids(), pooled=POOLED)
    assert (done.clips, done.notes) == (N - 1, ("c0: left out of d, and so of the import.",))
    assert done.store.missing([key(0), key(1)], ["pooled"]) == [key(0)]


def test_other_labels_than_those_of_the_manifest_are_said(place: Artifacts) -> None:
    labels = ["Sad"] * (N - 1) + ["happy"]
    done = imported(place, clip_id=ids(), pooled=POOLED, label=labels, speaker=[f"s{i % 3}" for i in range(N)])
    assert done.notes == (
        "the file has another label than the manifest for 1 clip: c11 (happy). That of the manifest is used.",
    )


def twins(place: Artifacts) -> None:
    """Clips 0 and 1 are one recording."""
    clips = manifest().clips
    Manifest("d", (clips[0], replace(clips[1], key=key(0), speaker="s0"), *clips[2:])).to_csv(place.manifest("d"))


def test_vectors_of_one_recording_may_differ_by_rounding(place: Artifacts) -> None:
    twins(place)
    pooled = POOLED.copy()
    pooled[1] = pooled[0] + np.float32(1e-6)
    done = imported(place, clip_id=ids(), pooled=pooled)
    (note,) = done.notes
    assert note.startswith("1 clip are the recording of another clip, and their vectors differ by at most")
    np.testing.assert_array_equal(done.store.read([key(0)], "pooled")[0], pooled[0])
    assert imported(place, clip_id=ids(), pooled=pooled + np.float32(1e-6)).cached == N


def test_vectors_of_one_recording_that_differ_are_named(place: Artifacts) -> None:
    twins(place)
    with pytest.raises(StoreError, match=r"(?s)one recording has several vectors:.*c0 and c1: one recording, but"):
        imported(place, clip_id=ids(), pooled=POOLED)
    assert nothing_is_stored(place)


def test_a_name_stands_for_one_way_to_make_vectors(place: Artifacts) -> None:
    imported(place, clip_id=ids(), pooled=POOLED)
    with pytest.raises(StoreError, match=r"(?s)c0: differs from what is stored by .*7 more.*`ser cache rm theirs-"):
        imported(place, clip_id=ids(), pooled=POOLED + 1)


def test_nothing_is_stored_of_a_file_with_a_vector_that_is_not_finite(
    place: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BLOCK_BYTES", 5 * 64)
    pooled = POOLED.copy()
    pooled[10, 2] = np.nan
    with pytest.raises(
        StoreError,
        match=r"(?s)1 vector with NaN, infinity or numbers too large for float32:\n  c10\nLeave these clips out",
    ):
        imported(place, clip_id=ids(), pooled=pooled)
    assert nothing_is_stored(place)


def test_what_was_stored_is_removed_if_an_import_fails(place: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BLOCK_BYTES", 100)  # three clips at a time
    write, calls = EmbeddingStore.write, []

    def full(self: EmbeddingStore, *rest: Any) -> Path:
        calls.append(rest)
        if len(calls) == 3:
            raise StoreError("the disk is full")
        return write(self, *rest)

    monkeypatch.setattr(EmbeddingStore, "write", full)
    with pytest.raises(StoreError, match="the disk is full"):
        imported(place, clip_id=ids(), pooled=POOLED)
    assert nothing_is_stored(place)


UNKNOWN = {
    "unknown ids": ({"clip_id": ["c0", "zz"], "X": np.ones((2, 4))}, "1 of 2 ids are unknown.*zz: no clip of d.*c0"),
    "ids twice": ({"clip_id": ["c0", "x/c0.wav"], "X": np.ones((2, 4))}, "clips more than once.*c0: 2 rows"),
    "no ids": ({"X": np.ones((2, 4))}, "has no clip ids; wanted clip_id .* such as c0. Or make the file a dataset"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_rows_that_mean_no_clip_are_refused(place: Artifacts, name: str) -> None:
    arrays, said = UNKNOWN[name]
    with pytest.raises(StoreError, match=f"(?s){said}"):
        imported(place, **arrays)
    assert nothing_is_stored(place)


OWN = {"y": [0, 1] * 6, "actors": [1.0, 2.0, 3.0] * 4}


def test_a_file_with_labels_and_speakers_is_a_dataset(place: Artifacts) -> None:
    done = imported(place, "new", X=POOLED, **OWN, gender=["f"] * N, split=["train"] * N)
    assert done.manifest == Manifest.from_csv(place.manifest("new"))
    clip = done.manifest.clips[4]
    assert (clip.clip_id, clip.label, clip.speaker, clip.gender) == ("row-000005", "0", "2", "f")
    assert dict(clip.extra) == {"partition": "train"}
    assert done.manifest.is_own
    np.testing.assert_array_equal(done.store.read(done.manifest.keys, "pooled"), POOLED)
    again = imported(place, "new", encoder="other", X=POOLED[:, :3], **OWN)
    assert (again.clips, again.manifest.keys) == (N, done.manifest.keys)
    with pytest.raises(StoreError, match="has no clip ids"):
        imported(place, "new", encoder="third", X=POOLED, y=[1, 0] * 6, actors=OWN["actors"])


@pytest.mark.parametrize("column", ["partition", "split", "Subset"])
def test_partitions_of_a_file_are_those_of_its_clips(place: Artifacts, column: str) -> None:
    cells = ["Train", "Validation", "Test", "Test 2", "", "Development"]
    done = imported(place, "new", X=POOLED, **OWN, **{column: cells * 2})
    found = [clip.extra.get("partition") for clip in done.manifest.clips]
    assert found == ["train", "dev", "test", "test2", None, "dev"] * 2
    assert done.manifest == Manifest.from_csv(place.manifest("new"))


def test_vectors_of_two_datasets_share_no_keys(place: Artifacts) -> None:
    first, second = (imported(place, name, X=POOLED, **OWN) for name in ("one", "two"))
    assert not set(first.manifest.keys) & set(second.manifest.keys)


NOT_A_DATASET = {
    "no speakers": ("new", {"X": POOLED, "y": OWN["y"]}, "has no speaker .n,., which a dataset of its own needs"),
    "a missing label": ("new", {"X": POOLED, **OWN, "y": ["a", ""] * 6}, "row-000002: no label"),
    "a name with a slash": ("a/b", {"X": POOLED, **OWN}, "got the dataset name 'a/b'; wanted letters, digits"),
    "speakers that are clips": (
        "new",
        {"X": POOLED, **OWN, "actors": ids()},
        "(?s)12 speakers in 12 clips.*correct",
    ),
    "a published name": ("emodb", {"X": POOLED, **OWN}, "no emodb recordings"),
    "two spellings": ("new", {"X": POOLED, **OWN, "actors": ["A", "a", "b"] * 4}, "spells names of speakers"),
}


@pytest.mark.parametrize("name", NOT_A_DATASET)
def test_a_file_that_is_no_dataset_is_refused(
    place: Artifacts, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset, arrays, said = NOT_A_DATASET[name]
    with pytest.raises(DataError, match=said):
        imported(place, dataset, **arrays)
    assert nothing_is_stored(place)


def test_an_npy_takes_the_table_beside_it(place: Artifacts, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.asfortranarray(POOLED))
    pd.DataFrame({"file": [f"c{i}.wav" for i in range(N)]}).to_csv(tmp_path / "v.csv")
    assert import_vectors(tmp_path / "v.npy", place, "theirs", "d").clips == N
    (tmp_path / "v.csv").rename(tmp_path / "t.csv")
    with pytest.raises(StoreError, match="has no clip ids"):
        import_vectors(tmp_path / "v.npy", place, "others", "d")
    done = import_vectors(tmp_path / "v.npy", place, "others", "d", table=tmp_path / "t.csv")
    np.testing.assert_array_equal(done.store.read([key(3)], "pooled")[0], POOLED[3])


def test_tables_of_pandas_are_imported(place: Artifacts, tmp_path: Path) -> None:
    frame = pd.DataFrame(POOLED.astype(np.float64), columns=[f"f{i}" for i in range(POOLED.shape[1])], index=ids())
    frame["age"] = 30
    frame.to_parquet(tmp_path / "p.parquet")
    frame.rename_axis("clip_id").to_csv(tmp_path / "c.csv", float_format="%.9g")
    lists = pd.DataFrame({"clip_id": ids(), "embedding": list(POOLED)})
    lists.to_parquet(tmp_path / "l.parquet", index=False)
    for name in ("p.parquet", "c.csv", "l.parquet"):
        done = import_vectors(tmp_path / name, place, name, "d")
        np.testing.assert_array_equal(done.store.read([key(n) for n in range(N)], "pooled"), POOLED)


def test_equal_vectors_of_a_tuned_encoder_inherit_its_list(place: Artifacts) -> None:
    assert [store.info.trained_on for store in find_stores(place.cache)] == []
    done = imported(place, clip_id=ids(), pooled=POOLED)
    assert json.loads(done.store.info.to_json())["preprocessing"] == "imported as theirs"
