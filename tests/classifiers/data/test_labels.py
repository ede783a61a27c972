"""One label space: nothing is dropped quietly, and datasets trained on together keep their speakers apart."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.extraction import extracted
from helpers.logs import notes_into
from helpers.places import Ser
from helpers.trees import TREES
from hypothesis import given
from hypothesis import strategies as st

from classifiers import Task, compare
from classifiers.data.labels import EMOTIONS, VIEWS, view_labels
from classifiers.workflows.comparison import run_comparison
from classifiers.workflows.configurations import ComparisonConfig
from embedcache import Artifacts, Clip, DataError, UnknownName, datasets


def clips(*labels: str, gender: str = "female", dataset: str = "d") -> list[Clip]:
    return [Clip(dataset, f"c{n}", f"c{n}.wav", label, "s", gender) for n, label in enumerate(labels)]


def test_every_label_of_every_dataset_is_in_the_table() -> None:
    assert {label for spec in datasets.all() for label in spec.labels} <= set(EMOTIONS)


@pytest.mark.parametrize(
    ("view", "wanted"),
    [
        ("native", ["calm", "fearful", "surprised", "boredom", "joy", "contempt"]),
        ("emotion", ["calm", "fear", "surprise", "boredom", "happy", "contempt"]),
        ("emotion6", ["", "fear", "", "", "happy", ""]),
        ("emotion4", ["", "", "", "", "happy", ""]),
        ("gender-emotion", ["female_neutral", "female_fear", "female_surprise", "", "female_happy", ""]),
    ],
)
def test_the_views(view: str, wanted: list[str]) -> None:
    seen = view_labels(clips("calm", "fearful", "surprised", "boredom", "joy", "contempt"), view)
    assert list(seen.labels) == wanted
    assert seen.dropped == wanted.count("")


def test_gender_emotion_has_14_classes() -> None:
    both = clips(*EMOTIONS) + clips(*EMOTIONS, gender="male")
    assert len(set(view_labels(both, "gender-emotion").labels) - {""}) == 14
    for gender, shown in (("", "d: no gender given"), ("unknown", "d: 'unknown'")):
        with pytest.raises(DataError, match=f"needs the gender of every speaker:\n  {shown}\nWrite female or male"):
            view_labels(clips("happy", gender=gender), "gender-emotion")
    spelled = [view_labels(clips("happy", gender=gender), "gender-emotion").labels for gender in ("F", "Female", "f")]
    assert spelled == [("female_happy",)] * 3


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(sorted(EMOTIONS))), min_size=1, max_size=30))
def test_every_clip_is_counted_once(listed: list[tuple[str, str]]) -> None:
    given_clips = [Clip(d, f"{n}", "x", label, "s", "male") for n, (d, label) in enumerate(listed)]
    for view in VIEWS:
        seen = view_labels(given_clips, view)
        assert sum(change.clips for change in seen.changes) == len(listed)
        after = Counter(label for label in seen.labels if label)
        assert after == Counter({c.becomes: 0 for c in seen.changes if c.becomes}) + sum(
            (Counter({c.becomes: c.clips}) for c in seen.changes if c.becomes), Counter()
        )
        assert sum(after.values()) + seen.dropped == len(listed)


def test_a_word_that_no_table_knows_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="--labels emotion6 has no target for: 'hapy' .dataset 'd'.. Use --labels FILE.csv"
    ):
        view_labels(clips("happy", "hapy"), "emotion6")
    assert view_labels(clips("hapy"), "native").labels == ("hapy",)
    with pytest.raises(UnknownName, match="no label view 'emotion5'; have emotion, emotion4.*A CSV file"):
        view_labels(clips("happy"), "emotion5")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text("from,to\nhappy ,positive\nsad,negative\nsad,negative\ncalm,Drop\n")
    assert view_labels(clips("happy", "calm", "sad"), str(path)).labels == ("positive", "", "negative")
    with pytest.raises(DataError, match="has no target for: 'angry'"):
        view_labels(clips("angry"), str(path))
    path.write_text("from,to\nhappy,positive\nhappy,negative\nsad,\n")
    with pytest.raises(DataError, match="'sad' has no target\n  'happy' has 2 targets"):
        view_labels(clips("happy"), str(path))
    path.write_text("a,b\n")
    with pytest.raises(DataError, match="no column from, to"):
        view_labels(clips("happy"), str(path))


@pytest.fixture
def two(tmp_path: Path) -> Artifacts:
    """RAVDESS and CREMA-D, small, extracted."""
    for seed, name in ((0, "ravdess"), (1000, "cremad")):  # no recording is in both
        extracted(TREES[name].make(tmp_path / name, seed=seed), tmp_path / "artifacts", dataset=name)
    return Artifacts(tmp_path / "artifacts")


def test_a_union_keeps_speakers_apart(two: Artifacts) -> None:
    alone = {name: Task.load(name, artifacts=two) for name in ("cremad", "ravdess")}
    task = Task.load(["ravdess", "cremad"], artifacts=two, labels="emotion6")
    assert (task.dataset, task.labels) == (
        "cremad+ravdess",
        ("angry", "disgust", "fear", "happy", "neutral", "sad"),
    )
    assert len(task) == 48 + 24  # of RAVDESS, calm and surprised are left out
    assert task.labels_from.dropped == 8
    assert set(task.speakers) == {f"{name}:{s}" for name, t in alone.items() for s in t.speakers}
    assert len(set(task.ids)) == len(task)
    assert {text.partition(":")[0] for text in task.texts} == {"cremad", "ravdess"}
    assert set(task.sessions) == {""}
    np.testing.assert_array_equal(task.X[:48], alone["cremad"].X)
    gendered = Task.load(["ravdess", "cremad"], artifacts=two, labels="gender-emotion")
    assert len(gendered.labels) == 14
    assert len(gendered) == 80
    assert Task.load(["ravdess", "cremad"], artifacts=two).labels_from.dropped == 0
    for predictions in compare(task, ["logreg"], "speakers", n_folds=2, jobs=1):
        assert (predictions.leaks.count("speaker"), predictions.label_view) == (0, "emotion6")


def test_sessions_are_read_and_prefixed_in_a_union(tmp_path: Path) -> None:
    for name in ("iemocap", "ravdess"):
        extracted(TREES[name].make(tmp_path / name), tmp_path / "artifacts", dataset=name)
    alone = Task.load("iemocap", artifacts=tmp_path / "artifacts")
    assert dict(zip(alone.ids.tolist(), alone.sessions.tolist(), strict=True))["Ses02M_script01_1b_F001"] == "2"
    assert set(Task.load("ravdess", artifacts=tmp_path / "artifacts").sessions) == {""}
    both = Task.load(["iemocap", "ravdess"], artifacts=tmp_path / "artifacts")
    assert set(both.sessions) == {"", "iemocap:1", "iemocap:2"}
    assert set(both.take(np.arange(len(alone))).sessions) == {"iemocap:1", "iemocap:2"}


def test_two_words_for_one_emotion_are_said(two: Artifacts) -> None:
    said: list[str] = []
    run_comparison(two, ComparisonConfig(("cremad", "ravdess"), heads=("knn",), folds=2), jobs=1, log=notes_into(said))
    assert said == ["note: the labels 'fear' and 'fearful' name one emotion; use --labels emotion to join them."]
    run_comparison(two, ComparisonConfig(("cremad",), heads=("knn",), folds=2), jobs=1, log=notes_into(said))
    assert len(said) == 1


def test_labels_that_leave_nothing_are_said(two: Artifacts, tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text("from,to\n" + "".join(f"{label},drop\n" for label in EMOTIONS))
    with pytest.raises(DataError, match="leaves no clip of 'ravdess'"):
        Task.load("ravdess", artifacts=two, labels=str(tmp_path / "none.csv"))


def test_what_became_of_the_labels_is_shown_and_saved(ser: Ser, two: Artifacts) -> None:
    common = ("compare", "--dataset", "ravdess,cremad", "--head", "logreg", "--folds", "2")
    done = ser(*common, "--labels", "emotion6")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split("\t") == ["dataset", "label", "becomes", "clips"]
    assert "ravdess\tcalm\t(left out)\t4" in lines
    assert "ravdess\tfearful\tfear\t4" in lines
    assert "clips before: 80; after: 72" in lines
    assert "cremad+ravdess, labels emotion6, protocol speakers: 2 folds, 72 clips, 8 speakers" in done.stdout
    (run,) = two.runs.iterdir()
    saved = (run / "labels.csv").read_text().splitlines()
    assert saved[0] == "dataset,label,becomes,clips"
    assert "ravdess,calm,,4" in saved
    assert sum(int(line.rpartition(",")[2]) for line in saved[1:]) == 80
    header, row = (run / "leaderboard.csv").read_text().splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=True))["labels"] == "emotion6"


def test_labels_in_any_case_have_their_emotion() -> None:
    assert view_labels(clips("Happy", "SAD"), "emotion").labels == ("happy", "sad")


def test_a_table_of_labels_compares_names_by_their_form(tmp_path: Path) -> None:
    table = tmp_path / "map.csv"
    table.write_text("from;to\nHappy;pos\nneutral;Pos\nsad;pos\ncalm;DROP\n")
    assert view_labels(clips("happy", "Neutral", "SAD", "calm"), str(table)).labels == ("pos", "pos", "pos", "")
    table.write_text("from,to\nhappy,pos\nHappy,neg\n")
    with pytest.raises(DataError, match="'happy' has 2 targets"):
        view_labels(clips("happy"), str(table))
