"""Heads choose how strongly they are regularised on held-out speakers; their closed forms are scikit-learn's."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from classifiers import head
from classifiers.heads import _base, _strength
from classifiers.heads._regression import CS, _fewer_columns, choose_C
from classifiers.heads._scikit import ScoreHead, scores_of
from classifiers.heads._solutions import penalised_solutions
from classifiers.heads._strength import CHOSEN, MAX_ROWS, Strength, best_strength, can_choose, thinned
from classifiers.heads.lda import LDA
from classifiers.heads.ridge import Ridge

CHOOSING = {"ridge": "alpha", "lda": "shrinkage", "svm": "gamma", "logreg": "C"}


def voices(n_features: int, labels: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X (240, n_features) that tells something of the labels y (240,), and 12 speakers, each with a voice."""
    rng = np.random.default_rng(seed)
    y, speakers = np.arange(240) % labels, np.repeat(np.arange(12), 20)
    X = rng.standard_normal((240, n_features)) + rng.standard_normal((12, n_features))[speakers]
    X[:, :labels] += 2 * np.eye(labels)[y]
    return X.astype(np.float32), y, speakers


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0}])
@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("n_features", [30, 400], ids=["more rows", "more columns"])
@pytest.mark.parametrize(("kind", "strengths"), [(Ridge, (3.0, 3000.0)), (LDA, (0.03, 0.6, 1.0))])
def test_a_closed_form_gives_the_scores_of_a_fit(
    kind: type[ScoreHead], strengths: tuple[float, ...], n_features: int, labels: int, class_weight: Any
) -> None:
    X, y, _ = voices(n_features, labels)
    estimator = kind(class_weight=class_weight)
    estimator.classes_ = np.unique(y)
    y = np.where(np.arange(240) < 60, 0, y)  # one label is more frequent
    closed = estimator._held_out_scores(X[:200], y[:200], X[200:], strengths)
    fitted = ScoreHead._held_out_scores(estimator, X[:200].astype(float), y[:200], X[200:].astype(float), strengths)
    differences = closed - fitted
    differences -= differences.mean(axis=2, keepdims=True)  # the softmax does not depend on a constant
    assert np.abs(differences).max() < 1e-4 * np.abs(fitted).max()


@pytest.mark.parametrize("labels", [2, 4])
@pytest.mark.parametrize("n_features", [20, 300])
@pytest.mark.parametrize("shrinkage", [0.03, 0.5, 1.0])
def test_lda_is_scikit_learns(labels: int, n_features: int, shrinkage: float) -> None:
    X, y, _ = voices(n_features, labels)
    ours = LDA(shrinkage=shrinkage).fit(X, y).model_
    theirs = make_pipeline(StandardScaler(), LinearDiscriminantAnalysis("lsqr", shrinkage=shrinkage))
    theirs.fit(X.astype(np.float64), y)
    np.testing.assert_allclose(ours[-1].coef_, theirs[-1].coef_, atol=1e-4)
    np.testing.assert_allclose(ours[-1].intercept_, theirs[-1].intercept_, atol=1e-4)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("shrinkage", [0, -0.1, 1.1, float("nan")])
def test_a_shrinkage_that_is_none_is_refused(shrinkage: float) -> None:
    X, y, _ = voices(10)
    with pytest.raises(ValueError, match=r"wanted 'chosen' or a number above 0 and at most 1"):
        LDA(shrinkage=shrinkage).fit(X, y)


@given(
    arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.floats(-10, 10, width=32)),
    st.lists(st.floats(0.1, 1000), min_size=1, max_size=3),
)
def test_penalised_solutions_solve_the_system(A: np.ndarray, penalties: list[float]) -> None:
    B = np.arange(2.0 * A.shape[1]).reshape(-1, 2) - 3
    solutions = list(penalised_solutions(A, B, penalties))
    assert len(solutions) == len(penalties)
    for penalty, solution in zip(penalties, solutions, strict=True):
        np.testing.assert_allclose(A.T @ (A @ solution) + penalty * solution, B, atol=1e-7)


