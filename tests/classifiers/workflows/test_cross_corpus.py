"""Across datasets: every cell is what fitting by hand gives, and shared recordings never count."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.extraction import extracted
from helpers.logs import notes_into
from helpers.places import Ser
from helpers.sounds import noise, write
from helpers.trees import TREES

from classifiers import Task, leaderboard, make_folds
from classifiers.evaluation.cross_validation import fit_head
from classifiers.evaluation.metrics import confusion, uar
from classifiers.evaluation.run_folder import load_runs
from classifiers.heads import get
from classifiers.heads._spec import Head
from classifiers.protocols.fold import fold_hash
from classifiers.reporting.hardest_clips import clip_facts, vector_map
from classifiers.workflows.comparison import run_comparison
from classifiers.workflows.configurations import ComparisonConfig, CrossConfig
from classifiers.workflows.cross_corpus import cross
from classifiers.workflows.finetuning import FinetuneConfig, finetune
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts, ConfigError, DataError

DATASETS = ("cremad", "emodb", "tess")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """Three small datasets; one clip of CREMA-D stands, under another name, in TESS, too."""
    root = tmp_path_factory.mktemp("cross")
    for number, name in enumerate(DATASETS):
        tree = TREES[name].make(root / name, seed=1000 * number)
        if name == "tess":
            shutil.copy(root / "cremad" / "AudioWAV" / "1001_DFA_ANG_XX.wav", tree / "OAF_angry" / "OAF_bite_angry.wav")
        extracted(tree, root / "artifacts", dataset=name)
    return Artifacts(root / "artifacts")


def test_every_cell_is_what_fitting_by_hand_gives(place: Artifacts) -> None:
    run, cells = cross(place, CrossConfig(heads=("logreg",)), jobs=1)
    by_pair = {(cell.train, cell.test): cell for cell in cells}
    assert set(by_pair) == {(a, b) for a in DATASETS for b in DATASETS}
    cell = by_pair["cremad", "emodb"]
    assert cell.labels == "angry+disgust+fear+happy+neutral+sad"  # no boredom
    train, test = (Task.load(name, artifacts=place, labels="emotion") for name in ("cremad", "emodb"))
    kept = np.flatnonzero(test.y != "boredom")
    spec: Head = get("logreg")
    model = fit_head(spec, train, np.arange(len(train)), seed=0)
    matrix = confusion(test.y[kept], model.predict(test.X[kept]), train.labels)
    assert cell.uar == pytest.approx(float(uar(matrix)))
    assert (cell.train_clips, cell.test_clips, cell.excluded, cell.protocol) == (48, 36, 0, "cross")
    assert cell.majority_war == pytest.approx(1 / 6)
    assert cell.chance == pytest.approx(1 / 6)
    assert (cell.train_other, cell.test_other) == (0, 6)
    rows = list(csv.DictReader((run / "cross.csv").open()))
    assert [(row["train"], row["test"]) for row in rows] == [(cell.train, cell.test) for cell in cells]
    assert (run / "cross-logreg-on-mfcc.png").stat().st_size > 10_000
    assert len(list(csv.DictReader((run / "leaderboard.csv").open()))) == 9


def test_the_diagonal_is_within_the_dataset_by_speaker(place: Artifacts) -> None:
    run, cells = cross(place, CrossConfig(("tess", "cremad"), ("tess",), heads=("logreg",)), jobs=1)
    within = next(cell for cell in cells if cell.train == cell.test)
    assert (within.protocol, within.test_clips, within.test_speakers) == ("speakers", 16, 2)
    assert (within.train_clips, within.train_speakers) == (8, 1)
    assert "speaker" not in within.leaks
    asked = ComparisonConfig(("tess",), heads=("logreg",), labels="emotion", folds=2)
    _, (alone,) = run_comparison(place, asked, jobs=1)  # with as many folds as there are speakers, at most
    assert within.uar == leaderboard([alone])[0].uar
    (within_run,) = [p for p in load_runs(place, [run.name]) if p.protocol == "speakers"]
    assert within_run.fold_hash == alone.fold_hash


def test_recordings_and_speakers_in_both_are_left_out_of_the_test_and_counted(place: Artifacts) -> None:
    """The speaker of the shared recording has seven further clips in TESS, and was trained on."""
    said: list[str] = []
    _, cells = cross(place, CrossConfig(("cremad",), ("tess",), heads=("logreg",)), jobs=1, log=notes_into(said))
    (cell,) = cells
    assert (cell.labels, cell.excluded, cell.test_clips, cell.test_speakers) == ("angry+fear+happy", 8, 6, 1)
    assert not {"audio", "speaker"} & set(cell.leaks.split("+"))
    assert said == [
        "note: 1 speaker with several names count as one person each (cremad:1001 = tess:OAF): they share a recording, "
        "or --same-names one says so."
    ]


def test_pairs_that_share_too_little_are_said(place: Artifacts, tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text(
        "from,to\nangry,angry\nboredom,boredom\ndisgust,drop\nfear,drop\nhappy,drop\nneutral,drop\nsad,drop\n"
        "surprise,boredom\n"
    )
    said: list[str] = []
    asked = CrossConfig(("cremad", "emodb"), ("tess",), heads=("logreg",), labels=str(tmp_path / "one.csv"))
    _, cells = cross(place, asked, jobs=1, log=notes_into(said))
    assert [(cell.train, cell.test) for cell in cells] == [("emodb", "tess")]
    shared = "angry; clips of tess whose recording or speaker is also in cremad: 4"  # of OAF
    assert said[1:] == [f"note: cremad and tess: left out. The datasets share fewer than two labels ({shared})."]
    with pytest.raises(DataError, match="no pair of datasets can be compared"):
        cross(place, CrossConfig(("cremad",), ("tess",), heads=("logreg",), labels=asked.labels), jobs=1)


@pytest.mark.long
def test_the_command(ser: Ser, place: Artifacts, tmp_path: Path) -> None:
    shutil.copytree(place.root, tmp_path / "artifacts")
    for wrong in ((), ("--train", "cremad"), ("--all", "--test", "tess")):
        failed = ser("cross", *wrong)
        assert (failed.returncode, "wanted" in failed.stderr) == (2, True), failed.stderr
    failed = ser("cross", "--train", "tess", "--test", "tess")
    assert (failed.returncode, "wanted" in failed.stderr) == (1, True), failed.stderr
    done = ser("cross", "--all", "--head", "logreg")
    assert done.returncode == 0, done.stderr
    assert "logreg on mfcc, across datasets" in done.stdout
    assert "emodb\tboredom\tboredom\t6" in done.stdout
    board = ser("leaderboard")
    assert board.returncode == 0
    assert "cremad->tess" in board.stdout


def small(root: Path, place: Path, clips: dict[str, Path | int]) -> None:
    """A folder of one's own: copies of files, or noise of a seed, by name; extracted."""
    for name, source in clips.items():
        if isinstance(source, int):
            write(root / name, noise(0.2, seed=source))
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, root / name)
    extracted(root, place, dataset="folder")


