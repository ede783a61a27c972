"""`svm` beyond the number of training clips up to which its kernel is exact."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import skops.io
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from classifiers import compare, heads
from classifiers.checks import toy_task
from classifiers.data.memmap import Floats
from classifiers.evaluation.cross_validation import is_approximate, params_of
from classifiers.evaluation.leaderboard import leaderboard
from classifiers.evaluation.row_texts import row_notes
from classifiers.export.head_graphs import head_model
from classifiers.heads import _scikit, svm
from classifiers.heads._calibrated import Calibrated
from classifiers.heads.stack import Stack
from classifiers.heads.svm import SVM
from classifiers.saved._safe_skops import load_head
from embedcache import ModelError


def clusters(n: int, labels: int = 4, seed: int = 0) -> tuple[Floats, np.ndarray, np.ndarray]:
    """Clips of labels that are three clusters each, so that no linear classifier tells them, and their speakers."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, 3 * labels, n)
    centres = np.random.default_rng(100).standard_normal((3 * labels, 12)) * 1.3
    X = (centres[cluster] + rng.standard_normal((n, 12))).astype(np.float32)
    return X, cluster % labels, rng.integers(0, 8, n)


@parametrize_with_checks([SVM(exact_up_to=0)])
def test_scikit_learns_common_tests_of_the_approximation(estimator, check) -> None:
    check(estimator)


@pytest.mark.parametrize("labels", [2, 4])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_up_to_the_limit_the_kernel_is_exact(labels: int, class_weight: str | None) -> None:
    X, y, speakers = clusters(160, labels)
    fitted = SVM(gamma="scale", class_weight=class_weight, exact_up_to=160).fit(X, y, groups=speakers)
    assert not fitted.approximate_
    exact = make_pipeline(StandardScaler(), SVC(C=10, class_weight=class_weight)).fit(X, y)
    np.testing.assert_array_equal(fitted.model_.decision_function(X), exact.decision_function(X))
    assert "approximate" not in params_of(fitted)
    beyond = SVM(class_weight=class_weight, exact_up_to=159).fit(X, y, groups=speakers)
    assert beyond.approximate_
    assert params_of(beyond)["approximate"] is True


def test_only_clips_to_train_on_count() -> None:
    X, y, speakers = clusters(160)
    dev = np.arange(160) >= 120
    assert not SVM(exact_up_to=120).fit(X, y, groups=speakers, dev=dev).approximate_
    assert SVM(exact_up_to=119).fit(X, y, groups=speakers, dev=dev).approximate_


def test_the_temperature_is_that_of_the_approximation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inner folds have fewer clips than the limit, but decision values of the two machines differ in scale."""
    X, y, speakers = clusters(160)
    fitted = []
    original = SVM._approximation
    monkeypatch.setattr(SVM, "_approximation", lambda self, X, *rest: fitted.append(len(X)) or original(self, X, *rest))
    SVM(exact_up_to=159).fit(X, y, groups=speakers)
    assert len(fitted) == 1 + _scikit.CALIBRATION_FOLDS
    assert max(fitted[:-1]) < 159 < fitted[-1] == 160


def test_with_all_clips_as_the_sample_it_is_the_machine_with_squared_errors() -> None:
    """The decision values solve the linear system of Suykens & Vandewalle: [0 1; 1 K + I/C] [b; a] = [0; t]."""
    X, y, _ = clusters(150)
    fitted = SVM(C=2, gamma=0.05, exact_up_to=0).fit(X, y)
    train = StandardScaler().fit_transform(X).astype(np.float64)
    K = rbf_kernel(train, gamma=0.05)
    system = np.block([[np.zeros((1, 1)), np.ones((1, 150))], [np.ones((150, 1)), K + np.eye(150) / 2]])
    targets = np.where(y[:, None] == np.arange(4), 1.0, -1.0)
    solution = np.linalg.solve(system, np.concatenate([np.zeros((1, 4)), targets]))
    np.testing.assert_allclose(fitted.model_.decision_function(X), solution[0] + K @ solution[1:], atol=1e-5)


def test_a_sample_of_a_fifth_of_the_clips_is_as_good_as_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svm, "SAMPLE", 200)
    (X, y, speakers), (unseen, truth, _) = clusters(1000), clusters(1000, seed=1)
    exact, near = (SVM(exact_up_to=n).fit(X, y, groups=speakers) for n in (1000, 0))
    assert near.model_.named_steps["kernel"].components_.shape == (200, 12)
    scores = [balanced_accuracy_score(truth, fitted.predict(unseen)) for fitted in (exact, near)]
    assert scores[1] > scores[0] - 0.01
    assert scores[0] > 0.7


def test_the_seed_changes_nothing() -> None:
    X, y, _ = clusters(100)
    a, b = (SVM(random_state=seed, exact_up_to=0).fit(X, y).predict_proba(X) for seed in (0, 1))
    np.testing.assert_array_equal(a, b)


def test_a_row_says_that_its_head_is_approximate(monkeypatch: pytest.MonkeyPatch) -> None:
    task = toy_task()
    assert all(
        "approximate" not in row.notes for row in leaderboard(compare(task, ["svm", "ridge"], n_folds=2, jobs=1))
    )
    monkeypatch.setattr(SVM, "_prepare", lambda self, n_rows: setattr(self, "approximate_", n_rows > 40))
    made = {p.head: p for p in compare(task, ["svm", "ridge", *heads.wrapped([heads.get("svm")], 0, True)], jobs=1)}
    assert {name: p.params.get("approximate") for name, p in made.items()} == {
        "svm": True,
        "ridge": None,
        "svm-calibrated": True,
    }
    assert any(note.startswith("approximate, ") for note in row_notes(made["svm"]))
    assert not any(note.startswith("approximate, ") for note in row_notes(made["ridge"]))


def test_an_ensemble_is_approximate_if_a_member_is(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, _ = clusters(100)
    fitted = Stack(members=("ridge", "svm")).fit(X, y)
    assert not is_approximate(fitted)
    monkeypatch.setattr(SVM, "_prepare", lambda self, n_rows: setattr(self, "approximate_", True))
    assert is_approximate(Stack(members=("ridge", "svm")).fit(X, y))
    assert is_approximate(Calibrated(SVM(exact_up_to=0)).fit(X, y))


@pytest.mark.parametrize("change", [{"kernel": "linear"}, {"n_jobs": 1000}])
def test_a_saved_approximation_with_other_settings_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    X, y, _ = clusters(60)
    fitted = SVM(exact_up_to=0).fit(X, y)
    fitted.model_.named_steps["kernel"].set_params(**change)
    skops.io.dump(fitted, tmp_path / "head.skops")
    with pytest.raises(ModelError, match="its sampled kernel has settings that no head of ser has"):
        load_head(tmp_path / "head.skops")


@pytest.mark.parametrize("labels", [2, 4])
def test_an_approximation_is_saved_and_exported(labels: int, tmp_path: Path) -> None:
    X, y, _ = clusters(300, labels)
    fitted = SVM(exact_up_to=0).fit(X[:200], np.array(["a", "b", "c", "d"])[y[:200]])
    skops.io.dump(fitted, tmp_path / "head.skops")
    wanted = fitted.predict_proba(X)
    np.testing.assert_array_equal(load_head(tmp_path / "head.skops").predict_proba(X), wanted)
    model = head_model(fitted)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for rows, truth in ((X, wanted), (X[:1], wanted[:1])):
        np.testing.assert_allclose(session.run(["probabilities"], {"embedding": rows})[0], truth, atol=2e-6)
