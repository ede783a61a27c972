"""Comparison, predictions, leaderboard, pictures: the truth is one file, and everything follows from it."""

import csv
import gc
import io
import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.logs import notes_into
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from classifiers import Task, compare, heads, leaderboard, load_predictions, make_folds, save_predictions
from classifiers.adaptation.amounts import NO_ADAPTATION, parse_amounts
from classifiers.checks import toy_task
from classifiers.data.memmap import MappedRows, write_rows
from classifiers.evaluation.cross_validation import run_folds
from classifiers.evaluation.leaderboard import COLUMNS, latest, per_label_csv, to_csv
from classifiers.evaluation.run_folder import load_runs
from classifiers.heads.stack import Stack
from classifiers.protocols.fold import Fold
from classifiers.reporting.figures import save_pictures
from classifiers.workflows.comparison import run_comparison
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import (
    Artifacts,
    ConfigError,
    DataError,
    EmbeddingStore,
    Manifest,
    SerError,
    StoreError,
    UnknownName,
    load_encoder,
)
from embedcache.manifest import Clip


@pytest.fixture(scope="module")
def noisy() -> Task:
    """A task on which every head errs."""
    t = toy_task(n_layers=2, view="layers", seed=1)
    return replace(t, X=t.X + 6 * np.random.default_rng(0).standard_normal(t.X.shape).astype(np.float32))


