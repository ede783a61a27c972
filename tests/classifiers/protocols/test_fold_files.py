"""Folds of one's own: what a file lists are the folds, whatever its form; what is written reads as the same folds."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers import Task, make_folds
from classifiers.protocols.fold import Fold, fold_hash
from classifiers.protocols.fold_files import folds_csv, read_folds
from classifiers.protocols.fold_list import common_names, in_order
from classifiers.protocols.leaks import leaks
from classifiers.protocols.listed import listed_splits, listing_notes
from embedcache import ConfigError, DataError, ProtocolError
from embedcache.manifest import Clip

WRITABLE = ("speakers", "sessions", "loso", "random", "holdout")
NAMES = ("s0", "s2", "s10", "7", "12", "train", "NA", "x y", "Ä", "1.50", 'q"q', "fold 3", "=1", "0.5")


def task(speakers: tuple[str, ...] = ("s1", "s2", "s3", "s4"), labels: int = 2, takes: int = 3) -> Task:
    grid = [(s, f"l{n}", take) for s in speakers for n in range(labels) for take in range(takes)]
    spoken, y, _ = (np.array(column) for column in zip(*grid, strict=True))
    return Task(
        np.zeros((len(y), 0), np.float32),
        y,
        spoken,
        clip_ids=np.array([f"c{n}" for n in range(len(y))]),
        keys=np.array([f"k{n}" for n in range(len(y))]),
        texts=np.array([f"t{n}" for n in range(len(y))]),
        sessions=spoken,
        dataset="toy",
        training_known=True,
    )


def read(tmp_path: Path, text: str, t: Task, clips: tuple[Clip, ...] = ()) -> list[list[Fold]]:
    path = tmp_path / "folds.csv"
    path.write_text(text)
    return listed_splits(t, read_folds(path), clips)


def by_clip(t: Task, fold_of: dict[str, str]) -> str:
    """A list of folds by clip, where a speaker's clips are in one fold."""
    rows = zip(t.ids, t.speakers, strict=True)
    return "clip_id,fold\n" + "".join(f"{clip},{fold_of[speaker]}\n" for clip, speaker in rows)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(NAMES), min_size=3, max_size=12, unique=True),
    st.sampled_from(WRITABLE),
    st.integers(1, 3),
    st.randoms(),
)
def test_written_folds_are_read_as_the_same_folds(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], protocol: str, seeds: int, chance: random.Random
) -> None:
    t = task(tuple(names), takes=4)
    splits = [make_folds(t, protocol, n_folds=3, seed=seed) for seed in range(seeds)]
    header, *rows = folds_csv(t, splits, protocol).splitlines(keepends=True)
    chance.shuffle(rows)
    again = read(tmp_path_factory.mktemp("folds"), header + "".join(rows), t)
    assert [fold_hash(t, folds) for folds in again] == [fold_hash(t, folds) for folds in splits]
    for folds, wanted in zip(again, splits, strict=True):
        for fold, same in zip(folds, wanted, strict=True):
            np.testing.assert_array_equal(fold.test, np.sort(same.test))
            np.testing.assert_array_equal(fold.train, np.sort(same.train))


def test_folds_keep_their_names_if_these_are_read_in_their_order(tmp_path: Path) -> None:
    for speakers, wanted in (
        (("01", "02", "03"), ["01", "02", "03"]),
        (("10", "2", "3"), ["1", "2", "3"]),
        (("dev", "ann", "bea"), ["1", "2", "3"]),
    ):
        t = task(speakers)
        (folds,) = read(tmp_path, folds_csv(t, [make_folds(t, "loso")], "loso"), t)
        assert [fold.name for fold in folds] == wanted


@given(st.lists(st.integers(0, 10**6), unique=True), st.sampled_from(["", "fold ", "a:"]))
def test_numbers_in_names_are_sorted_by_value(numbers: list[int], before: str) -> None:
    names = [f"{before}{number}" for number in numbers]
    assert in_order(names) == [f"{before}{number}" for number in sorted(numbers)]


def test_one_number_is_one_name() -> None:
    assert common_names(["1.0", "01", "1", "A", "a", "1.5"]) == {
        **dict.fromkeys(["1.0", "01", "1"], "1"),
        **dict.fromkeys(["A", "a"], "A"),
        "1.5": "1.5",
    }


def test_the_form_of_a_list_does_not_matter(tmp_path: Path) -> None:
    t = task(("Ann", "bea", "07", "10"))
    fold_of = {"Ann": "1", "bea": "2", "07": "2", "10": "10"}
    wanted = read(tmp_path, by_clip(t, fold_of), t)
    assert [fold.name for fold in wanted[0]] == ["1", "2", "10"]
    hashes = {fold_hash(t, folds) for folds in wanted}
    for text in (
        "\ufeffSpeaker ID;Fold;note\nANN;1.0;x\n7;2;\nbea;2.0;\n10;10;\n",
        "speaker\tfold\n10\t10\nbea\t02\nann\t1\n7.0\t2\n",
        by_clip(t, fold_of).replace("clip_id,fold", "file,test_fold").replace(",1\n", ".wav,1\n"),
        by_clip(t, fold_of).replace("c1,", "C:\\data\\c1.wav,").replace("c2,", "somewhere/c2.flac,"),
    ):
        assert {fold_hash(t, folds) for folds in read(tmp_path, text, t)} == hashes, text