def test_labels_that_exclusion_leaves_untested_are_no_labels_of_the_pair(place: Artifacts, tmp_path: Path) -> None:
    """All happy clips of the folder are recordings of CREMA-D: with one label left there is nothing to compare."""
    shutil.copytree(place.root, tmp_path / "artifacts")
    happy = sorted((place.root.parent / "cremad").rglob("*_HAP_*.wav"))[:2]
    clips = {f"happy/ann_{n}.wav": path for n, path in enumerate(happy)}
    small(tmp_path / "part", tmp_path / "artifacts", clips | {f"sad/bob_{n}.wav": 800 + n for n in range(2)})
    said: list[str] = []
    asked = CrossConfig(("cremad", "emodb"), ("folder-part",), heads=("logreg",))
    _, cells = cross(Artifacts(tmp_path / "artifacts"), asked, jobs=1, log=notes_into(said))
    assert [(cell.train, cell.labels, cell.excluded) for cell in cells] == [("emodb", "happy+sad", 0)]
    assert said[1:] == [
        "note: cremad and folder-part: left out. The datasets share fewer than two labels (sad; clips of folder-part "
        "whose recording or speaker is also in cremad: 2)."
    ]


def test_a_diagonal_that_cannot_be_is_left_out_before_anything_is_fitted(place: Artifacts, tmp_path: Path) -> None:
    shutil.copytree(place.root, tmp_path / "artifacts")
    clips = {f"{label}/ann_{n}.wav": 900 + 10 * len(label) + n for label in ("happy", "sad") for n in range(2)}
    small(tmp_path / "one", tmp_path / "artifacts", clips)
    said: list[str] = []
    both = ("cremad", "folder-one")
    asked = CrossConfig(both, both, heads=("logreg",))
    _, cells = cross(Artifacts(tmp_path / "artifacts"), asked, log=notes_into(said))
    assert {(cell.train, cell.test) for cell in cells} == {("cremad", "cremad"), both, both[::-1]}
    assert len(said) == 1
    assert said[0].startswith(
        "note: folder-one tested on itself: left out. protocol 'speakers' with 2 folds needs 2 speakers"
    )