@pytest.mark.parametrize("name", CHOOSING)
def test_the_choice_is_the_one_with_the_lowest_loss_on_held_out_speakers(name: str) -> None:
    """Each candidate is fitted and calibrated by itself, on folds that hold out whole speakers."""
    X, y, speakers = voices(300)
    fitted = head(name).fit(X, y, groups=speakers)
    parameter = CHOOSING[name]
    (chosen,) = fitted.chosen_["setting"].values()
    candidates = fitted.strength.candidates(fitted, True)
    assert fitted.chosen_ == {"setting": {parameter: chosen}, "tried": len(candidates)}
    losses = {}
    folds = _base.inner_folds(y, speakers, 3, 0)
    for value in candidates:
        fits = [clone(head(name)).set_params(**{parameter: value}).fit(X[train], y[train]) for train, _ in folds]
        scores = np.concatenate([scores_of(fit.model_, X[held]) for fit, (_, held) in zip(fits, folds, strict=True)])
        losses[value] = _strength._balanced_loss(scores, np.concatenate([y[held] for _, held in folds]))
    assert losses[chosen] < min(losses.values()) + (0.005 if name == "logreg" else 1e-5)
    assert max(losses.values()) > losses[chosen] + 0.01, "the candidates differ"
    by_hand = clone(head(name)).set_params(**{parameter: chosen}).fit(X, y, groups=speakers)
    np.testing.assert_array_equal(fitted.predict_proba(X), by_hand.predict_proba(X))


@pytest.mark.parametrize("name", CHOOSING)
def test_a_choice_for_new_speakers_is_stronger_than_one_by_clip(name: str) -> None:
    """Who knows the voices of the held-out clips trusts details that a new speaker does not have."""
    X, y, speakers = voices(300)
    aware, blind = head(name).fit(X, y, groups=speakers), head(name).fit(X, y)
    order = {"ridge": -1, "lda": -1}.get(name, 1)  # a large alpha or shrinkage is strong; a large C or gamma is weak
    (strong,), (weak,) = aware.chosen_["setting"].values(), blind.chosen_["setting"].values()
    assert order * strong <= order * weak


