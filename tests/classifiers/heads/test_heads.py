"""Heads: scikit-learn's common tests, and ours. No failure of the common tests is expected of any head."""

import importlib
import inspect
import json
import pkgutil

import numpy as np
import pytest
import sklearn
from helpers.tolerance import close_to
from lightgbm import LGBMClassifier
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from classifiers import head, heads
from classifiers.checks import check_head, toy_task, toy_task_of
from classifiers.heads import _base, lgbm
from classifiers.heads._calibrated import Calibrated
from classifiers.heads._scikit import ScoreHead
from classifiers.heads._tuned import Tuned
from classifiers.heads._wrappers import wrapped
from classifiers.heads.layer_weighted import LayerWeighted
from classifiers.heads.logreg import LogReg
from classifiers.heads.mlp import MLP
from classifiers.heads.stack import Stack
from classifiers.heads.svm import SVM

NAMES = heads.names()
SLOW = ["cnn", "layer_cnn", "layer_weighted"]  # seconds even on these data; the last is the network of mlp
QUICK = [name for name in NAMES if name not in SLOW]


@parametrize_with_checks([head(name) for name in QUICK])
def test_scikit_learns_common_tests(estimator, check) -> None:
    check(estimator)


@pytest.mark.long
@parametrize_with_checks([head(name) for name in SLOW])
def test_scikit_learns_common_tests_of_slow_heads(estimator, check) -> None:
    check(estimator)


@pytest.mark.parametrize("name", NAMES)
def test_our_contract(name: str) -> None:
    spec = heads.get(name)
    task = toy_task_of(spec.view)
    estimator = spec.build(n_layers=task.n_layers, n_frames=task.n_frames, random_state=0).fit(task.X, task.y)
    assert estimator.classes_.tolist() == ["left", "right"]
    assert set(estimator.predict(task.X)) == {"left", "right"}
    assert estimator.score(task.X, task.y) > 0.95


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_check_head_passes_for_our_own(name: str) -> None:
    check_head(heads.get(name))


@pytest.mark.parametrize("name", NAMES)
def test_class_weight_moves_recall_to_the_rare_label(name: str) -> None:
    X, y = make_blobs([280, 20], n_features=4, centers=[[0] * 4, [1] * 4], cluster_std=1.2, random_state=0)
    plain, weighted = head(name), head(name).set_params(class_weight="balanced")
    rare = y == 1
    recalls = [est.fit(X.astype(np.float32), y).predict(X.astype(np.float32))[rare].mean() for est in (plain, weighted)]
    assert recalls[1] >= recalls[0]
    assert recalls[1] > 0.4


@pytest.mark.parametrize("name", [*QUICK, "layer_weighted"])
def test_a_head_is_at_home_in_plain_scikit_learn(name: str) -> None:
    task = toy_task()
    scores = cross_validate(
        make_pipeline(StandardScaler(), head(name)), task.X, task.y, groups=task.speakers, cv=GroupKFold(2)
    )
    assert scores["test_score"].mean() > 0.9


SPLITTING = {
    **{name: head(name) for name in ("mlp", "svm", "ridge", "lda", "logreg", "attention")},
    "layer_weighted": head("layer_weighted", n_layers=2),
    "best_layer": head("best_layer", n_layers=2),
    "stack": Stack(members=("logreg", "svm"), final="logistic"),
    "calibrated": Calibrated(LogReg(C=0.01)),
    "tuned": Tuned(LogReg(C=0.01), {"C": (0.1, 0.01)}),
}