def test_one_corpus_under_two_names_leaks_its_speakers(tmp_path: Path) -> None:
    """RAVDESS's actors speak and sing."""
    for name in ("ravdess", "ravdess-song"):
        extracted(TREES[name].make(tmp_path / name, seed=1000 * len(name)), tmp_path / "artifacts", dataset=name)
    place = Artifacts(tmp_path / "artifacts")
    _, (cell,) = cross(place, CrossConfig(("ravdess",), ("ravdess-song",), heads=("logreg",)), jobs=1)
    assert cell.leaks == "speaker+text"
    union = Task.load(["ravdess", "ravdess-song"], artifacts=place, labels="emotion")
    assert set(union.speakers) == {f"ravdess:{actor:02d}" for actor in range(1, 5)}


def halves(root: Path, first: str = "ann", second: str = "ann") -> Artifacts:
    """One corpus in two folders, half of the clips in each: the speakers ann, bob and eve, or other names for ann."""
    for seed, (name, speaker) in enumerate((("one", first), ("two", second))):
        clips = {
            f"{label}/{who}_{take}.wav": 10_000 * seed + 100 * len(label) + 10 * n + take
            for label in ("happy", "sad")
            for n, who in enumerate((speaker, f"bob{seed}", f"eve{seed}"))
            for take in range(2)
        }
        small(root / name, root / "artifacts", clips)
    return Artifacts(root / "artifacts")


OWN = ("folder-one", "folder-two")


def test_equal_names_in_two_folders_are_asked_about(tmp_path: Path) -> None:
    place = halves(tmp_path, "Ann 1", "ann  01")
    question = (
        "folder-one and folder-two have speakers of the same names: ann 1. .*--same-names one; .*--same-names two"
    )
    for refused in (
        lambda: cross(place, CrossConfig(OWN[:1], OWN[1:], heads=("logreg",)), jobs=1),
        lambda: run_comparison(place, ComparisonConfig(OWN, heads=("logreg",), folds=2), jobs=1),
        lambda: fit_model(place, ComparisonConfig(OWN, heads=("logreg",), folds=2), jobs=1),
        lambda: finetune(place, FinetuneConfig(OWN)),
        lambda: Task.load(OWN, artifacts=place),
    ):
        with pytest.raises(DataError, match=question):
            refused()
    with pytest.raises(ConfigError, match="got --same-names maybe; wanted one if .*, or two if"):
        Task.load(OWN, artifacts=place, same_names="maybe")


def test_one_person_in_two_folders_is_not_tested_on(tmp_path: Path) -> None:
    place, asked = halves(tmp_path), CrossConfig(OWN[:1], OWN[1:], heads=("logreg",), same_names="one")
    run, (cell,) = cross(place, asked, jobs=1)
    assert (cell.excluded, cell.test_clips, cell.test_speakers) == (4, 8, 2)
    assert json.loads((run / "run.json").read_text())["asked"]["same_names"] == "one"
    _, (cell,) = cross(place, replace(asked, same_names="two"), jobs=1)
    assert (cell.excluded, cell.test_clips, cell.test_speakers) == (0, 12, 3)
    assert "speaker" not in cell.leaks


