"""The numbers of figures by hand; the report and the PNG figures draw the same ones."""

import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.places import REPOSITORY
from matplotlib.colors import to_hex

from classifiers import Predictions, compare
from classifiers.checks import toy_task
from classifiers.evaluation.leaderboard import score
from classifiers.evaluation.metrics import aurc, brier, ece, uar
from classifiers.reporting import charts, figures, palette
from classifiers.reporting.figure_data import (
    Confusion,
    Curves,
    LayerWeights,
    LearningCurves,
    Reliability,
    RiskCoverage,
    SpeakerScores,
)
from classifiers.reporting.hardest_clips import ClipFacts
from classifiers.reporting.sections import head_section

CURVES = ({"train_loss": [1.0, 0.5], "val_loss": [0.9]}, {"train_loss": [2.0], "val_loss": [0.7]})


@pytest.fixture(scope="module")
def p() -> Predictions:
    task = toy_task(seed=1)
    noisy = replace(task, X=task.X + 5 * np.random.default_rng(0).standard_normal(task.X.shape).astype(np.float32))
    (p,) = compare(noisy, ["logreg"], "speakers", n_folds=2, jobs=1)
    return replace(p, histories=CURVES)


def test_a_confusion_by_hand(p: Predictions) -> None:
    two = replace(
        p, truth=np.repeat(["left", "right"], 80), predicted=np.repeat(["left", "right", "right"], [60, 20, 80])
    )
    data = Confusion.of(two)
    assert data.counts.tolist() == [[60, 20], [0, 80]]
    assert data.shares.tolist() == [[0.75, 0.25], [0, 1]]
    assert (data.clips.tolist(), data.recalls.tolist(), data.uar) == ([80, 80], [0.75, 1], 0.875)
    lacking = Confusion.of(replace(two, labels=(*two.labels, "up")))
    assert lacking.shares[2].tolist() == [0, 0, 0]
    assert np.isnan(lacking.recalls[2])


def test_scores_are_those_of_the_metrics(p: Predictions) -> None:
    reliability, risk, speakers = Reliability.of(p), RiskCoverage.of(p), SpeakerScores.of(p)
    assert reliability.clips.sum() == len(p.truth)
    assert (reliability.ece, reliability.brier) == (ece(p.proba, p.correct), brier(p.proba, p.truth_columns))
    filled = reliability.filled
    weighted = np.abs(reliability.confidence - reliability.accuracy)[filled] @ reliability.clips[filled]
    assert weighted / reliability.clips.sum() == pytest.approx(reliability.ece)
    assert (risk.coverage[-1], risk.risk[-1]) == (1, pytest.approx(1 - p.correct.mean()))
    assert risk.aurc == float(aurc(p.proba, p.correct))
    assert speakers.names == tuple(np.unique(p.speakers))
    assert speakers.mean == pytest.approx(np.mean([float(uar(p.matrix(p.speakers == s))) for s in speakers.names]))


def test_the_mean_of_curves_is_over_the_folds_that_still_train() -> None:
    assert Curves.of([[1.0, 3.0], [2.0]]) == Curves(((1.0, 3.0), (2.0,)), (1.5, 3.0))
    assert Curves.of([]) == Curves((), ())


def test_curves_that_are_no_numbers_are_left_out(p: Predictions) -> None:
    odd = ([float("nan")], [-1.0], [10**400], "text", [], 7, [0.5, "x"], [True, 0.5])
    data = LearningCurves.of(replace(p, histories=tuple({"train_loss": line} for line in odd)), "loss")
    assert data.lines == ((True, 0.5),)
    assert LearningCurves.of(p, "accuracy").lines == ()


def test_layer_weights_by_hand(p: Predictions) -> None:
    data = LayerWeights.of(replace(p, layer_weights=([0.25, 0.75], [0.75, 0.25])))
    assert data is not None
    assert (data.folds, data.mean.tolist(), data.lowest.tolist()) == (2, [0.5, 0.5], [0.25, 0.25])
    for weights in ((), ([1.0],), ([0.5, 0.5], [1.0])):
        assert LayerWeights.of(replace(p, layer_weights=weights)) is None


def test_the_report_and_the_png_figures_show_the_same_numbers(p: Predictions) -> None:
    confusion, reliability, risk = Confusion.of(p), Reliability.of(p), RiskCoverage.of(p)
    section = head_section(score(p), p, ClipFacts(reason="none"))
    matrix, clips_of_cells = (
        figures.confusion_figure(p).axes[0],
        [[c.count for c in row.cells] for row in section.matrix],
    )
    assert matrix.images[0].get_array().tolist() == confusion.shares.tolist()
    assert [int(text.get_text()) for text in matrix.texts] == confusion.counts.ravel().tolist()
    assert clips_of_cells == confusion.counts.tolist()
    calibration = figures.calibration_figure(p)
    assert reliability.scores in calibration.get_suptitle()
    assert reliability.scores in next(f.note for f in section.figures if f.title == "Reliability")
    assert f"AURC {risk.aurc:.3f}" in calibration.axes[1].get_title()
    assert calibration.axes[1].lines[0].get_ydata().tolist() == risk.risk.tolist()
    data = LearningCurves.of(p, "loss")
    drawn = figures.curves_figure(p).axes[0].lines
    means = {line.get_label(): tuple(line.get_ydata()) for line in drawn if line.get_linewidth() == 2}
    assert means == {"training": data.training.mean, "held-out speakers": data.held_out.mean}
    assert "training from 1.500 to 0.500; held-out speakers from 0.800 to 0.800." in charts.curves(data)


def test_png_figures_take_their_colours_from_the_light_palette(p: Predictions) -> None:
    lines = figures.curves_figure(p).axes[0].lines
    assert {line.get_color() for line in lines} == {palette.LIGHT["train"], palette.LIGHT["held"]}
    image = figures.confusion_figure(p).axes[0].images[0]
    assert [to_hex(image.cmap(end)) for end in (0.0, 1.0)] == [palette.LIGHT["panel"], palette.LIGHT["shade"]]
    source = (REPOSITORY / "classifiers" / "reporting" / "figures.py").read_text()
    named = re.findall(r"(?:color|edgecolor|cmap|facecolor)=[\"'](\w+)", source)
    assert not named, "colours by name are not in the palette"