def same(a, b) -> None:
    for first, second in zip(a, b, strict=True):
        for name in ("clip_ids", "speakers", "folds", "seeds", "truth", "predicted", "proba"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.long
def test_the_result_does_not_depend_on_the_number_of_jobs(noisy: Task) -> None:
    some = ["lgbm", "mlp", "svm"]
    one, two = (compare(noisy, some, "speakers", n_folds=2, seeds=2, jobs=jobs) for jobs in (1, 2))
    assert [p.head for p in one] == some
    same(one, two)


class FittedAlone(Stack):
    """A `stack` that is fitted itself."""

    averages = ()


@pytest.mark.parametrize("others", [[], ["svm", "lda"]])
def test_the_mean_of_heads_is_what_a_fit_of_its_own_gives(noisy: Task, others: list[str]) -> None:
    """Whether the heads that `stack` averages are in the comparison or not, with development clips and adaptation."""
    own = replace(heads.get("stack"), build=lambda **given: FittedAlone(random_state=given["random_state"]))
    rows = np.arange(160)
    fold = Fold("a", np.flatnonzero(rows % 4 > 1), np.flatnonzero(rows % 4 == 0), np.flatnonzero(rows % 4 == 1))
    for task, splits, amounts in (
        (noisy, [make_folds(noisy, "speakers", 2, seed) for seed in (0, 1)], parse_amounts(["0", "5"])),
        (
            replace(noisy, y=np.where(rows == 0, "rare", noisy.y)),
            [[replace(fold, dev=np.arange(0))], [fold]],
            (NO_ADAPTATION,),
        ),
    ):
        wanted = run_folds(task, [own], splits, "speakers", 1, amounts=amounts)
        found = run_folds(
            task, [heads.get(name) for name in [*others, "stack"]], splits, "speakers", 1, amounts=amounts
        )
        stacks = [p for p in found if p.head == "stack"]
        same(wanted, stacks)
        assert [(p.params, p.chosen) for p in wanted] == [(p.params, p.chosen) for p in stacks]
        assert all(p.fit_seconds > 0 for p in stacks)


def test_a_head_is_fitted_once_for_itself_and_for_the_mean(noisy: Task) -> None:
    totals = []

    @contextmanager
    def progress(what, total, unit):
        totals.append(total)
        yield lambda steps: None

    compare(noisy, ["ridge", "stack", "knn"], n_folds=2, jobs=1, progress=progress)
    assert totals == [2 * len({"ridge", "knn", *Stack().members})]
    assert Stack(final="logistic").averages == Stack(class_weight="balanced").averages == ()


@pytest.mark.long
def test_vectors_in_a_file_give_what_vectors_in_memory_give(
    noisy: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every head, in processes that open the file for themselves; none is left."""
    monkeypatch.setattr("classifiers.data.memmap.IN_MEMORY", 0)
    large = replace(noisy, X=write_rows(tmp_path / "scratch", noisy.X.shape, [noisy.X]))
    same(compare(noisy, n_folds=3, jobs=1), compare(large, n_folds=3, jobs=2))
    assert isinstance(large.to_view("pooled").X, MappedRows)
    del large
    gc.collect()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_comparison_that_fails_leaves_no_file(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(estimator: object, X: object, y: object) -> None:
        assert isinstance(X, MappedRows)
        assert list((artifacts.root / "scratch").iterdir())
        raise DataError("it failed")

    monkeypatch.setattr("classifiers.data.memmap.IN_MEMORY", 0)
    monkeypatch.setattr("classifiers.heads.logreg.LogReg.fit", fail)
    with pytest.raises(DataError, match="it failed"):
        run_comparison(artifacts, ComparisonConfig(heads=("logreg",), folds=2), jobs=1)
    gc.collect()
    assert list((artifacts.root / "scratch").iterdir()) == []


def test_each_row_is_what_plain_scikit_learn_gives(noisy: Task) -> None:
    (p,) = compare(noisy, ["logreg"], "speakers", n_folds=3, jobs=1)
    X = noisy.to_view("pooled").X
    for fold, chosen in zip(make_folds(noisy, "speakers", 3), p.chosen, strict=True):
        C = chosen["setting"]["C"]
        regression = LogisticRegression(C=C, max_iter=10_000, tol=1e-10)  # L-BFGS, another way to the optimum
        model = make_pipeline(StandardScaler(), regression).fit(X[fold.train].astype(float), noisy.y[fold.train])
        rows = p.folds == fold.name
        np.testing.assert_array_equal(p.predicted[rows], model.predict(X[fold.test]))
        np.testing.assert_allclose(p.proba[rows], model.predict_proba(X[fold.test]), atol=5e-6)
    (row,) = leaderboard([p])
    assert row.uar == pytest.approx(balanced_accuracy_score(p.truth, p.predicted))
    assert 0.5 < row.uar < 1


def test_test_labels_and_speakers_are_never_looked_at(noisy: Task) -> None:
    """Labels of the test clips are scrambled: no prediction moves."""
    (honest,) = compare(noisy, ["svm"], "speakers", n_folds=4, jobs=1)
    fold = make_folds(noisy, "speakers", 4)[0]
    from classifiers.evaluation.cross_validation import fit_head

    blinded = replace(noisy.to_view("pooled"), y=noisy.y.copy())
    blinded.y[fold.test] = np.roll(blinded.y[fold.test], 1)
    proba = fit_head(heads.get("svm"), blinded, fold.train, 0).predict_proba(blinded.X[fold.test])
    np.testing.assert_allclose(honest.proba[honest.folds == "1"], proba, atol=1e-6)


def test_predictions_survive_their_file(noisy: Task, tmp_path: Path) -> None:
    predictions = compare(noisy, ["mlp", "logreg"], "random", n_folds=2, jobs=1)
    save_predictions(tmp_path / "run", predictions, {"asked": "this"})
    again = load_predictions(tmp_path / "run")
    same(predictions, again)
    assert to_csv(leaderboard(again)) == to_csv([replace(row, run="run") for row in leaderboard(predictions)])
    assert again[0].histories == predictions[0].histories != ()
    header = (tmp_path / "run" / "predictions.csv").read_text().splitlines()[0]
    assert header == "dataset,clip_id,speaker,fold,seed,head,encoder,label,predicted,p_left,p_right"


@pytest.mark.parametrize("text", ["", "{}", '{"heads": [{}]}', '{"heads": 3}'])
def test_a_folder_that_is_no_run_is_refused(noisy: Task, tmp_path: Path, text: str) -> None:
    save_predictions(tmp_path, compare(noisy, ["logreg"], "random", n_folds=2, jobs=1), {})
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DataError, match="cannot be read as a run"):
        load_predictions(tmp_path)


def test_a_run_of_an_earlier_version_is_read(noisy: Task, tmp_path: Path) -> None:
    made = compare(noisy, ["logreg"], "random", n_folds=2, jobs=1)
    save_predictions(tmp_path, made, {})
    run = json.loads((tmp_path / "run.json").read_text())
    for name in ("label_view", "copies", "augment"):
        del run["heads"][0][name]
    (tmp_path / "run.json").write_text(json.dumps(run))
    (again,) = load_predictions(tmp_path)
    assert (again.label_view, again.copies, again.augment) == ("native", 0, "")
    same([again], made)


def test_the_leaderboard_has_the_designed_columns_and_ranks_peers(noisy: Task) -> None:
    assert " ".join(COLUMNS) == (
        "rank head encoder view dataset classes protocol folds seeds uar uar_low uar_high uar_fold_mean uar_fold_sd "
        "war macro_f1 ece fit_seconds predict_ms p_vs_best leaks n_clips n_speakers fold_hash fingerprint version run "
        "labels copies augment brier uar_seed_sd smallest_difference notes adapted adapt_clips draws"
    )
    heads = ["logreg", "svm", "layer_weighted"]
    both = compare(noisy, heads, "random", n_folds=3, jobs=1) + compare(noisy, heads, "speakers", n_folds=3, jobs=1)
    rows = list(csv.DictReader(io.StringIO(to_csv(leaderboard(both)))))
    assert [row["rank"] for row in rows] == ["1", "2", "3"] * 2
    assert [row["protocol"] for row in rows] == ["speakers"] * 3 + ["random"] * 3
    assert {(row["protocol"], row["leaks"]) for row in rows} == {("random", "speaker"), ("speakers", "")}
    for protocol in ("speakers", "random"):
        scores = [float(row["uar"]) for row in rows if row["protocol"] == protocol]
        assert scores == sorted(scores, reverse=True)
    assert {row["view"] for row in rows if row["head"] == "layer_weighted"} == {"layers"}
    for row in rows:
        assert float(row["uar_low"]) <= float(row["uar"]) <= float(row["uar_high"])
        assert (row["p_vs_best"] == "") == (row["rank"] == "1")
        assert (row["n_clips"], row["n_speakers"], row["folds"], row["seeds"]) == ("160", "8", "3", "1")


def test_scores_by_label(noisy: Task) -> None:
    predictions = compare(noisy, ["logreg"], "speakers", n_folds=2, jobs=1)
    rows = list(csv.DictReader(io.StringIO(per_label_csv(predictions))))
    assert [(row["label"], row["clips"]) for row in rows] == [("left", "80"), ("right", "80")]
    assert np.mean([float(row["recall"]) for row in rows]) == pytest.approx(leaderboard(predictions)[0].uar, abs=1e-3)


def test_repeats_are_left_out_and_other_parameters_are_not(noisy: Task) -> None:
    (p,) = compare(noisy, ["logreg"], "speakers", n_folds=2, jobs=1)
    runs = [replace(p, run="1"), replace(p, run="3"), replace(p, run="2", params={"C": 1}), replace(p, run="2")]
    assert sorted((q.run, q.params["C"]) for q in latest(runs)) == [("2", 1), ("3", "chosen")]


@pytest.mark.parametrize(
    "change", [{"fingerprint": "f" * 64}, {"view": "layers"}, {"fold_hash": "0" * 12}, {"copies": 2}]
)
def test_what_differs_in_vectors_or_folds_is_no_repeat(change: dict[str, object]) -> None:
    """The same encoder's name with other weights, or other folds: both rows stay."""
    (p,) = compare(toy_task(), ["logreg"], n_folds=2, jobs=1)
    first, second = replace(p, run="1", fingerprint="a" * 64), replace(p, run="2", fingerprint="a" * 64)
    assert [q.run for q in latest([first, second])] == ["2"]
    assert sorted(q.run for q in latest([first, replace(second, **change)])) == ["1", "2"]


def test_pictures_are_drawn(noisy: Task, tmp_path: Path) -> None:
    paths = list(save_pictures(tmp_path, compare(noisy, ["mlp", "logreg"], "random", n_folds=2, jobs=1)))
    assert [path.name for path in paths] == [
        "confusion-mlp-toy-toy.png",
        "calibration-mlp-toy-toy.png",
        "curves-mlp-toy-toy.png",
        "confusion-logreg-toy-toy.png",
        "calibration-logreg-toy-toy.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_pictures_of_joined_encoders_have_a_name_of_their_own(tmp_path: Path) -> None:
    (p,) = compare(toy_task(), ["ridge"], "random", n_folds=2, jobs=1)
    paths = list(save_pictures(tmp_path, [replace(p, encoder=name) for name in ("a+b", "a-b")], jobs=1))
    assert {path.name for path in paths} == {
        f"{kind}-ridge-{encoder}-toy.png" for kind in ("confusion", "calibration") for encoder in ("a+b", "a-b")
    }


def test_a_run_and_a_model_from_what_was_extracted(artifacts: Artifacts) -> None:
    asked = ComparisonConfig(heads=("logreg", "layer_weighted"), protocol="speakers", folds=2)
    folder, predictions = run_comparison(artifacts, asked, jobs=1)
    assert {path.name for path in folder.iterdir()} >= {
        "predictions.csv",
        "run.json",
        "leaderboard.csv",
        "intervals.csv",
        "per_label.csv",
    }
    assert [p.encoder for p in predictions] == ["mfcc", "mfcc"]
    assert predictions[0].leaks == "text"
    written = (folder / "leaderboard.csv").read_text()
    assert written == to_csv(leaderboard(load_runs(artifacts)))
    assert written == to_csv(leaderboard(load_runs(artifacts, [folder.name])))
    with pytest.raises(UnknownName, match="no run 'nope'"):
        load_runs(artifacts, ["nope"])
    model, card, _ = fit_model(artifacts, replace(asked, heads=("logreg",)), jobs=1)
    assert model.name == "ravdess-mfcc-logreg"
    assert (folder.parent / card.score["run"] / "predictions.csv").exists()
    assert card.n_clips == 24
    again, _, _ = fit_model(artifacts, replace(asked, heads=("logreg",)), jobs=1)
    assert again.name == "ravdess-mfcc-logreg-2"


def test_a_task_loads_what_is_whole_and_says_what_is_not(artifacts: Artifacts) -> None:
    task = Task.load(artifacts=artifacts, view="layers")
    assert (task.X.shape, task.n_layers, task.encoder, task.dataset) == ((24, 970), 1, "mfcc", "ravdess")
    np.testing.assert_array_equal(task.to_view("pooled").X, Task.load("ravdess", "mfcc", "pooled", artifacts).X)
    with pytest.raises(
        UnknownName, match="no extracted dataset 'tess'; have ravdess. Run `ser extract --dataset tess`"
    ):
        Task.load("tess", artifacts=artifacts)
    with pytest.raises(UnknownName, match="no extracted encoder 'hubert-base'; have mfcc"):
        Task.load("ravdess", "hubert-base", artifacts=artifacts)
    manifest = Manifest.from_csv(artifacts.manifest("ravdess"))
    more = (*manifest.clips, replace(manifest.clips[0], clip_id="new", key="f" * 64))
    Manifest("ravdess", more).to_csv(artifacts.manifest("ravdess"))
    with pytest.raises(DataError, match=r"no encoder has pooled of all 25 clips \(mfcc-.* lacks 1\). Run `ser extract"):
        Task.load(artifacts=artifacts)


def test_two_stores_of_one_name_are_never_guessed_between(artifacts: Artifacts) -> None:
    store = EmbeddingStore.of(artifacts.cache, load_encoder("mfcc").info)
    keys = sorted(store.keys)
    other = EmbeddingStore.of(artifacts.cache, replace(store.info, preprocessing="another soxr"))
    other.write(keys, {view: store.read(keys, view) + 1 for view in ("pooled", "layers")})
    folder, predictions = run_comparison(artifacts, ComparisonConfig(heads=("logreg", "logreg"), folds=2), jobs=1)
    assert sorted(p.encoder for p in predictions) == sorted([store.folder.name, other.folder.name])
    assert to_csv(leaderboard(load_predictions(folder))) == (folder / "leaderboard.csv").read_text()
    assert len(list(folder.glob("confusion-*.png"))) == 2
    with pytest.raises(
        DataError, match=r"several encoders have vectors of ravdess: mfcc-.*, mfcc-.*. Choose one with --encoder"
    ):
        Task.load(artifacts=artifacts)
    task = Task.load(encoder=other.folder.name, artifacts=artifacts)
    assert task.fingerprint == other.info.fingerprint


def test_pooled_cannot_become_layers() -> None:
    with pytest.raises(DataError, match="this task has the view 'pooled', but the head reads 'layers'"):
        compare(toy_task(), ["layer_weighted"], "random")


def test_columns_must_agree() -> None:
    with pytest.raises(DataError, match="got speakers with 1 rows and X with 2 rows; wanted one row per clip"):
        Task(np.zeros((2, 3), np.float32), np.array(["a", "b"]), np.array(["s"]))


def test_nothing_extracted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no extracted dataset. Run `ser extract"):
        Task.load(artifacts=tmp_path)
    with pytest.raises(SerError, match="no runs yet"):
        load_runs(Artifacts(tmp_path))
    with pytest.raises(StoreError, match="holds no shards"):
        _ = EmbeddingStore(tmp_path).info
    assert Clip("d", "c", "p", "l", "s").key == ""


def test_only_peers_are_ranked_against_each_other(noisy: Task) -> None:
    """Fewer clips, or other labels on the same clips, are another table."""
    part = noisy.take(np.arange(80))
    renamed = replace(noisy, y=np.where(noisy.y == "left", "no", "yes"))
    rows = leaderboard([p for t in (noisy, part, renamed) for p in compare(t, ["logreg"], "loso", jobs=1)])
    assert [row.rank for row in rows] == [1, 1, 1]
    assert len({row.fold_hash for row in rows}) == 3


def test_predictions_that_could_not_be_told_apart_are_refused(noisy: Task, tmp_path: Path) -> None:
    predictions = compare(noisy, ["logreg"], "random", n_folds=2, jobs=1)
    with pytest.raises(DataError, match="got several predictions of toy, toy, logreg for one run; wanted one"):
        save_predictions(tmp_path / "run", predictions * 2, {})


def test_a_predictions_file_that_lacks_rows_is_refused(noisy: Task, tmp_path: Path) -> None:
    save_predictions(tmp_path, compare(noisy, ["logreg"], "random", n_folds=2, jobs=1), {})
    path = tmp_path / "predictions.csv"
    lines = path.read_text().splitlines(keepends=True)
    for text in (lines[0], "".join(lines).replace(",right,", ",strange,")):
        path.write_text(text)
        with pytest.raises(
            DataError, match="predictions.csv has no rows of toy, toy, logreg, or rows with other labels"
        ):
            load_predictions(tmp_path)


def test_labels_of_any_kind_survive_files_and_pictures(tmp_path: Path) -> None:
    t = toy_task()
    odd = {"left": 'a, "b"', "right": "$\\bad$ 悲"}
    t = replace(t, y=np.array([odd[label] for label in t.y]), dataset="my/data set")
    predictions = compare(t, ["logreg"], "random", n_folds=2, jobs=1)
    save_predictions(tmp_path, predictions, {})
    same(predictions, load_predictions(tmp_path))
    assert {picture.parent for picture in save_pictures(tmp_path, predictions)} == {tmp_path}


def test_everything_is_refused_before_anything_is_fitted(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classifiers.workflows.comparison.run_folds", lambda *a: pytest.fail("it was fitted"))
    with pytest.raises(SerError, match="needs 5 speakers"):
        run_comparison(artifacts, ComparisonConfig(heads=("logreg",)))
    with pytest.raises(SerError, match="exists already"):
        fit_model(artifacts, ComparisonConfig(heads=("logreg",), folds=2), out=artifacts.root)
    with pytest.raises(ConfigError, match="got --encoder mfcc,other; a model has one encoder"):
        fit_model(artifacts, ComparisonConfig(heads=("logreg",), encoders=("mfcc", "other")))


def test_an_encoder_that_lacks_clips_is_left_out_aloud(artifacts: Artifacts) -> None:
    store = EmbeddingStore.of(artifacts.cache, load_encoder("mfcc").info)
    keys = sorted(store.keys)[:5]
    some = EmbeddingStore.of(artifacts.cache, replace(store.info, name="some", recipe_version=9))
    some.write(keys, {view: store.read(keys, view) for view in ("pooled", "layers")})
    said: list[str] = []
    _, predictions = run_comparison(artifacts, ComparisonConfig(heads=("knn",), folds=2), jobs=1, log=notes_into(said))
    assert [p.encoder for p in predictions] == ["mfcc"]
    assert said == [f"note: {some.folder.name} has 5 of the 24 clips of ravdess, and is left out."]


def test_rows_of_another_view_are_no_repeats(noisy: Task) -> None:
    (first,) = compare(noisy, ["logreg"], "random", n_folds=2, jobs=1)
    again = [replace(first, run=run, view=view) for run, view in (("1", "pooled"), ("2", "layers"), ("3", "layers"))]
    assert [(p.run, p.view) for p in latest(again)] == [("1", "pooled"), ("3", "layers")]
