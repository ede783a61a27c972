"""Notes on rows: a fold that predicts nearly one label, the parts of combined datasets."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.leaderboards import simulated

from classifiers import Predictions, leaderboard
from classifiers.evaluation.metrics import uar
from classifiers.reporting.terminal_tables import notes_text


@pytest.fixture
def made() -> Predictions:
    """Eight speakers in two folds."""
    (p,) = simulated(np.random.default_rng(0), 8, (5, 5), [0.7])
    return replace(p, folds=np.where(p.speakers < "s4", "1", "2"))


def test_an_ordinary_row_has_no_notes(made: Predictions) -> None:
    (row,) = leaderboard([made])
    assert row.notes == ""
    assert notes_text([row]) == []


def test_a_fold_whose_predictions_are_nearly_one_label_is_named(made: Predictions) -> None:
    """Features that hang on the level of the sound: one speaker's clips all sound sad."""
    collapsed = replace(made, predicted=np.where(made.folds == "2", "label1", made.predicted))
    (row,) = leaderboard([collapsed])
    assert row.notes == "fold 2: 100 % of the predictions are label1"
    assert notes_text([row]) == ["Note: fold 2: 100 % of the predictions are label1."]
    several = replace(collapsed, seeds=np.where(np.arange(len(made.truth)) % 2, "0", "1"))
    assert "fold 2 of seed 1: 100 % of the predictions are label1" in leaderboard([several])[0].notes


def test_a_fold_whose_clips_are_nearly_one_label_is_no_surprise(made: Predictions) -> None:
    one = made.folds == "2"
    label = np.where(one, "label1", made.truth)
    (row,) = leaderboard([replace(made, truth=label, predicted=np.where(one, "label1", made.predicted))])
    assert row.notes == ""


def test_a_union_shows_the_score_of_each_dataset(made: Predictions) -> None:
    first = made.speakers < "s5"
    owners = np.where(first, "a", "b")
    union = replace(made, dataset="a+b", clip_ids=np.char.add(np.char.add(owners, ":"), made.clip_ids))
    (row,) = leaderboard([union])
    a, b = float(uar(made.matrix(first))), float(uar(made.matrix(~first)))
    assert row.notes == f"UAR by dataset: a {a:.3f} and b {b:.3f}"


def test_a_note_that_all_rows_share_is_printed_once(made: Predictions) -> None:
    twin = replace(made, head="twin")
    collapsed = [replace(p, predicted=np.full(len(p.truth), "label1")) for p in (made, twin)]
    rows = leaderboard(collapsed)
    assert len(notes_text(rows)) == 2  # a note for each fold
    other = leaderboard([collapsed[0], twin])
    assert all(note.startswith("Note: head0: fold ") for note in notes_text(other))