@pytest.mark.parametrize("name", SPLITTING)
def test_a_head_that_splits_its_training_clips_splits_them_by_speaker(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With metadata routing a head gets the speakers; every inner fold that it asks for gets them from it."""
    task = toy_task()
    seen = []
    original = _base.inner_folds

    def watched(y: object, groups: object, *rest: object) -> object:
        seen.append(groups)
        return original(y, groups, *rest)

    for module in pkgutil.iter_modules(heads.__path__):
        imported = importlib.import_module(f"classifiers.heads.{module.name}")
        if hasattr(imported, "inner_folds"):
            monkeypatch.setattr(imported, "inner_folds", watched)
    with sklearn.config_context(enable_metadata_routing=True):
        cross_validate(SPLITTING[name], task.X, task.y, params={"groups": task.speakers}, cv=GroupKFold(2))
    assert len(seen) >= 2
    assert all(groups is not None and set(groups) <= set(task.speakers) for groups in seen)


def test_every_head_that_takes_groups_is_watched() -> None:
    taking = {n for n in heads.names() if "groups" in inspect.signature(heads.get(n).build().fit).parameters}
    assert taking - {"cnn", "layer_cnn"} <= set(SPLITTING), "its inner folds are tested above"


@pytest.mark.parametrize("seed", range(5))
def test_inner_folds_never_cut_a_speaker_in_two(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, speakers = rng.integers(0, 3, 120), rng.integers(0, 9, 120).astype(str)
    folds = _base.inner_folds(y, speakers, 4, seed)
    assert folds
    for train, held in folds:
        assert not set(speakers[train]) & set(speakers[held])
        assert len(np.unique(y[train])) == 3
        assert len(held)


def test_inner_folds_go_without_where_a_label_has_one_speaker() -> None:
    y = np.array([0, 0, 1, 1, 0, 0])
    assert _base.inner_folds(y, np.array(["a", "a", "b", "b", "c", "c"]), 3, 0) == []


def test_early_stopping_holds_out_whole_speakers(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = []
    original = MLP._split
    monkeypatch.setattr(MLP, "_split", lambda *a: splits.append(original(*a)) or splits[-1])
    task = toy_task()
    fitted = MLP(random_state=0).fit(task.X, task.y, groups=task.speakers)
    ((train, held),) = splits
    assert len(held)
    assert not set(task.speakers[train]) & set(task.speakers[held])
    np.testing.assert_allclose(fitted.scaler_.mean_, task.X[train].mean(axis=0), rtol=1e-4, atol=1e-5)
    assert {"train_loss", "train_accuracy", "val_loss", "val_accuracy"} == set(fitted.history_)


def test_early_stopping_stops_and_keeps_the_best_epoch() -> None:
    """On labels that are pure chance the held-out loss soon rises."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 20)).astype(np.float32), rng.integers(0, 2, 300)
    fitted = MLP(lr=1e-2, epochs=50, random_state=0).fit(X, y, groups=np.repeat(np.arange(30), 10))
    losses = fitted.history_["val_loss"]
    assert fitted.n_iter_ < 50
    assert np.argmin(losses) == len(losses) - 4


def test_the_optimizer_is_torchs_own() -> None:
    """With its scheduler, and a parameter that gets no gradient; to the bit."""
    import torch

    from classifiers.heads._torch import AdamW

    def made() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        torch.manual_seed(0)
        return [torch.randn(5, 3, requires_grad=True), torch.randn(3, requires_grad=True)], [
            torch.zeros(4, requires_grad=True)
        ]

    (a, b), (c, d) = made(), made()
    ours = AdamW([(a, 1e-2, 0.01), (b, 1e-1, 0.0)])
    theirs = torch.optim.AdamW([{"params": c}, {"params": d, "lr": 1e-1, "weight_decay": 0.0}], 1e-2, fused=True)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, factor=0.5, patience=1)
    for epoch in range(30):
        for first, second in ((a, b), (c, d)):
            ((first[0] * first[1]).square().sum() + (second[0].sum() if epoch % 3 else 0)).backward()
        ours.step()
        theirs.step()
        theirs.zero_grad(set_to_none=True)
        loss = float(a[0].detach().square().mean()) * (1 + 0.1 * (epoch % 4))
        ours.adapt_rates(loss)
        plateau.step(loss)
    assert ours.scale == theirs.param_groups[0]["lr"] / 1e-2 < 1
    for mine, other in zip(a + b, c + d, strict=True):
        np.testing.assert_array_equal(mine.detach(), other.detach())


def test_layer_weights_find_the_layer_that_knows() -> None:
    rng = np.random.default_rng(0)
    y = np.tile(["a", "b"], 200)
    X = rng.standard_normal((400, 5, 8)).astype(np.float32)
    X[:, 3, :4] += np.where(y == "b", 1.0, -1.0)[:, None]
    fitted = LayerWeighted(n_layers=5, lr=1e-3, layer_lr=3e-2, epochs=20, random_state=0).fit(X.reshape(400, -1), y)
    assert fitted.layer_weights_.shape == (5,)
    assert fitted.layer_weights_.sum() == close_to(1)
    assert fitted.layer_weights_.argmax() == 3
    linear = LayerWeighted(n_layers=5, hidden=None, random_state=0).fit(X.reshape(400, -1), y)
    assert [coef.shape for coef in linear.coefs_] == [(8, 2)]
    with pytest.raises(ValueError, match="n_layers=7 does not divide the 40 features"):
        LayerWeighted(n_layers=7).fit(X.reshape(400, -1), y)


