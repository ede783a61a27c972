"""EmoBox's fold files: the same folds as those that ser knows; parts that do not divide the clips are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.emobox import emobox_tree, write_part
from helpers.places import RAVDESS, needs_ravdess

from classifiers import Task, make_folds
from classifiers.protocols.emobox_folds import read_emobox_folds
from classifiers.protocols.fold import fold_hash
from classifiers.protocols.fold_files import folds_csv, read_folds
from classifiers.protocols.listed import listed_splits, listing_notes
from embedcache import DataError, Manifest, ProtocolError, datasets
from embedcache.manifest import Clip

SPEECH = "audio/Audio_Speech_Actors_01-24"
WAVS = [f"{SPEECH}/Actor_{a:02d}/03-01-{e:02d}-01-01-01-{a:02d}.wav" for a in range(1, 5) for e in (1, 2)]
TESTED = [WAVS[:4], WAVS[4:]]  # actors 1 and 2, actors 3 and 4


def task_of(clips: list[Clip], dataset: str) -> Task:
    columns = (np.array([getattr(clip, name) for clip in clips]) for name in ("label", "speaker", "clip_id"))
    y, speakers, ids = columns
    return Task(np.zeros((len(ids), 0), np.float32), y, speakers, clip_ids=ids, dataset=dataset)


def ravdess(wavs: list[str]) -> tuple[Task, list[Clip]]:
    """A task of RAVDESS's clips, as they lie elsewhere: in another folder, as FLAC."""
    stems = [Path(wav).stem for wav in wavs]
    clips = [Clip("ravdess", s, f"/data/Actor_{s[-2:]}/{s}.flac", f"l{s[6:8]}", s[-2:]) for s in stems]
    return task_of(clips, "ravdess"), clips


def test_the_folds_of_all_ravdess_are_the_official_ones(tmp_path: Path) -> None:
    names = [
        f"03-01-{e:02d}-{i:02d}-{t:02d}-{r:02d}-{a:02d}"
        for a in range(1, 25)
        for e in range(1, 9)
        for i in (1, 2)[: 1 if e == 1 else 2]
        for t in (1, 2)
        for r in (1, 2)
    ]
    wavs = [f"{SPEECH}/Actor_{name[-2:]}/{name}.wav" for name in names]
    t, clips = ravdess(wavs)
    assert len(t) == 1440
    tested = [[w for w in wavs if w[-6:-4] in fold] for fold in datasets.get("ravdess").official_folds]
    (folds,) = listed_splits(t, read_folds(emobox_tree(tmp_path / "ravdess", "ravdess", wavs, tested)), clips)
    official = make_folds(t, "official")
    assert [fold.name for fold in folds] == [fold.name for fold in official]
    assert fold_hash(t, folds) == fold_hash(t, official)
    for fold, wanted in zip(folds, official, strict=True):
        np.testing.assert_array_equal(fold.train, wanted.train)
        np.testing.assert_array_equal(fold.test, wanted.test)


@needs_ravdess
def test_the_names_of_the_real_recordings_are_matched(tmp_path: Path) -> None:
    manifest: Manifest = datasets.get("ravdess").manifest(RAVDESS)
    t = task_of(list(manifest.clips), "ravdess")
    wavs = [f"{SPEECH}/Actor_{clip.speaker}/{Path(clip.path).stem}.wav" for clip in manifest.clips]
    tested = [[w for w in wavs if w[-6:-4] in fold] for fold in datasets.get("ravdess").official_folds]
    (folds,) = listed_splits(t, read_folds(emobox_tree(tmp_path / "ravdess", "ravdess", wavs, tested)), manifest.clips)
    assert fold_hash(t, folds) == fold_hash(t, make_folds(t, "official"))


def test_ten_folds_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    wavs = [f"ALL/{s:02d}_{e}01.wav" for s in range(1, 13) for e in "ah"]
    folder = emobox_tree(tmp_path / "toy", "toy", wavs, [wavs[2 * n : 2 * n + 2] for n in range(12)])
    clips = [Clip("toy", Path(wav).stem, f"/x/{wav}", wav[-7], wav[4:6]) for wav in wavs]
    (folds,) = listed_splits(task_of(clips, "toy"), read_folds(folder), clips)
    assert [fold.name for fold in folds] == [str(n) for n in range(1, 13)]
    assert [fold.test.tolist() for fold in folds] == [[2 * n, 2 * n + 1] for n in range(12)]


