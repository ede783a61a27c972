"""What is wrong with predictions, in words: nothing with those that `compare` makes."""

from dataclasses import replace

import numpy as np
import pytest

from classifiers import Predictions, compare
from classifiers.checks import toy_task
from classifiers.evaluation.run_checks import faults


@pytest.fixture(scope="module")
def honest() -> Predictions:
    (p,) = compare(toy_task(seed=1), ["logreg"], "speakers", n_folds=4, seeds=2, jobs=1)
    return p


@pytest.mark.parametrize("leaks", ["", "text", "speaker+text", "text?+encoder?"])
def test_predictions_of_a_comparison_are_sound(honest: Predictions, leaks: str) -> None:
    assert faults(replace(honest, leaks=leaks)) == []


def test_a_speaker_in_several_folds_of_a_seed_is_named(honest: Predictions) -> None:
    name = honest.speakers[0]
    rows = np.flatnonzero((honest.speakers == name) & (honest.seeds == honest.seeds[0]))
    folds = honest.folds.astype("<U9")
    folds[rows[0]], folds[rows[1:]] = "other", "this"
    (fault,) = faults(replace(honest, folds=folds))
    assert fault.startswith("1 speaker in several folds of the speaker-independent protocol 'speakers': ")
    assert f"{name} (folds other, this)" in fault


def test_unknown_leaks_are_named(honest: Predictions) -> None:
    (fault,) = faults(replace(honest, leaks="text+gossip+rumour"))
    assert fault == "leaks that this version of ser does not know: gossip, rumour"


def test_repeated_rows_are_named(honest: Predictions) -> None:
    ids = honest.clip_ids.copy()
    ids[1] = ids[0]
    found = faults(replace(honest, clip_ids=ids))
    assert found[0] == f"1 clip with several predictions of one seed: {ids[0]} (seed {honest.seeds[0]}, 2 rows)"