def test_fitting_leaves_torch_as_it_was() -> None:
    import torch

    torch.set_num_threads(2)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    task = toy_task()
    MLP(random_state=0).fit(task.X, task.y)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == 2


def test_the_temperature_is_fitted_on_speakers_and_calibrates() -> None:
    """Speakers who say one thing each: a speaker-blind calibration would be far too sure."""
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(24), 20)
    y = rng.integers(0, 3, 480)
    X = np.eye(3)[y] * 0.7 + rng.standard_normal((24, 3, 40))[speakers, y][:, :3] + rng.standard_normal((480, 3)) * 0.3
    X = np.concatenate([X, rng.standard_normal((24, 20))[speakers]], axis=1).astype(np.float32)
    train, test = speakers < 16, speakers >= 16
    aware = SVM(gamma="scale").fit(X[train], y[train], groups=speakers[train])
    blind = SVM(gamma="scale").fit(X[train], y[train])
    assert aware.temperature_ > blind.temperature_
    np.testing.assert_array_equal(aware.predict(X[test]), blind.predict(X[test]))
    loss = [log_loss(y[test], est.predict_proba(X[test])) for est in (aware, blind)]
    assert loss[0] < loss[1]


def test_svm_agrees_with_its_decision_on_two_labels() -> None:
    task = toy_task()
    fitted = SVM().fit(task.X, task.y)
    np.testing.assert_array_equal(fitted.predict(task.X), fitted.model_.predict(task.X))


@pytest.mark.parametrize("gamma", ["scale", "auto", 0.05])
def test_svm_is_calibrated_on_what_libsvm_gives_with_its_own_kernel(gamma: float | str) -> None:
    """The kernel of the inner folds is made by matrix products."""
    task = toy_task()
    X, y = task.X + np.float32(3), np.unique(task.y, return_inverse=True)[1]
    y[:40] = 2
    svm = SVM(gamma=gamma, class_weight={0: 2}).set_params(C=1)
    svm.classes_ = np.arange(3)
    svm._prepare(len(y))
    fast, plain = (kind._held_out_scores(svm, X[20:], y[20:], X[:20], [gamma]) for kind in (SVM, ScoreHead))
    np.testing.assert_allclose(fast, plain, atol=1e-6)


@pytest.mark.parametrize("class_weight", [None, "balanced", {"left": 3}])
@pytest.mark.parametrize("labels", [2, 3])
def test_lgbm_is_lightgbms_own_classifier(labels: int, class_weight: object) -> None:
    """Its trees are grown by `lightgbm.train`, which takes rows of a file too, and are the same."""
    task = toy_task()
    names = np.array(["left", "right", "middle"])
    y = names[np.random.default_rng(0).integers(0, labels, len(task))]
    ours = head("lgbm", random_state=3).set_params(class_weight=class_weight).fit(task.X, y)
    fixed = {"n_jobs": 1, "deterministic": True, "force_col_wise": True, "verbosity": -1, "reg_lambda": lgbm.PENALTY}
    theirs = LGBMClassifier(**{**ours.get_params(), "random_state": lgbm.SEED}, **fixed)
    np.testing.assert_array_equal(ours.predict_proba(task.X), theirs.fit(task.X, y).predict_proba(task.X))
    assert ours.classes_.tolist() == theirs.classes_.tolist()