def test_one_folder_is_one_fold(tmp_path: Path) -> None:
    """As in CREMA-D and TESS, which have one, or if the folder of one of several is named."""
    t, clips = ravdess(WAVS)
    folder = emobox_tree(tmp_path / "ravdess", "ravdess", WAVS, TESTED) / "fold_2"
    (folds,) = listed_splits(t, read_folds(folder), clips)
    assert [(fold.name, fold.test.tolist(), fold.train.tolist()) for fold in folds] == [
        ("2", [4, 5, 6, 7], [0, 1, 2, 3])
    ]


def test_an_entry_without_a_path_is_named_by_its_key(tmp_path: Path) -> None:
    t, clips = ravdess(WAVS)
    folder = emobox_tree(tmp_path / "ravdess", "ravdess", WAVS, TESTED)
    for path in folder.glob("*/*.jsonl"):
        path.write_text(path.read_text().replace('"wav": ', '"audio": '))
    (folds,) = listed_splits(t, read_folds(folder), clips)
    assert [fold.test.tolist() for fold in folds] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def refused(folder: Path) -> str:
    with pytest.raises(DataError) as error:
        read_emobox_folds(folder)
    return str(error.value)


def test_a_folder_that_is_not_emobox_s_is_refused(tmp_path: Path) -> None:
    assert f"{tmp_path}: has 0 files *_train_fold_*.jsonl; wanted one in each folder fold_1, fold_2" in refused(
        tmp_path
    )
    folder = emobox_tree(tmp_path / "ravdess", "ravdess", WAVS, TESTED)
    (folder / "fold_2" / "ravdess_train_fold_2.jsonl").unlink()
    assert "fold_2: has 0 files *_train_fold_*.jsonl" in refused(folder)
    write_part(folder / "fold_2", "ravdess", "train", 2, WAVS[:4])
    write_part(folder / "fold_2", "ravdess", "test", 1, WAVS[4:])
    assert "fold_2: has 2 files *_test_fold_*.jsonl; wanted one" in refused(folder)


MELD = {  # as in EmoBox's data/meld: the same names of dialogues in the three parts
    "train": ["train/train_splits/dia0_utt0.mp4", "train/train_splits/dia0_utt1.mp4"],
    "valid": ["dev_splits_complete/dia0_utt0.mp4"],
    "test": ["output_repeated_splits_test/dia0_utt0.mp4", "output_repeated_splits_test/dia0_utt1.mp4"],
}


def meld(tmp_path: Path, dev_label: str = "joy") -> tuple[Task, list[Clip], Path]:
    """A task of MELD's clips, and a folder of its partitions."""
    labels = {"valid": [dev_label]}
    names = {"valid": "dev"}
    clips = [
        Clip("meld", f"{names.get(part, part)}/{Path(wav).stem}", f"/MELD.Raw/{wav}", label, "Ross")
        for part, wavs in MELD.items()
        for wav, label in zip(wavs, labels.get(part, ["joy", "fear"]), strict=True)
    ]
    for part, wavs in MELD.items():
        write_part(tmp_path / "meld" / "fold_1", "meld", part, 1, wavs)
    return task_of(clips, "meld"), clips, tmp_path / "meld"


def test_a_development_set_holds_development_clips(tmp_path: Path) -> None:
    t, clips, folder = meld(tmp_path)
    listing = read_folds(folder)
    (folds,) = listed_splits(t, listing, clips)
    (fold,) = folds
    assert [part.tolist() for part in (fold.train, fold.dev, fold.test)] == [[0, 1], [2], [3, 4]]
    assert listing_notes(t, listing, [folds])[:2] == [
        f"{folder}: 1 clip of 5 are development clips, which no head is trained on.",
        f"{folder}: 2 clips of 5 are in no fold, and are trained on in every fold.",
    ]
    (tmp_path / "folds.csv").write_text(folds_csv(t, [folds], "listed"))
    ((again,),) = listed_splits(t, read_folds(tmp_path / "folds.csv"), clips)
    for part in ("train", "dev", "test"):
        np.testing.assert_array_equal(getattr(again, part), getattr(fold, part))
    parts = replace(t, partitions=np.array([name.partition("/")[0] for name in t.ids.tolist()]))
    assert fold_hash(t, folds) == fold_hash(t, make_folds(parts, "partition"))


def test_the_sound_of_a_video_is_matched_by_its_folder(tmp_path: Path) -> None:
    t, clips, folder = meld(tmp_path)
    sounds = [replace(clip, path=clip.path.replace(".mp4", ".wav")) for clip in clips]
    ((fold,),) = listed_splits(t, read_folds(folder), sounds)
    assert [part.tolist() for part in (fold.train, fold.dev, fold.test)] == [[0, 1], [2], [3, 4]]


