"""Without --head, `ser fit` takes the head that the latest comparison ranks first, and says so."""

from pathlib import Path

import numpy as np
from helpers.extraction import extracted
from helpers.places import Ser

from classifiers.data.csv_text import DECIMALS
from classifiers.evaluation.leaderboard import leaderboard
from classifiers.evaluation.metrics import uar
from classifiers.evaluation.run_folder import load_predictions
from classifiers.workflows.best_head import FALLBACK, rivals_of, with_best_head
from classifiers.workflows.comparison import run_comparison
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts


def taken(artifacts: Artifacts, **options: object) -> tuple[str, str]:
    """The head that is taken, and the line that says so."""
    lines: list[str] = []
    (head,) = with_best_head(artifacts, ComparisonConfig(**options), lines.append).heads
    return head, "\n".join(lines)


def test_the_best_head_of_the_latest_comparison_is_taken(artifacts: Artifacts) -> None:
    """A fit of one head, a comparison with a leak and one of other labels are no comparisons for it."""
    run, predictions = run_comparison(artifacts, ComparisonConfig(heads=("knn", "ridge", "lda"), folds=2), jobs=1)
    best = min(load_predictions(run), key=lambda p: (-uar(p.matrix()), p.head))
    for other in (
        ComparisonConfig(heads=("logreg",), folds=2),
        ComparisonConfig(heads=("logreg", "lda"), folds=2, protocol="random"),
        ComparisonConfig(heads=("logreg", "lda"), folds=2, labels="emotion"),
    ):
        run_comparison(artifacts, other, jobs=1)
    head, line = taken(artifacts)
    assert head == best.head
    assert f"takes the head {head}: {head} ranks first of {len(predictions)} in the comparison {run.name}" in line
    assert taken(artifacts, heads=("svm",)) == ("svm", "")


def test_a_variant_is_taken_by_the_name_of_its_head(artifacts: Artifacts) -> None:
    run_comparison(artifacts, ComparisonConfig(heads=("knn", "ridge"), folds=2, calibrate=True), jobs=1)
    head, line = taken(artifacts)
    assert head in ("knn", "ridge")
    assert f"takes the head {head}: {head}, as {head}-calibrated, ranks first" in line


def test_without_a_comparison_the_reason_is_said(artifacts: Artifacts, tree: Path) -> None:
    head, line = taken(artifacts)
    assert head == FALLBACK
    assert "takes the head logreg, because no comparison of ravdess on mfcc has rows without a leak" in line
    run_comparison(artifacts, ComparisonConfig(heads=("knn", "ridge"), folds=2), jobs=1)
    extracted(tree, artifacts.root, "functionals")
    assert taken(artifacts, encoders=("functionals",))[0] == FALLBACK
    assert taken(artifacts, encoders=("mfcc",))[0] in ("knn", "ridge")


def test_a_run_that_cannot_be_read_is_passed_over(artifacts: Artifacts) -> None:
    run, _ = run_comparison(artifacts, ComparisonConfig(heads=("knn", "ridge"), folds=2), jobs=1)
    (artifacts.runs / "99991231-broken").mkdir()
    (artifacts.runs / "99991231-broken" / "run.json").write_text("{")
    assert run.name in taken(artifacts)[1]


def test_the_command_fits_the_head_that_it_names(artifacts: Artifacts, ser: Ser) -> None:
    done = ser("fit", "--folds", "2")
    assert done.returncode == 0, done.stderr
    assert "note: takes the head logreg, because" in done.stderr
    model, card, _ = fit_model(artifacts, ComparisonConfig(folds=2), jobs=1)
    assert (card.head, model.name) == ("logreg", "ravdess-mfcc-logreg-2")
    assert np.isfinite(card.score["uar"])


def test_a_fit_of_one_head_with_variants_is_no_comparison(artifacts: Artifacts) -> None:
    run, _ = run_comparison(artifacts, ComparisonConfig(heads=("knn", "ridge"), folds=2), jobs=1)
    fit_model(artifacts, ComparisonConfig(heads=("lda",), folds=2, calibrate=True, tune=2), jobs=1)
    assert run.name in taken(artifacts)[1]


def test_the_card_of_the_head_ranked_first_has_the_interval_of_a_row_that_was_selected(artifacts: Artifacts) -> None:
    """Named or not; the card of another head, or of one that was compared with none, has its own."""
    _, alone, _ = fit_model(artifacts, ComparisonConfig(heads=("lda",), folds=2), jobs=1)
    assert "selected" not in alone.protocol
    run, rows = run_comparison(artifacts, ComparisonConfig(heads=("lda", "ridge", "knn"), folds=2), jobs=1)
    row, *others = leaderboard(rows)
    assert all(rivals_of(artifacts, p) == [] for p in rows if p.head != row.head)
    for heads in ((), (row.head,)):
        _, card, _ = fit_model(artifacts, ComparisonConfig(heads=heads, folds=2), jobs=1)
        assert f"ranks first of 3 rows in the comparison {run.name}" in card.protocol["selected"]
        low, high = (card.scores["uar"][end] for end in ("low", "high"))
        assert (low, high) == (round(row.uar_low, DECIMALS), round(row.uar_high, DECIMALS))
        assert (card.score["uar_low"], card.score["uar_high"]) == (row.uar_low, row.uar_high)
    _, card, _ = fit_model(artifacts, ComparisonConfig(heads=(others[-1].head,), folds=2), jobs=1)
    assert "selected" not in card.protocol