def noisy_clips(seed: int = 0, labels: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X (240, 60) that tells little of the labels y (240,), and 12 speakers, each with a voice."""
    rng = np.random.default_rng(seed)
    y, speakers = np.arange(240) % labels, np.repeat(np.arange(12), 20)
    X = rng.standard_normal((240, 60)) + rng.standard_normal((12, 60))[speakers] + 0.3 * np.eye(60)[y]
    return X.astype(np.float32), y, speakers


@pytest.mark.parametrize("name", ["logreg", "best_layer"])
def test_a_regression_is_fitted_to_its_optimum(name: str) -> None:
    """Another order of rows and columns is another order of all sums, as on another processor."""
    X, y, _ = noisy_clips()
    X = X * np.float32(10) ** np.arange(-3, 3).repeat(10) + 5
    fitted = head(name).set_params(C=0.3).fit(X, y)
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(240), rng.permutation(60)
    other = head(name).set_params(C=0.3).fit(X[rows][:, columns], y[rows])
    np.testing.assert_allclose(fitted.predict_proba(X), other.predict_proba(X[:, columns]), atol=5e-5)
    regression = fitted.model_[-1]
    assert regression.coef_.dtype == np.float64
    Z = StandardScaler().fit_transform(X.astype(np.float64))
    error = regression.predict_proba(Z) - np.eye(3)[y]
    gradient = error.T @ Z + regression.coef_ / regression.C  # 0 at the optimum
    assert np.abs(gradient).max() < 1e-3


def test_the_regression_of_a_stack_is_fitted_to_its_optimum() -> None:
    X, y, speakers = noisy_clips()
    final = Stack(members=("ridge", "knn"), final="logistic", random_state=0).fit(X, y, groups=speakers).final_
    assert final[-1].coef_.dtype == np.float64
    assert final[-1].solver == LogReg().fit(X, y).model_[-1].solver


def test_lgbm_is_the_same_with_every_seed() -> None:
    X, y, _ = noisy_clips()
    first, other = (head("lgbm", random_state=seed).fit(X, y) for seed in (0, np.random.RandomState(1)))
    assert first.booster_.model_to_string() == other.booster_.model_to_string()


def test_lgbm_moves_less_with_its_vectors_than_with_few_large_trees() -> None:
    """Vectors that differ by 1e-4 standard deviations, as those of another processor do, and many like dimensions."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 3
    parts = rng.standard_normal((400, 40)) + 0.8 * rng.standard_normal((3, 40))[y]
    X = parts @ rng.standard_normal((40, 200)) + rng.standard_normal((400, 200))
    near = [X + 1e-4 * X.std(axis=0) * np.random.default_rng(n).standard_normal(X.shape) for n in range(3)]

    def movement(**settings: float) -> float:
        estimator = head("lgbm").set_params(**settings)
        fits = [clone(estimator).fit(Z[:300], y[:300]).predict_proba(Z[300:]) for Z in near]
        return float(np.std(fits, axis=0).mean())

    few = movement(n_estimators=150, learning_rate=0.1, num_leaves=7, colsample_bytree=0.1)
    assert 0 < movement() < 0.6 * few


def fits_with_seeds(name: str, seeds: int) -> list[np.ndarray]:
    """What a head predicts that was fitted with each seed, on clips where its choices are close."""
    spec = heads.get(name)
    layers, frames = (3 if spec.view in ("layers", "frames:all") else 1), (2 if "frames" in spec.view else 1)
    X, y, speakers = noisy_clips()
    fits = []
    for seed in range(seeds):
        estimator = spec.build(n_layers=layers, n_frames=frames, random_state=seed)
        if "epochs" in estimator.get_params():
            estimator.set_params(epochs=1)
        fits.append(_base.fit_with_context(estimator, X, y, {"groups": speakers}).predict_proba(X))
    return fits


@pytest.mark.parametrize("name", NAMES)
def test_a_head_declares_whether_it_depends_on_the_seed(name: str) -> None:
    first, *others = fits_with_seeds(name, 4)
    assert heads.get(name).seeded == any(not np.array_equal(first, other) for other in others)


TWINS = {spec.name: spec.same_with_one_layer for spec in heads.all() if spec.same_with_one_layer}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("which", [0, 1], ids=["untuned", "tuned"])
@pytest.mark.parametrize("calibrate", [False, True])
def test_a_head_that_declares_it_is_another_with_one_layer(name: str, which: int, calibrate: bool) -> None:
    X, y, speakers = noisy_clips()
    pair = [heads.get(name), heads.get(TWINS[name])]
    specs = wrapped(pair, 3, calibrate)[which::2]
    same_space = pair[0].space == pair[1].space
    assert specs[0].same_with_one_layer == (specs[1].name if same_space or not which else "")
    if not specs[0].same_with_one_layer:
        return
    for groups in (None, speakers):
        ours, theirs = (
            _base.fit_with_context(spec.build(n_layers=1, random_state=5), X, y, {"groups": groups}).predict_proba(X)
            for spec in specs
        )
        np.testing.assert_array_equal(ours, theirs)


def test_which_heads_are_others_with_one_layer() -> None:
    assert TWINS == {"best_layer": "logreg", "layer_weighted": "mlp"}
    assert [heads.get(name).space == heads.get(twin).space for name, twin in TWINS.items()] == [True, False]


def two_voices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seven labels that are easy to tell apart, from two speakers whose voices differ more than the labels, as TESS."""
    rng = np.random.default_rng(0)
    y, speakers = np.tile(np.arange(7), 80), np.repeat([0, 1], 280)
    labels, voices = rng.standard_normal((2, 7, 40)), 4 * rng.standard_normal((2, 40))
    X = 1.5 * labels[speakers, y] + voices[speakers] + rng.standard_normal((560, 40))
    return X.astype(np.float32), y, speakers


@pytest.mark.parametrize("estimator", [head("svm"), head("ridge"), head("lda"), Calibrated(head("logreg"))], ids=str)
def test_two_speakers_whom_the_head_knows_are_predicted_with_confidence(estimator: object) -> None:
    """Inner folds by speaker would train on one, and find the other hard."""
    X, y, speakers = two_voices()
    train, test = np.arange(560) % 5 > 0, np.arange(560) % 5 == 0
    fitted = clone(estimator).fit(X[train], y[train], groups=speakers[train])
    proba = fitted.predict_proba(X[test])
    accuracy = (proba.argmax(axis=1) == y[test]).mean()
    assert accuracy > 0.9
    assert proba.max(axis=1).mean() == pytest.approx(accuracy, abs=0.05)


def test_a_temperature_is_learned_by_clip_only_where_inner_folds_would_leave_one_speaker() -> None:
    y = np.tile([0, 1], 60)
    for n_speakers, by_speaker in ((2, False), (3, True), (6, True)):
        speakers = np.arange(120) // 2 % n_speakers
        folds = _base.calibration_folds(y, speakers, 3, 0)
        assert len(folds) == 3
        apart = [not set(speakers[train]) & set(speakers[held]) for train, held in folds]
        assert apart == [by_speaker] * 3
    assert _base.calibration_folds(y, np.zeros(120), 3, 0) == [], "the next speaker would be harder than the clips"


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_everything(name: str) -> None:
    task = toy_task()
    first, second = (head(name, random_state=3).fit(task.X, task.y).predict_proba(task.X) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_cards_recipe_is_the_default() -> None:
    """The wav2vec2 + MLP system: 256 hidden units, dropout 0.3, AdamW at 1e-4, batches of 16, 10 epochs."""
    wanted = {"hidden": 256, "dropout": 0.3, "lr": 1e-4, "batch_size": 16, "epochs": 10}
    assert wanted.items() <= MLP().get_params().items()
    assert json.dumps(MLP().get_params())


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_of_a_space_is_one_that_the_head_takes(name: str) -> None:
    spec = heads.get(name)
    own = spec.build(n_layers=2, n_frames=1, random_state=0)
    assert set(spec.space) <= set(own.get_params())
    for parameter, values in spec.space.items():
        assert len(set(values)) == len(values) > 1
        assert json.dumps(values)
        for value in values:
            assert clone(own).set_params(**{parameter: value}).get_params()[parameter] == value
    assert all(own.get_params()[parameter] in values for parameter, values in spec.space.items())


def test_neighbours_of_a_clip_do_not_depend_on_the_clips_beside_it() -> None:
    """Of one that was learned from, the nearest is itself: the other labels have nothing."""
    rng = np.random.default_rng(0)
    X, y = 1000 + rng.standard_normal((200, 33)).astype(np.float32), np.arange(200) % 3
    fitted = head("knn").fit(X, y)
    together = fitted.predict_proba(X)
    np.testing.assert_allclose(together, np.eye(3)[y], atol=1e-10)
    np.testing.assert_allclose(np.concatenate([fitted.predict_proba(row[None]) for row in X]), together, atol=1e-10)


def test_heads_over_frames_are_asked_for_by_name() -> None:
    assert set(heads.names()) - set(heads.usual()) == {"cnn", "attention", "layer_cnn"}