def test_a_development_label_without_training_clips_is_refused(tmp_path: Path) -> None:
    t, clips, folder = meld(tmp_path, dev_label="anger")
    with pytest.raises(ProtocolError, match="fold 1: 'anger' has development clips, but no training clip"):
        listed_splits(t, read_folds(folder), clips)


def test_development_sets_that_differ_are_refused(tmp_path: Path) -> None:
    folder = emobox_tree(tmp_path / "ravdess", "ravdess", WAVS, TESTED)
    write_part(folder / "fold_1", "ravdess", "valid", 1, WAVS[7:])
    write_part(folder / "fold_1", "ravdess", "train", 1, WAVS[4:7])
    assert "fold 2: other development clips than fold 1" in refused(folder)
    write_part(folder / "fold_1", "ravdess", "train", 1, WAVS[4:])
    assert f"fold 1: 1 clip in several parts: downloads/ravdess/{WAVS[7]}\n" in refused(folder)


def test_second_files_under_other_names_are_not_read(tmp_path: Path) -> None:
    """EMO-DB's folders have emodb_test_fold1.jsonl beside emodb_test_fold_1.jsonl."""
    t, clips = ravdess(WAVS)
    folder = emobox_tree(tmp_path / "ravdess", "ravdess", WAVS, TESTED)
    (folder / "fold_1" / "ravdess_test_fold1.jsonl").write_text("{}")
    (folds,) = listed_splits(t, read_folds(folder), clips)
    assert [fold.test.tolist() for fold in folds] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_parts_that_do_not_divide_the_clips_are_refused(tmp_path: Path) -> None:
    folder = emobox_tree(tmp_path / "ravdess", "ravdess", WAVS, TESTED)
    write_part(folder / "fold_1", "ravdess", "train", 1, [WAVS[0], *WAVS[5:]])
    said = refused(folder)
    assert f"fold 1: 1 clip in several parts: downloads/ravdess/{WAVS[0]}\n" in said
    assert f"fold 1: 1 clip in no part: downloads/ravdess/{WAVS[4]}\n" in said


@pytest.mark.parametrize("part", ["train", "test"])
def test_an_empty_part_is_refused(tmp_path: Path, part: str) -> None:
    """Without this, the fold of an empty test file would vanish, and its clips would be in no fold."""
    folder = emobox_tree(tmp_path / "ravdess", "ravdess", WAVS, TESTED)
    (folder / "fold_2" / f"ravdess_{part}_fold_2.jsonl").write_text("\n")
    assert f"fold_2/ravdess_{part}_fold_2.jsonl: lists no clips; wanted a row for each clip" in refused(folder)


def test_a_clip_that_two_folds_test_is_refused(tmp_path: Path) -> None:
    t, clips = ravdess(WAVS)
    folder = emobox_tree(tmp_path / "ravdess", "ravdess", WAVS, [WAVS[:5], WAVS[4:]])
    stem = Path(WAVS[4]).stem
    place = "fold_{0}/ravdess_test_fold_{0}.jsonl, row {1}"
    with pytest.raises(DataError) as error:
        listed_splits(t, read_folds(folder), clips)
    assert f"1 clip in several rows: {stem} ({place.format(1, 5)} and {place.format(2, 1)})" in str(error.value)


def test_folds_of_another_dataset_are_refused(tmp_path: Path) -> None:
    t, clips = ravdess(WAVS)
    folder = emobox_tree(tmp_path / "savee", "savee", ["DC_a01.wav", "KL_a01.wav"], [["DC_a01.wav"], ["KL_a01.wav"]])
    with pytest.raises(DataError, match=r"is no list of folds of ravdess:\n  2 rows with a clip that is not known"):
        listed_splits(t, read_folds(folder), clips)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "row 9: no JSON object with a path wav: {"),
        ("[1]", "row 9: no JSON object with a path wav: [1]"),
        ("{}", "row 9: no JSON object with a path wav: {}"),
        ("[" * 100_000, "row 9: no JSON object with a path wav: [[["),
        ('{"wav": "a.wav"}\n{"wav": "a.wav"}', "row 10: a.wav is listed twice"),
        ("\xff", "cannot be read: 'utf-8' codec"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, line: str, said: str) -> None:
    folder = emobox_tree(tmp_path / "ravdess", "ravdess", WAVS, [[], WAVS])
    path = folder / "fold_1" / "ravdess_train_fold_1.jsonl"
    path.write_bytes(path.read_bytes() + line.encode("latin-1"))
    assert said in refused(folder)
