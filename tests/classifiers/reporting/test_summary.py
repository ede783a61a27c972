"""The sentences at the top of a report: true at few speakers, at one fold, at chance, and with labels of one clip."""

from dataclasses import replace

import numpy as np
import pytest

from classifiers import Predictions, compare
from classifiers.checks import toy_task
from classifiers.evaluation.leaderboard import Row, score, tables
from classifiers.reporting.run_settings import run_settings
from classifiers.reporting.summary import (
    SPEAKER_DEPENDENT,
    SPEAKER_INDEPENDENT,
    SPEAKERS_UNKNOWN,
    best_text,
    confidence_text,
    datasets_text,
    speakers_text,
    summaries,
    summary,
    weakest_label_text,
)
from embedcache import DataError


@pytest.fixture(scope="module")
def p() -> Predictions:
    """The predictions of one head on 8 speakers with 20 clips each."""
    task = toy_task(seed=1)
    noisy = replace(task, X=task.X + 5 * np.random.default_rng(0).standard_normal(task.X.shape).astype(np.float32))
    (p,) = compare(noisy, ["logreg"], "speakers", n_folds=2, jobs=1)
    return p


@pytest.fixture(scope="module")
def row(p: Predictions) -> Row:
    return replace(score(p), uar=0.7, uar_low=0.6, uar_high=0.8)


def test_the_best_head_has_its_interval_and_chance(row: Row) -> None:
    text = "logreg on toy has the highest UAR: 0.700, 95 % interval 0.600–0.800 over 24 speakers; chance is 0.500."
    assert best_text([replace(row, n_speakers=24), row]) == text
    assert best_text([replace(row, n_speakers=24)]).startswith("logreg on toy has a UAR of 0.700, 95 %")


def test_an_interval_that_contains_chance_is_said_to(row: Row) -> None:
    for low, high in ((0.4, 0.8), (0.5, 0.8), (0.4, 0.5)):
        assert "contains chance, so the head may be no better" in best_text([replace(row, uar_low=low, uar_high=high)])
    assert "contains chance" not in best_text([row])
    assert "The interval is below chance." in best_text([replace(row, uar_low=0.2, uar_high=0.4)])
    assert "below chance" not in best_text([row])


def test_few_speakers_no_interval_and_one_fold_are_said(row: Row) -> None:
    assert "Only 4 speakers were tested." in best_text([replace(row, n_speakers=4)])
    assert "measured on one fold" in best_text([replace(row, folds=1)])
    unknown = best_text([replace(row, n_speakers=2, uar_low=float("nan"), uar_high=float("nan"))])
    assert "0.700 (2 speakers; an interval needs 3); chance" in unknown
    assert "Without an interval" in unknown
    assert "nan" not in unknown


def with_labels(p: Predictions, truth: list[str], predicted: list[str]) -> Predictions:
    """The same predictions with other labels, for as many clips."""
    labels = tuple(sorted({*truth, *predicted}))
    n = len(truth)
    columns = {name: getattr(p, name)[:n] for name in ("clip_ids", "speakers", "folds", "seeds")}
    proba = np.full((n, len(labels)), 1 / len(labels), np.float32)
    return replace(p, labels=labels, truth=np.array(truth), predicted=np.array(predicted), proba=proba, **columns)


def test_the_weakest_label_by_hand(p: Predictions) -> None:
    some = with_labels(p, ["a"] * 10 + ["b"] * 20, ["a"] * 6 + ["b"] * 4 + ["b"] * 20)
    assert weakest_label_text(some) == "a: logreg is right for 6 of 10 clips (recall 0.600), and takes 4 for b."
    few = with_labels(p, ["a"] + ["b"] * 20, ["b"] * 21)
    assert weakest_label_text(few).endswith("A label with fewer than 10 clips: its recall says little.")
    tied = with_labels(p, ["a"] * 10 + ["b"] * 10 + ["c"] * 10, ["c"] * 30)
    assert weakest_label_text(tied) == "a and b have the lowest recall: 0.000 each."
    assert weakest_label_text(with_labels(p, ["a", "b"], ["a", "b"])) == "All labels have a recall of 1.000."