def test_clips_are_matched_by_the_paths_of_their_files(tmp_path: Path) -> None:
    t = task()
    clips = tuple(
        Clip("toy", clip, f"/data/{speaker}/take{n % 6}.wav", "l0", speaker)
        for n, (clip, speaker) in enumerate(zip(t.ids.tolist(), t.speakers.tolist(), strict=True))
    )
    rows = "".join(f"toy\\{c.speaker}\\{Path(c.path).name},{c.speaker in ('s1', 's2')}\n" for c in clips)
    (folds,) = read(tmp_path, f"path,fold\n{rows}", t, clips)
    assert [sorted(set(t.speakers[fold.test])) for fold in folds] == [["s3", "s4"], ["s1", "s2"]]
    with pytest.raises(DataError, match=r"1 row with a clip that is not known, or not one: row 25: 'take5.wav'"):
        read(tmp_path, f"path,fold\n{rows}".replace("toy\\s4\\take5", "take5"), t, clips)


def test_clips_without_a_fold_are_always_trained_on(tmp_path: Path) -> None:
    t = task()
    text = by_clip(t, {"s1": "", "s2": "1.0", "s3": "1.0", "s4": "2.0"})
    path = tmp_path / "folds.csv"
    path.write_text(text)
    listing = read_folds(path)
    (folds,) = listed_splits(t, listing)
    assert [sorted(set(t.speakers[fold.test])) for fold in folds] == [["s2", "s3"], ["s4"]]
    assert all(set(fold.train) | set(fold.test) == set(range(len(t))) for fold in folds)
    assert listing_notes(t, listing, [folds]) == [
        f"{path}: 6 clips of 24 are in no fold, and are trained on in every fold."
    ]
    assert leaks(t, folds, "listed") == ""


def test_clips_that_the_task_leaves_out_may_be_listed(tmp_path: Path) -> None:
    t = task()
    text = by_clip(t, {"s1": "1", "s2": "2", "s3": "1", "s4": "2"})
    fewer = t.take(np.arange(2, 24))
    with pytest.raises(DataError, match=r"2 rows with a clip that is not known, or not one: row 2: 'c0', row 3: 'c1'"):
        read(tmp_path, text, fewer)
    (folds,) = read(tmp_path, text, replace(fewer, skipped=("c0",), dropped=("c1",)))
    assert [len(fold.test) for fold in folds] == [10, 12]


def test_shared_speakers_and_recordings_are_leaks_and_are_said(tmp_path: Path) -> None:
    t = task()
    path = tmp_path / "folds.csv"
    path.write_text("clip_id,fold\n" + "".join(f"{clip},{n % 2}\n" for n, clip in enumerate(t.ids)))
    listing = read_folds(path)
    twins = replace(t, keys=np.where(np.isin(t.ids, ["c3", "c4"]), "same", t.keys))
    for each, wanted in ((t, "speaker"), (twins, "speaker+audio")):
        (folds,) = listed_splits(each, listing)
        assert leaks(each, folds, "listed") == wanted
    assert listing_notes(twins, listing, [folds]) == [
        f"{path}: training and test clips share 4 speakers (s1, s2, s3 and 1 more): the rows have the leak speaker.",
        f"{path}: training and test clips share 1 recording, byte for byte (such as c3 = c4): the rows have the leak "
        "audio.",
    ]


def test_folds_of_several_seeds(tmp_path: Path) -> None:
    t = task()
    path = tmp_path / "folds.csv"
    rows = [f"{s},{(n + turn) % 2},{seed}\n" for turn, seed in ((0, 20), (1, 3)) for n, s in enumerate(["s1", "s2"])]
    rows += [f"{s},{n},{seed}\n" for seed in (20, 3) for n, s in enumerate(["s3", "s4"])]
    path.write_text("speaker,fold,seed\n" + "".join(rows))
    listing = read_folds(path)
    splits = listed_splits(t, listing)
    tested = [[sorted(set(t.speakers[fold.test])) for fold in folds] for folds in splits]
    assert tested == [[["s2", "s3"], ["s1", "s4"]], [["s1", "s3"], ["s2", "s4"]]]
    assert listing_notes(t, listing, splits) == [
        f"{path}: its seeds 3, 20 are the seeds 0, 1, … of the run, in this order."
    ]
    path.write_text(path.read_text().replace("s4,1,3", "s4,2,3"))
    with pytest.raises(DataError, match=r"different numbers of folds: 3 \(seed 3\), 2 \(seed 20\); wanted the same"):
        listed_splits(t, read_folds(path))


