"""Augmented copies: trained on with their clips; never tested on, never held out, never beside what they are of."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.places import Ser
from helpers.sounds import ravdess_tree
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin

from classifiers import Task, compare, leaderboard
from classifiers.checks import toy_task
from classifiers.data import memmap
from classifiers.data.task import Copies
from classifiers.heads import _base as _inner
from classifiers.heads import _neural, _scikit, get
from classifiers.heads._spec import Head
from embedcache import Artifacts, DataError, Manifest, ProtocolError

EACH = 3
EXTRACT = ("extract", "--dataset", "ravdess", "--encoder", "mfcc", "--root", "tree")
AUGMENT = ("--augment", "noise,gain", "--copies", EACH)


def copied(each: int = EACH) -> Task:
    """A toy task whose first column says which clip a row is, and whose second which copy of it."""
    plain = toy_task().to_view("pooled")
    X = np.array(plain.X)
    X[:, 0], X[:, 1] = np.arange(len(X)), 0
    of = np.tile(np.arange(len(X)), each)
    copies = X[of]
    copies[:, 1] = np.repeat(np.arange(1, each + 1), len(X))
    return replace(plain, X=X, copies=Copies(copies, of, each), clip_ids=np.arange(len(X)).astype(str))


class Spy(ClassifierMixin, BaseEstimator):
    """Remembers what it was given."""

    fitted, tested = [], []

    def __init__(self, random_state: int | None = None) -> None:
        self.random_state = random_state

    def fit(self, X, y, groups=None, copy_of=None):
        self.classes_ = np.unique(y)
        self.fitted.append((np.asarray(X), y, groups, copy_of))
        return self

    def predict_proba(self, X):
        self.tested.append(np.asarray(X))
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


class Unaware(Spy):
    """Splits by speaker, and does not ask for copies."""

    def fit(self, X, y, groups=None):
        return super().fit(X, y, groups)


def spying(estimator: type = Spy) -> Head:
    Spy.fitted, Spy.tested = [], []
    return Head("spy", "pooled", "", "", lambda n_layers=1, n_frames=1, random_state=None: estimator(random_state))


@pytest.mark.parametrize("protocol", ["speakers", "loso", "random", "holdout"])
def test_no_copy_of_a_tested_clip_is_trained_on(protocol: str) -> None:
    whole = copied()
    predictions = compare(whole, [spying()], protocol, n_folds=4, jobs=1)
    for (X, y, groups, copy_of), tested in zip(Spy.fitted, Spy.tested, strict=True):
        clips, number = X[:, 0].astype(int), X[:, 1].astype(int)
        assert not set(clips) & set(tested[:, 0].astype(int))
        assert (tested[:, 1] == 0).all()
        assert sorted(clips[number == 0]) == sorted(set(clips))
        assert all(sorted(clips[number == n]) == sorted(set(clips)) for n in range(1, EACH + 1))
        np.testing.assert_array_equal(y, whole.y[clips])
        np.testing.assert_array_equal(groups, whole.speakers[clips])
        np.testing.assert_array_equal(copy_of >= 0, number > 0)
        np.testing.assert_array_equal(clips[copy_of[number > 0]], clips[number > 0])
    (row,) = leaderboard(predictions)
    assert (row.copies, row.n_clips) == (EACH, len(set(predictions[0].clip_ids)))


def test_a_head_that_splits_without_asking_for_copies_is_refused() -> None:
    with pytest.raises(
        ProtocolError, match="head 'spy' splits its training data, but its `fit` lacks the parameter `copy_of`"
    ):
        compare(copied(), [spying(Unaware)], "speakers", n_folds=2, jobs=1)
    compare(replace(copied(), copies=None), [spying(Unaware)], "speakers", n_folds=2, jobs=1)


@settings(deadline=None, max_examples=50)
@given(
    clips=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), min_size=6, max_size=40),
    each=st.integers(1, 3),
    by_speaker=st.booleans(),
    seed=st.integers(0, 5),
)
def test_inner_splits_never_hold_a_copy_nor_train_on_one_of_what_they_hold(
    clips: list[tuple[int, int]], each: int, by_speaker: bool, seed: int
) -> None:
    n = len(clips)
    order = np.random.default_rng(seed).permutation(n * (each + 1))  # copies may stand anywhere
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    source = np.tile(np.arange(n), each + 1)
    copy_of = np.where(order < n, -1, place[source[order]])
    y, groups = (np.array(column)[source[order]] for column in zip(*clips, strict=True))
    folds = _inner.inner_folds(y, groups if by_speaker else None, 4, seed, copy_of)
    for train, held in folds:
        assert (copy_of[held] < 0).all()
        trained = {clip for clip in train if copy_of[clip] < 0}
        assert trained | set(held) == set(np.flatnonzero(copy_of < 0))
        assert {int(row) for row in train if copy_of[row] >= 0} == {
            row for row in range(len(copy_of)) if copy_of[row] in trained
        }
        assert not by_speaker or not set(groups[train]) & set(groups[held])


@pytest.mark.parametrize(
    ("name", "module", "function"),
    [
        ("mlp", _neural, "inner_folds"),
        ("layer_weighted", _neural, "inner_folds"),
        ("svm", _scikit, "calibration_folds"),
        ("ridge", _scikit, "calibration_folds"),
    ],
)
def test_the_heads_that_split_tell_their_splits_of_copies(
    name: str, module: object, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_copies = []
    splitter = getattr(module, function)

    def watched(y, groups, n_folds, seed, copy_of=None, dev=None):
        given_copies.append(copy_of)
        return splitter(y, groups, n_folds, seed, copy_of, dev)

    monkeypatch.setattr(module, function, watched)
    whole = replace(copied(1), view=get(name).view)
    compare(whole, [name], "speakers", n_folds=2, jobs=1)
    assert [int((copy_of >= 0).sum() * 2) for copy_of in given_copies] == [len(c) for c in given_copies]


def test_a_task_with_copies_is_loaded_as_they_were_extracted(
    ser: Ser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ravdess_tree(tmp_path / "tree")
    place = Artifacts(tmp_path / "artifacts")
    assert ser(*EXTRACT).returncode == 0
    with pytest.raises(DataError, match="dataset 'ravdess' has no augmented copies. Run `ser extract --augment"):
        Task.load(artifacts=place, copies=1)
    assert ser(*EXTRACT, *AUGMENT).returncode == 0
    plain, whole = Task.load(artifacts=place), Task.load(artifacts=place, copies=2)
    assert (whole.copies.X.shape, whole.copies.per_clip) == ((48, 970), 2)
    np.testing.assert_array_equal(whole.X, plain.X)
    assert not np.array_equal(whole.copies.X[:24], plain.X)  # the first copy of each
    np.testing.assert_allclose(whole.copies.X[:24].mean(), plain.X.mean(), rtol=0.5)
    np.testing.assert_array_equal(whole.copies.clip_rows, np.tile(np.arange(24), 2))
    assert (whole.copies.recipe, whole.skipped) == ("noise+gain, seed 0", ())
    listed = Manifest.from_csv(place.copies("ravdess"))
    short = replace(listed.clips[0], extra={**listed.clips[0].extra, "skipped": "too short"})
    replace(listed, clips=(short, *listed.clips[1:])).to_csv(place.copies("ravdess"))
    fewer = Task.load(artifacts=place, copies=1)
    assert (len(fewer.copies.clip_rows), fewer.skipped) == (23, (short.clip_id,))
    assert 0 not in fewer.copies.clip_rows
    listed.to_csv(place.copies("ravdess"))
    with pytest.raises(
        DataError, match="24 of 96 copies are missing, the first is '03-01-01-01-01-01-01#4'.*with --copies 4"
    ):
        Task.load(artifacts=place, copies=4)
    layers = Task.load(artifacts=place, view="layers", copies=2)
    np.testing.assert_array_equal(layers.to_view("pooled").copies.X, whole.copies.X)
    before = compare(whole, ["logreg"], "speakers", n_folds=2, jobs=1)[0]
    monkeypatch.setattr(memmap, "IN_MEMORY", 1000)
    large = Task.load(artifacts=place, copies=2)
    assert isinstance(large.X, memmap.MappedRows)
    assert isinstance(large.training(np.arange(5)).X, memmap.MappedRows)
    np.testing.assert_array_equal(compare(large, ["logreg"], "speakers", n_folds=2, jobs=1)[0].proba, before.proba)


def test_copies_of_an_earlier_recording_are_not_taken(ser: Ser, tmp_path: Path) -> None:
    ravdess_tree(tmp_path / "tree")
    assert ser(*EXTRACT, *AUGMENT).returncode == 0
    place = Artifacts(tmp_path / "artifacts")
    listed = Manifest.from_csv(place.copies("ravdess"))
    old = replace(listed.clips[0], extra={**listed.clips[0].extra, "copy_of": "f" * 64})
    replace(listed, clips=(old, *listed.clips[1:])).to_csv(place.copies("ravdess"))
    with pytest.raises(DataError, match="1 of 24 copies are missing"):
        Task.load(artifacts=place, copies=1)


@pytest.mark.long
def test_the_command_says_how_many_copies_were_used(ser: Ser, tmp_path: Path) -> None:
    ravdess_tree(tmp_path / "tree")
    assert ser(*EXTRACT, *AUGMENT).returncode == 0
    for copies in (0, EACH):
        done = ser("compare", "--head", "logreg", "--folds", "2", "--copies", copies)
        assert done.returncode == 0, done.stderr
        assert ("copies" in done.stdout) == bool(copies)
    assert ser(*EXTRACT, "--augment", "pitch", "--seed", "7").returncode == 0
    model = ser("fit", "--head", "logreg", "--folds", "2", "--copies", "1")
    assert "fitted on all 24 clips" in model.stdout, model.stderr
    rows = list(csv.DictReader(io.StringIO(ser("leaderboard").stdout)))
    assert sorted((row["copies"], row["augment"]) for row in rows) == [
        ("0", ""),
        ("1", "pitch, seed 7"),
        ("3", "noise+gain, seed 0"),
    ]
    card = json.loads((tmp_path / "artifacts" / "models" / "ravdess-mfcc-logreg" / "model.json").read_text())
    assert card["score"]["augment"] == "pitch, seed 7"