@pytest.mark.parametrize("name", CHOOSING)
@pytest.mark.parametrize("n_speakers", [1, 2])
def test_with_one_or_two_speakers_the_usual_strength_is_taken(name: str, n_speakers: int) -> None:
    """Folds by clip would choose for voices that the head knows."""
    X, y, _ = voices(30)
    fitted = head(name).fit(X, y, groups=np.arange(240) // 2 % n_speakers)
    assert fitted.chosen_ == {
        "setting": {CHOOSING[name]: fitted.strength.candidates(fitted, False)[0]},
        "tried": 0,
    }


@pytest.mark.parametrize("name", CHOOSING)
def test_a_strength_that_is_given_is_used(name: str) -> None:
    X, y, speakers = voices(30)
    fitted = head(name).set_params(**{CHOOSING[name]: 0.5}).fit(X, y, groups=speakers)
    assert fitted.chosen_ == {"setting": {}}
    assert fitted.model_[-1].get_params()[CHOOSING[name]] == 0.5


@pytest.mark.parametrize("name", CHOOSING)
def test_development_rows_choose_the_strength(name: str) -> None:
    """On them, the labels are those of the training rows or pure chance: then nothing beats the strongest penalty."""
    X, y, speakers = voices(300)
    dev = speakers >= 8
    rng = np.random.default_rng(1)
    told = head(name).fit(X, y, groups=speakers, dev=dev)
    guessed = head(name).fit(X, np.where(dev, rng.permutation(y), y), groups=speakers, dev=dev)
    assert told.chosen_["tried"] == guessed.chosen_["tried"] > 1
    alone = clone(head(name)).set_params(**told.chosen_["setting"]).fit(X[~dev], y[~dev])
    np.testing.assert_array_equal(told.predict(X), alone.predict(X))


def test_scores_of_equal_loss_leave_the_first_and_a_rare_label_counts_as_much() -> None:
    truth = np.array([0] * 90 + [1] * 10)
    for_frequent = np.where(truth[:, None] == 0, [3.0, 0.0], [3.0, 0.0])
    for_both = np.where(truth[:, None] == 0, [1.0, 0.0], [0.0, 1.0])
    assert best_strength(np.stack([for_both, for_both]), truth) == 0
    assert best_strength(np.stack([for_frequent, for_both]), truth) == 1
    n = np.array([1.0, 2.0, 1000.0])
    assert best_strength(np.stack([for_both * s for s in n]), truth) == 0, "the size of scores is for the temperature"


def test_speakers_on_both_sides_forbid_a_choice() -> None:
    speakers = np.array(["a", "a", "b", "b"])
    apart, mixed = [(np.array([0, 1]), np.array([2, 3]))], [(np.array([0, 2]), np.array([1, 3]))]
    assert can_choose(apart, speakers, None)
    assert not can_choose(mixed, speakers, None)
    assert can_choose(mixed, None, None)
    assert can_choose(mixed, speakers, np.array([False, True, False, True]))
    assert not can_choose([], None, None)


def test_many_rows_are_thinned_and_every_label_keeps_one() -> None:
    y = np.array([0] * 20_000 + [1] * 10_000 + [2])
    ((train, held),) = thinned([(np.arange(30_001), np.arange(10))], y, 0)
    assert len(held) == 10
    assert MAX_ROWS <= len(train) <= MAX_ROWS + 3
    assert len(set(train.tolist())) == len(train)
    counts = np.bincount(y[train])
    assert counts[2] == 1
    assert counts[0] / counts[1] == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("shape", [(30, 100), (100, 30)])
def test_fewer_columns_keep_all_products(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    rows, others = rng.standard_normal(shape), rng.standard_normal((20, shape[1]))
    rows[1] = rows[0]
    short, few = _fewer_columns(rows, others)
    assert short.shape[1] == few.shape[1] == min(shape)
    np.testing.assert_allclose(short @ short.T, rows @ rows.T, atol=1e-6)
    np.testing.assert_allclose(few @ short.T, others @ rows.T, atol=1e-6)


def test_the_rough_fits_choose_what_the_optima_choose() -> None:
    X, y, speakers = voices(300)
    folds = _base.inner_folds(y, speakers, 3, 0)
    chosen = choose_C(X, y, folds, CS)
    losses = []
    for C in CS:
        proba = [head("logreg").set_params(C=C).fit(X[a], y[a]).predict_proba(X[b]) for a, b in folds]
        logs = np.log(np.concatenate(proba))
        losses.append(_strength._balanced_loss(logs, np.concatenate([y[b] for _, b in folds])))
    assert losses[CS.index(chosen)] < min(losses) + 0.005


@pytest.mark.parametrize("name", CHOOSING)
def test_a_text_that_is_no_strength_is_refused(name: str) -> None:
    X, y, _ = voices(10)
    with pytest.raises(ValueError, match=f"got {CHOOSING[name]}='strong'; wanted 'chosen'.* or a number"):
        head(name).set_params(**{CHOOSING[name]: "strong"}).fit(X, y)


def test_by_feature() -> None:
    class Estimator:
        n_features_in_, width, gamma = 50, CHOSEN, 0.3

    assert Strength("width", (1.0, 2.0), 5.0, by_feature=True).candidates(Estimator, True) == (0.02, 0.04)
    assert Strength("width", (1.0, 2.0), 5.0).candidates(Estimator, False) == (5.0,)
    assert Strength("gamma", (1.0, 2.0), 5.0).candidates(Estimator, True) == (0.3,)


def test_a_better_loss_is_what_the_choice_buys() -> None:
    """Vectors of several widths: no constant fits them all, the choice is near the best for each."""
    for n_features, seed in ((20, 0), (200, 1), (1000, 2)):
        X, y, speakers = voices(n_features, seed=seed)
        train, test = speakers < 9, speakers >= 9
        chosen = head("ridge").fit(X[train], y[train], groups=speakers[train]).predict_proba(X[test])
        others = [
            head("ridge").set_params(alpha=alpha).fit(X[train], y[train], groups=speakers[train]).predict_proba(X[test])
            for alpha in (1.0, 100.0, 100_000.0)
        ]
        assert log_loss(y[test], chosen) < min(log_loss(y[test], other) for other in others) + 0.05