GOOD = by_clip(task(), {"s1": "1", "s2": "1", "s3": "2", "s4": "2"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clip_id,fold\n", "lists no clips; wanted a row for each clip or speaker"),
        ("name,fold\nc0,1\n", "no column clip_id or speaker; its first line holds fold, name"),
        ("clip_id,split\nc0,1\n", "no column fold; its first line holds clip_id, split"),
        (GOOD.replace("c3,1", ",1"), "rows lack cells:\n  row 5: no clip_id\nComplete these rows"),
        ("speaker,fold,seed\ns1,1,0\ns2,2,\n", "rows lack cells:\n  row 3: no seed"),
        (GOOD.replace(",1\n", ",train\n").replace(",2\n", ",Test\n"), "the column fold holds Test, train; wanted the"),
        (GOOD.replace(",1\n", ",\n").replace(",2\n", ",NaN\n"), "no cell of the column fold names a fold"),
        (GOOD.replace(",1\n", ",\n").replace(",2\n", ",Valid\n"), "no cell of the column fold names a fold"),
        (GOOD.replace(",1\n", ",-1\n"), "the column fold holds -1; wanted the name of the fold in which a clip is"),
        (GOOD.replace(",1\n", ",-1.0\n"), "PredefinedSplit writes -1 for clips that are trained on in every fold"),
        (GOOD + "c0,2\n" * 4, "1 clip in several rows: c0 (row 2, row 26, row 27 and 2 more)"),
        (GOOD + "c0,2\n", "1 clip in several rows: c0 (row 2 and row 26)"),
        (GOOD + "x/c0.wav,1\n", "1 clip in several rows: c0 (row 2 and row 26)"),
        (GOOD.replace("c3,1\n", ""), "1 clip in no row: c3"),
        ("clip_id,fold\nc0,1\nc1,2\n", "22 clips in no row: c2, c3, c4 and 19 more"),
        (
            GOOD.replace("c3,", "q1,").replace("c4,", "q2,").replace("c5,", "q3,").replace("c6,", "q4,"),
            "4 rows with a clip that is not known, or not one: row 5: 'q1', row 6: 'q2', row 7: 'q3' and 1 more (ids "
            "here are c0, c1 and 22 more)\n  4 clips in no row: c3, c4, c5 and 1 more\nCorrect the list: each clip is",
        ),
        (
            "speaker,fold\ns1,1\ns2,2\ns3,1\nS3,2\ns5,1\n",
            "1 row with a speaker that is not known, or not one: row 6: 's5' (names here are s1, s2 and 2 more)\n"
            "  1 speaker in several rows: s3 (row 4 and row 5)\n  1 speaker in no row: s4\n",
        ),
        (
            "clip_id,speaker,fold\n" + GOOD.partition("\n")[2].replace(",", ",s1,"),
            "18 rows with another speaker than the dataset: row 8: s1 instead of s2, row 9: s1 instead of s2, row 10",
        ),
        ("speaker,fold,seed\ns1,1,0\ns2,2,0\ns1,1,1\ns2,2,1\n", "2 speakers in no row of seed 1: s3, s4"),
        (GOOD.replace(",2\n", ",1\n"), "the fold 1 leaves no clip to train on; wanted two or"),
    ],
)
def test_lists_that_are_no_folds_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises((DataError, ProtocolError)) as error:
        read(tmp_path, text, task())
    assert said in str(error.value)


def test_a_label_that_is_tested_must_be_trained_on(tmp_path: Path) -> None:
    t = task()
    rare = replace(t, y=np.where(t.speakers == "s1", "rare", t.y))
    with pytest.raises(ProtocolError, match=r"(?s)fold 1: 'rare' has no training clip .* or choose a --protocol"):
        read(tmp_path, GOOD, rare)
    with pytest.raises(ProtocolError, match="got 1 label"):
        read(tmp_path, GOOD, replace(t, y=np.full(24, "a")))


def test_a_fold_of_which_no_clip_is_left_is_refused(tmp_path: Path) -> None:
    t = task()
    text = by_clip(t, {"s1": "3", "s2": "1", "s3": "2", "s4": "1"})
    left = replace(t.take(np.flatnonzero(t.speakers != "s1")), dropped=tuple(t.ids[t.speakers == "s1"].tolist()))
    with pytest.raises(ProtocolError, match="fold 3: no test clips"):
        read(tmp_path, text, left)


def test_folds_that_such_a_file_cannot_hold_are_not_written() -> None:
    t = replace(task(), texts=np.tile(["a", "b", "c"], 8))
    with pytest.raises(ProtocolError, match=r"'speakers\+text' cannot be written: fold 1.1 leaves out \d+ clips"):
        folds_csv(t, [make_folds(t, "speakers+text", 2)], "speakers+text")
    (fold, _) = make_folds(t, "speakers", 2)
    with pytest.raises(ProtocolError, match="'mine' cannot be written: 12 clips would be tested in several folds"):
        folds_csv(t, [[fold, fold]], "mine")


def test_the_protocol_needs_a_file() -> None:
    with pytest.raises(ProtocolError, match="protocol 'listed' needs the folds of toy. Name their file with --folds"):
        make_folds(task(), "listed")


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="got --folds .*no.csv; wanted a number of folds, a CSV file with the columns"
    ):
        read_folds(tmp_path / "no.csv")