def test_with_seeds_predictions_are_counted_and_not_clips(p: Predictions) -> None:
    some = with_labels(p, ["a"] * 20 + ["b"] * 20, ["a"] * 15 + ["b"] * 25)
    seeded = replace(some, seeds=np.tile(["0", "1"], 20))
    assert "15 of 20 predictions" in weakest_label_text(seeded)


def test_speakers_by_hand(p: Predictions) -> None:
    text = speakers_text(p)
    assert text.startswith("The UAR of logreg for one speaker is between 0.")
    assert text.endswith("Each speaker has 20 clips, so part of the spread is chance.")
    assert speakers_text(replace(p, speakers=np.full_like(p.speakers, "x"))).startswith("Only one speaker was tested")


def test_confidence_is_compared_with_accuracy(p: Predictions) -> None:
    sure = replace(p, proba=np.where(np.eye(2, dtype=np.float32)[p.predicted_columns] > 0, 0.98, 0.02))
    accuracy = round(p.correct.mean(), 2)
    above = f"0.98, is {0.98 - accuracy:.2f} above its accuracy, {accuracy:.2f} (ECE"
    assert above in confidence_text(sure)
    assert "calibrated in inner folds" in confidence_text(replace(p, head="logreg-calibrated"))
    assert "calibrated" not in confidence_text(p)


def test_parts_of_a_union_have_their_speakers(p: Predictions) -> None:
    owners = np.where(np.isin(p.speakers, np.unique(p.speakers)[:3]), "x:", "y:")
    text = datasets_text(replace(p, dataset="x+y", clip_ids=np.char.add(owners, p.clip_ids)))
    assert "(3 speakers)" in text
    assert "(5 speakers)" in text


def test_a_summary_promises_no_more_than_is_known(p: Predictions) -> None:
    verdicts = {leaks: summary(*tables([replace(p, leaks=leaks)])) for leaks in ("text", "speaker?", "speaker+text")}
    assert [v.verdict for v in verdicts.values()] == [SPEAKER_INDEPENDENT, SPEAKERS_UNKNOWN, SPEAKER_DEPENDENT]
    subjects = [dict(found.points) for found in verdicts.values()]
    assert "Weakest label" in subjects[0]
    assert "Weakest label" not in subjects[2], "scores that do not hold for new speakers are not explained"
    assert subjects[0]["Leaks"] == "Training and test clips share sentences (text)."


def test_adapted_tables_share_one_summary() -> None:
    task = toy_task(seed=1)
    boards = tables(compare(task, ["ridge", "knn"], n_folds=2, jobs=1, adapt=["0", "5", "all"]))
    plain, adapted = summaries(boards, [""] * len(boards))
    assert plain.title == "toy, protocol speakers"
    assert adapted.title == "toy, protocol speakers, adapted to test speakers"
    assert adapted.verdict.endswith("Do not compare these scores with unadapted ones as equals.")
    assert [name for name, _ in adapted.points] == ["5 clips", "All clips", "Leaks"]


def test_settings_are_words(p: Predictions, tmp_path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(
        '{"created": "then", "version": "1", "asked": {"head": "lda", "folds": 5, "seeds": 1, "tune": 0}}'
    )
    facts = dict(run_settings(tmp_path / "run", [replace(p, run="run")]).facts)
    assert facts["dataset"] == "toy: 160 test clips of 8 speakers"
    assert facts["labels"] == "2: left, right"
    assert facts["protocol"].startswith("speakers: stratified folds by speaker: every test speaker is new to the head")
    assert facts["folds"] == "2 folds, with 80 training clips on average"
    assert facts["configuration"] == "head=lda"  # the row "folds" says which folds there were
    assert facts["created"] == "then by version 1"
    adapted = dict(run_settings(tmp_path / "run", [replace(p, run="run", protocol="speakers/adapted-5")]).facts)
    assert adapted["protocol"].endswith("vectors adapted to 5 clips of each test speaker, without labels")
    with pytest.raises(DataError):
        run_settings(tmp_path, [p])