def test_a_pair_of_which_nobody_is_left_is_left_out(tmp_path: Path) -> None:
    """One corpus, half of the clips in each folder, under the same names: no pair of two."""
    for name in ("one", "two"):
        clips = {f"{label}/s{n}_1.wav": hash_of(name, label, n) for label in ("happy", "sad") for n in range(4)}
        small(tmp_path / name, tmp_path / "artifacts", clips)
    said: list[str] = []
    asked = CrossConfig(OWN, OWN, heads=("logreg",), same_names="one")
    _, cells = cross(Artifacts(tmp_path / "artifacts"), asked, jobs=1, log=notes_into(said))
    assert [(cell.train, cell.test) for cell in cells] == [(name, name) for name in OWN]
    assert "4 speakers with several names count as one person each" in said[0]
    assert "s2 and 1 more" in said[0]
    assert said[1] == (
        "note: folder-one and folder-two: left out. The recordings or the speakers of all 8 clips of folder-two are "
        "also in folder-one."
    )


def hash_of(name: str, label: str, n: int) -> int:
    return 10_000 * len(name) + 5_000 * (name == "two") + 100 * len(label) + n


def test_a_union_keeps_one_person_in_one_fold(tmp_path: Path) -> None:
    place = halves(tmp_path)
    one, two = (Task.load(OWN, artifacts=place, same_names=said) for said in ("one", "two"))
    assert len(set(one.speakers)) == 5
    assert len(set(two.speakers)) == 6
    assert {name for name in set(one.own_speakers) if "ann" in name} == {"folder-one:ann", "folder-two:ann"}
    assert set(one.own_speakers) == set(two.speakers)
    for fold in make_folds(one, "loso"):
        assert len(set(one.speakers[fold.test])) == 1
    assert len(make_folds(one, "loso")[0].test) == 8  # ann, of both folders
    assert fold_hash(one, make_folds(one, "random", 2)) != fold_hash(two, make_folds(two, "random", 2))


def test_the_map_of_a_report_has_the_speakers_of_the_run(tmp_path: Path) -> None:
    place = halves(tmp_path)
    asked = ComparisonConfig(OWN, heads=("logreg",), folds=2, same_names="one")
    _, (p,) = run_comparison(place, asked, jobs=1)
    drawn = vector_map(p, clip_facts(place, p.dataset), place)
    assert drawn.reason == ""
    assert sorted(drawn.speakers) == sorted(p.speakers)
    assert len(set(drawn.speakers)) == 5


def test_people_with_a_recording_in_common_are_one_without_being_asked_about(tmp_path: Path) -> None:
    """Equal names need no answer if a recording gives it; it holds against `two` as well."""
    halves(tmp_path)
    shutil.copy(tmp_path / "one" / "sad" / "ann_0.wav", tmp_path / "two" / "sad" / "ann_7.wav")
    extracted(tmp_path / "two", tmp_path / "artifacts", dataset="folder")
    place = Artifacts(tmp_path / "artifacts")
    for said in ("", "one", "two"):
        assert len(set(Task.load(OWN, artifacts=place, same_names=said).speakers)) == 5
    _, (cell,) = cross(place, CrossConfig(OWN[:1], OWN[1:], heads=("logreg",)), jobs=1)
    assert (cell.excluded, cell.test_clips) == (5, 8)


def test_a_published_corpus_keeps_its_speakers(tmp_path: Path) -> None:
    """An own speaker called 01 is not actor 01 of RAVDESS."""
    extracted(TREES["ravdess"].make(tmp_path / "ravdess", seed=3000), tmp_path / "artifacts")
    small(tmp_path / "one", tmp_path / "artifacts", {f"{label}/01_1.wav": len(label) for label in ("happy", "sad")})
    union = Task.load(["ravdess", "folder-one"], artifacts=Artifacts(tmp_path / "artifacts"))
    assert {"ravdess:01", "folder-one:01"} <= set(union.speakers)
