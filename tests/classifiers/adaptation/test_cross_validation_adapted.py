"""Adapted cross-validation: no label leaks, 0 clips change nothing, draws are repeats, files hold it all."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from classifiers import Predictions, Task, compare, heads, leaderboard, load_predictions, save_predictions
from classifiers.adaptation.amounts import Amount, parse_amounts
from classifiers.adaptation.choice import CANDIDATES, CLOSED_FORM, choose_strength
from classifiers.adaptation.drawing import drawn_clips
from classifiers.adaptation.fold_vectors import Adaptation, AdaptedFold
from classifiers.adaptation.speaker_statistics import NONE, Strength
from classifiers.checks import toy_task
from classifiers.data.task import Copies
from classifiers.evaluation.cross_validation import run_folds
from classifiers.evaluation.intervals import uar_interval
from classifiers.evaluation.leaderboard import COLUMNS, chosen_csv, latest, to_csv
from classifiers.evaluation.metrics import uar
from classifiers.evaluation.paired_tests import against_best
from classifiers.evaluation.run_checks import faults
from classifiers.heads import wrapped
from classifiers.protocols.catalogue import adapted_by, adapted_name, base_name, make_folds, partition_of, protocol_of
from classifiers.protocols.fold import Fold
from embedcache import ConfigError, DataError, ProtocolError

ARRAYS = ("clip_ids", "speakers", "folds", "seeds", "truth", "predicted", "proba")


def voices(seed: int = 0, n_speakers: int = 8, clips: int = 24, offset: float = 3.0) -> Task:
    """A task whose speakers have means of their own, larger than what the labels change."""
    rng = np.random.default_rng(seed)
    y = np.tile(["anger", "joy", "sad"], n_speakers * clips // 3)
    speakers = np.repeat([f"s{n}" for n in range(n_speakers)], clips)
    X = rng.standard_normal((len(y), 12)).astype(np.float32)
    X[:, :3] += 1.2 * np.eye(3, dtype=np.float32)[np.unique(y, return_inverse=True)[1]]
    X += offset * np.repeat(rng.standard_normal((n_speakers, 12)), clips, axis=0).astype(np.float32)
    ids = np.array([f"{n:04}" for n in rng.permutation(len(y))])
    return Task(X, y, speakers, clip_ids=ids, dataset="made-up", encoder="e", texts=ids, training_known=True)


@pytest.fixture(scope="module")
def task() -> Task:
    return voices()


@pytest.fixture(scope="module")
def adapted(task: Task) -> list[Predictions]:
    return compare(task, ["ridge"], n_folds=4, jobs=1, adapt=["all", "0", "5"])


def test_no_adaptation_is_the_comparison_without_the_option(task: Task, tmp_path: Path) -> None:
    for name, adapt in (("without", []), ("zero", ["0"])):
        save_predictions(tmp_path / name, compare(task, ["ridge", "knn"], n_folds=4, jobs=1, adapt=adapt), {})
    without, zero = ((tmp_path / name / "predictions.csv").read_bytes() for name in ("without", "zero"))
    assert without == zero


def test_unadapted_predictions_of_a_mixed_run_are_those_of_an_unadapted_run(
    task: Task, adapted: list[Predictions]
) -> None:
    (alone,) = compare(task, ["ridge"], n_folds=4, jobs=1)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(adapted[0], name), getattr(alone, name))
    assert (adapted[0].draws, adapted[0].adapt_clips, adapted[0].strengths) == (None, 0, ())


def test_clips_of_a_speaker_are_worth_something(adapted: list[Predictions]) -> None:
    assert [p.protocol for p in adapted] == ["speakers", "speakers/adapted-5", "speakers/adapted-all"]
    none, few, whole = (float(uar(p.matrix())) for p in adapted)
    assert none < few < whole
    assert [p.n_draws for p in adapted] == [1, 5, 1]
    assert [p.adapt_clips for p in adapted] == [0, 8 * 5, 8 * 24]


def test_labels_of_test_clips_change_neither_drawn_clips_nor_vectors(task: Task) -> None:
    (fold, *_) = make_folds(task, "speakers", 4)
    y = task.y.copy()
    y[fold.test] = np.random.default_rng(1).permutation(y[fold.test])
    other, amount = replace(task, y=y), Amount(5)
    assert choose_strength(task, fold, amount, 0) == choose_strength(other, fold, amount, 0)
    adaptation = Adaptation(amount, Strength(1, 1), 0)
    for draw in range(amount.draws):
        a, b = (AdaptedFold.of(t, fold.train, adaptation).test_vectors(fold.test, draw) for t in (task, other))
        np.testing.assert_array_equal(a, b)


def test_labels_of_test_clips_change_no_prediction(task: Task) -> None:
    """With given folds, since those of a protocol are stratified by label."""
    folds = make_folds(task, "speakers", 4)[:1]
    y = task.y.copy()
    y[folds[0].test] = np.random.default_rng(1).permutation(y[folds[0].test])
    amounts = parse_amounts(["5", "all"])
    specs = [heads.get("ridge")]
    pairs = (run_folds(t, specs, [folds], "speakers", 1, amounts=amounts) for t in (task, replace(task, y=y)))
    for a, b in zip(*pairs, strict=True):
        np.testing.assert_array_equal(a.proba, b.proba)
        assert (a.truth != b.truth).any()


def test_the_result_depends_neither_on_jobs_nor_on_the_order_of_clips(task: Task, adapted: list[Predictions]) -> None:
    again = compare(task, ["ridge"], n_folds=4, jobs=2, adapt=["0", "5", "all"])
    for a, b in zip(adapted, again, strict=True):
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    rows = np.random.default_rng(0).permutation(len(task))
    every, shuffled = np.arange(len(task)), task.take(rows)
    drawn, other = (drawn_clips(t, every, Amount(5), 0, "0") for t in (task, shuffled))
    assert {s: set(task.ids[r]) for s, r in drawn.items()} == {s: set(shuffled.ids[r]) for s, r in other.items()}


def test_draws_differ_between_numbers_and_seeds_and_are_nested(task: Task) -> None:
    rows = np.arange(len(task))
    few, more = (drawn_clips(task, rows, Amount(n), 0, "0") for n in (5, 10))
    assert all(set(few[s]) < set(more[s]) for s in few)
    assert all(len(few[s]) == 5 for s in few)
    for seed, draw in ((0, "1"), (1, "0"), (0, "training")):
        other = drawn_clips(task, rows, Amount(5), seed, draw)
        assert any(set(few[s]) != set(other[s]) for s in few)


def test_all_clips_make_the_z_score_of_each_speaker(task: Task) -> None:
    (fold, *_) = make_folds(task, "speakers", 4)
    made = AdaptedFold.of(task, fold.train, Adaptation(Amount(None), Strength(0, 0), 0))
    X = np.array(task.X, np.float64)
    for speaker in set(task.speakers.tolist()):
        own = task.speakers == speaker
        X[own] = (X[own] - X[own].mean(axis=0)) / X[own].std(axis=0, ddof=1)
    np.testing.assert_allclose(made.test_vectors(fold.test, 0), X[fold.test], rtol=1e-4, atol=1e-5)
    training = made.training_task(fold.train)
    np.testing.assert_allclose(training.X[fold.train], X[fold.train], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(training.X[fold.test], task.X[fold.test])


def test_the_strength_is_chosen_on_training_speakers_alone(task: Task) -> None:
    (fold, *_) = make_folds(task, "speakers", 4)
    X = task.X.copy()
    X[fold.test] = 1e6
    assert choose_strength(task, fold, Amount(5), 0) == choose_strength(replace(task, X=X), fold, Amount(5), 0)
    assert choose_strength(task, fold, Amount(5), 0) in CANDIDATES
    assert choose_strength(task, fold, Amount(5), 0).adapts


def test_adaptation_that_harms_is_not_chosen() -> None:
    """Each speaker has clips of one emotion more than of others, so its mean is mostly the emotion."""
    task = voices(offset=0.0)
    rare = np.array([f"s{n}" for n in range(8)])
    mostly = dict(zip(rare, np.resize(["anger", "joy", "sad"], 8), strict=True))
    favourite = np.array([mostly[s] for s in task.speakers])
    kept = np.flatnonzero((favourite == task.y) | (np.random.default_rng(0).random(len(task)) < 0.1))
    task = task.take(kept)
    task = replace(task, X=task.X + 4 * np.eye(12, dtype=np.float32)[np.unique(task.y, return_inverse=True)[1]])
    rows = np.arange(len(task))
    fold = Fold("1", rows[np.isin(task.speakers, rare[:6])], rows[np.isin(task.speakers, rare[6:])])
    assert choose_strength(task, fold, Amount(5), 0) == NONE


def test_development_clips_take_the_place_of_inner_folds(task: Task) -> None:
    rows = np.arange(len(task))
    train, dev, test = (rows[np.isin(task.speakers, names)] for names in (["s0", "s1", "s2"], ["s3"], ["s4"]))
    assert choose_strength(task, Fold("1", train, test, dev), Amount(5), 0) in CANDIDATES
    two = rows[np.isin(task.speakers, ["s0", "s1"])]
    assert choose_strength(task, Fold("1", two, test), Amount(5), 0) == CLOSED_FORM  # an inner fold has one speaker
    lonely = replace(task, y=np.where(task.speakers == "s0", "anger", "joy"))
    assert choose_strength(lonely, Fold("1", two, test), Amount(5), 0) == CLOSED_FORM


def test_copies_are_adapted_as_their_speakers_are(task: Task) -> None:
    copies = Copies(task.X.copy(), np.arange(len(task)), 1, "none")
    (fold, *_) = make_folds(task, "speakers", 4)
    made = AdaptedFold.of(replace(task, copies=copies), fold.train, Adaptation(Amount(5), Strength(1, 1), 0))
    training = made.training_task(fold.train)
    np.testing.assert_array_equal(training.copies.X, training.X)  # a copy that equals its clip stays equal to it
    none, few = compare(replace(task, copies=copies), ["logreg"], n_folds=4, jobs=1, adapt=["0", "5"])
    assert uar(none.matrix()) < uar(few.matrix())


def test_heads_over_layers_are_adapted() -> None:
    task = voices()
    layers = replace(task, X=np.concatenate([task.X] * 3, axis=1), view="layers", n_layers=3)
    for name in ("best_layer", "layer_weighted"):
        (p,) = compare(layers, [name], n_folds=2, jobs=1, adapt=["5"])
        assert p.protocol == "speakers/adapted-5"
        assert np.isfinite(p.proba).all()


def test_adapted_rows_rank_among_themselves(adapted: list[Predictions], task: Task) -> None:
    others = compare(task, ["knn"], n_folds=4, jobs=1, adapt=["0", "5"])
    rows = leaderboard([*reversed(adapted), *others])
    assert [(row.adapted, row.rank) for row in rows] == [("", 1), ("", 2), ("5", 1), ("5", 2), ("all", 1)]
    assert [row.draws for row in rows] == [1, 1, 5, 5, 1]
    assert COLUMNS[-3:] == ("adapted", "adapt_clips", "draws")
    assert to_csv(rows).splitlines()[0].endswith("smallest_difference,notes,adapted,adapt_clips,draws")
    assert len(latest([*adapted, *others])) == 5
    assert all(row.protocol == ("speakers" + f"/adapted-{row.adapted}" * bool(row.adapted)) for row in rows)
    assert rows[2].seeds == 1


def test_draws_are_repeats_and_not_clips(adapted: list[Predictions]) -> None:
    """Five equal draws have the interval, the fold scores and the tests of one draw."""
    p = adapted[1]
    first = p.draws == "0"
    one = replace(p, draws=p.draws[first], **{name: getattr(p, name)[first] for name in ARRAYS})
    five = replace(
        p,
        draws=np.repeat([str(n) for n in range(5)], first.sum()),
        **{name: np.concatenate([getattr(one, name)] * 5) for name in ARRAYS},
    )
    assert faults(five) == faults(one) == []
    np.testing.assert_allclose(uar_interval(five), uar_interval(one))
    (a,), (b,) = leaderboard([one]), leaderboard([five])
    assert (a.uar, a.uar_fold_mean, a.uar_fold_sd) == (b.uar, b.uar_fold_mean, b.uar_fold_sd)
    swapped = one.predicted.copy()
    swapped[:10] = "joy"
    of_one, of_five = (
        against_best([q, replace(q, head="other", predicted=np.concatenate([swapped] * q.n_draws))])[0]
        for q in (one, five)
    )
    assert of_five.p_folds == pytest.approx(of_one.p_folds)
    assert of_five.p_speakers == pytest.approx(of_one.p_speakers)


def test_a_run_folder_holds_draws_and_amounts(adapted: list[Predictions], tmp_path: Path) -> None:
    save_predictions(tmp_path, adapted, {})
    header, *lines = csv.reader((tmp_path / "predictions.csv").read_text().splitlines())
    assert header[-2:] == ["adapted", "draw"]
    assert {tuple(line[-2:]) for line in lines} == {("", ""), ("all", "0"), *(("5", str(n)) for n in range(5))}
    for a, b in zip(adapted, load_predictions(tmp_path), strict=True):
        assert (a.protocol, a.adapt_clips, a.strengths) == (b.protocol, b.adapt_clips, b.strengths)
        assert (a.draws is None) == (b.draws is None)
        assert a.draws is None or np.array_equal(a.draws, b.draws)
        np.testing.assert_array_equal(a.proba, b.proba)


def test_chosen_settings_are_told_apart_by_their_amount(task: Task) -> None:
    tuned = wrapped([heads.get("ridge")], tune=2, calibrate=False)[-1:]
    folds = make_folds(task, "speakers", 2)
    made = run_folds(task, tuned, [folds], "speakers", 1, amounts=parse_amounts(["0", "5"]))
    header, *lines = csv.reader(chosen_csv(made).splitlines())
    assert header[-1] == "adapted"
    assert [line[-1] for line in lines] == ["", "", "5", "5"]
    assert "adapted" not in chosen_csv(made[:1]).splitlines()[0]


def test_draws_that_are_not_whole_or_not_named_are_faults(adapted: list[Predictions]) -> None:
    p = adapted[1]
    assert faults(p) == []
    assert faults(replace(p, protocol="speakers")) == ["draws of an adaptation with the protocol 'speakers'"]
    assert faults(replace(adapted[0], protocol="speakers/adapted-5")) == [
        "no draws with the protocol 'speakers/adapted-5'"
    ]
    kept = np.arange(len(p.draws)) > 0
    cut = replace(p, draws=p.draws[kept], **{name: getattr(p, name)[kept] for name in ARRAYS})
    assert faults(cut) == ["draws with different numbers of rows"]


def test_one_clip_to_adapt_to_is_enough(task: Task) -> None:
    (p,) = compare(task, ["ridge"], n_folds=4, jobs=1, adapt=["1"])
    assert np.isfinite(p.proba).all()
    assert p.adapt_clips == 8


def test_more_clips_than_there_are_mean_all(task: Task) -> None:
    whole, more = compare(task, ["ridge"], n_folds=4, jobs=1, adapt=["all", "1000"])
    assert more.adapt_clips == whole.adapt_clips == len(task)


def test_speakers_that_are_not_new_and_heads_over_frames_are_refused(task: Task) -> None:
    with pytest.raises(ProtocolError, match="got --adapt 5, but the test speakers s0.* are also in the training clips"):
        compare(task, ["ridge"], "random", n_folds=4, jobs=1, adapt=["5"])
    assert len(compare(task, ["ridge"], "random", n_folds=4, jobs=1, adapt=["0"])) == 1
    with pytest.raises(ConfigError, match="the heads cnn, which read frames; wanted heads that read vectors"):
        compare(toy_task(view="frames", n_frames=9), ["cnn"], n_folds=2, jobs=1, adapt=["all"])
    clips = replace(task, speakers=task.ids)
    with pytest.raises(DataError, match="got 0 training speakers with two clips or more"):
        compare(clips, ["ridge"], n_folds=2, jobs=1, adapt=["5"])


def test_clips_of_unknown_speakers_are_adapted_by_the_population(task: Task) -> None:
    unknown = replace(task, speakers=np.where(task.speakers == "s7", "unknown", task.speakers))
    assert len(drawn_clips(unknown, np.arange(len(task)), Amount(5), 0, "0")["unknown"]) == 0
    rows = np.arange(len(task))
    fold = Fold("1", rows[unknown.speakers != "s6"], rows[unknown.speakers == "s6"])
    made = AdaptedFold.of(unknown, fold.train, Adaptation(Amount(5), Strength(1, 1), 0))
    ours = fold.train[unknown.speakers[fold.train] == "unknown"]
    wanted = (task.X[ours] - made.population.mean) / np.sqrt(made.population.variance)
    np.testing.assert_allclose(made.training_task(fold.train).X[ours], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrong", ["-1", "5.0", "many", "", "99999999"])
def test_amounts_that_are_none_are_told(wrong: str) -> None:
    with pytest.raises(ConfigError, match="wanted numbers of clips, such as 0,5,10,20, or all"):
        parse_amounts([wrong])


def test_amounts_are_in_order_and_each_once() -> None:
    assert [a.name for a in parse_amounts(["all", "10", "0", "010", "2"])] == ["", "2", "10", "all"]
    assert parse_amounts([]) == (Amount(0),)


def test_names_of_rows() -> None:
    assert adapted_name("official", "") == "official"
    name = adapted_name("partition:test1", "10")
    assert name == "partition:test1/adapted-10"
    assert (adapted_by(name), base_name(name), partition_of(name)) == ("10", "partition", "test1")
    assert protocol_of("speakers/adapted-all", "d") is protocol_of("speakers", "d")
    assert adapted_by("speakers/adapted-0") == adapted_by("speakers/adapted-x") == adapted_by("/adapted") == ""
