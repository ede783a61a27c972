"""A comparison runs heads that are the same on a task once, and leaves out clips of unknown speakers."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from helpers.extraction import extracted
from helpers.logs import notes_into
from helpers.sounds import noise, write

from classifiers import heads
from classifiers.checks import toy_task
from classifiers.heads import wrapped
from classifiers.workflows import comparison
from classifiers.workflows.comparison import run_comparison, without_twins
from classifiers.workflows.configurations import ComparisonConfig, CrossConfig
from classifiers.workflows.cross_corpus import cross
from classifiers.workflows.head_choice import quick_enough
from embedcache import Artifacts


def names_and_notes(n_layers: int, names: list[str], tune: int = 0, calibrate: bool = False) -> tuple[list, list]:
    task, notes = toy_task(n_layers, "layers"), []
    specs = wrapped([heads.get(name) for name in names], tune, calibrate)
    kept = without_twins(replace(task, encoder="mfcc"), specs, notes.append)
    return [spec.name for spec in kept], notes


def test_with_one_layer_a_head_and_its_twin_are_run_once() -> None:
    kept, notes = names_and_notes(1, ["best_layer", "logreg", "layer_weighted", "mlp"])
    assert kept == ["logreg", "mlp"]
    assert notes == [
        f"note: {twin} is the same as {name} where the encoder has one layer, as mfcc has; it is run once."
        for twin, name in (("best_layer", "logreg"), ("layer_weighted", "mlp"))
    ]


@pytest.mark.parametrize(("n_layers", "names"), [(3, ["best_layer", "logreg"]), (1, ["best_layer", "mlp"])])
def test_with_several_layers_or_alone_a_head_is_run(n_layers: int, names: list[str]) -> None:
    assert names_and_notes(n_layers, names) == (names, [])


def test_tuned_heads_are_twins_only_if_they_are_tuned_over_the_same_settings() -> None:
    kept, notes = names_and_notes(1, ["best_layer", "logreg"], tune=2, calibrate=True)
    assert kept == ["logreg-calibrated", "logreg-tuned-calibrated"]
    assert len(notes) == 2
    kept, notes = names_and_notes(1, ["layer_weighted", "mlp"], tune=2)
    assert kept == ["layer_weighted-tuned", "mlp", "mlp-tuned"]
    assert len(notes) == 1


def test_a_comparison_leaves_the_twin_out_and_says_so(artifacts: Artifacts) -> None:
    said: list[str] = []
    config = ComparisonConfig(encoders=("mfcc",), heads=("best_layer", "logreg"), folds=2)
    _, predictions = run_comparison(artifacts, config, jobs=1, log=said.append)
    assert [p.head for p in predictions] == ["logreg"]
    assert any("best_layer is the same as logreg" in line for line in said)
    alone = replace(config, heads=("best_layer",))
    assert [p.head for p in run_comparison(artifacts, alone, jobs=1)[1]] == ["best_layer"]


def test_clips_of_unknown_speakers_are_left_out_and_counted(tmp_path: Path) -> None:
    """Alone and in a union, by `ser compare` and `ser cross`; at random, they are used, and the row says `speaker`."""
    for name in ("one", "two"):
        for number, (label, speaker) in enumerate(product(("happy", "sad"), ("ann", "bob", "Unknown", "cid"))):
            for take in range(3):
                seed = 100 * take + number + 50 * (name == "two")
                write(tmp_path / name / label / f"{speaker}_{take}.wav", noise(0.1, seed=seed))
        extracted(tmp_path / name, tmp_path / "artifacts", dataset="folder")
    place, said = Artifacts(tmp_path / "artifacts"), []
    for datasets, clips in ((("folder-one",), 6), (("folder-one", "folder-two"), 12)):
        config = ComparisonConfig(datasets, heads=("knn",), folds=3, same_names="two")
        _, (predictions,) = run_comparison(place, config, jobs=1, log=notes_into(said))
        assert said.pop() == f"note: protocol 'speakers' leaves out {clips} clips of unknown speakers."
        assert not [name for name in predictions.speakers.tolist() if name.endswith("Unknown")]
        assert len(predictions.speakers) == 3 * clips
        assert "speaker" not in predictions.leaks
    config = ComparisonConfig(("folder-one",), heads=("knn",), folds=3, protocol="random")
    _, (predictions,) = run_comparison(place, config, jobs=1, log=notes_into(said))
    assert (said, len(predictions.speakers), predictions.leaks.split("+")[0]) == ([], 24, "speaker")
    config = CrossConfig(("folder-one",), ("folder-one", "folder-two"), heads=("knn",), same_names="two")
    cross(place, config, jobs=1, log=notes_into(said))
    assert said == ["note: folder-one tested on itself: protocol 'speakers' leaves out 6 clips of unknown speakers."]


def test_a_head_that_is_too_slow_is_left_out_with_a_note_unless_it_is_named() -> None:
    specs = heads.wrapped([heads.get("knn"), heads.get("ridge")], tune=2, calibrate=False)
    notes: list[str] = []
    assert [spec.name for spec in quick_enough(specs, (), 150_001, notes.append)] == ["ridge", "ridge-tuned"]
    (note,) = notes
    assert note.startswith("note: knn, knn-tuned: left out, because")
    assert "150,001 clips" in note
    assert "--head" in note
    assert quick_enough(specs, ("knn", "ridge"), 150_001, notes.append) == specs
    assert quick_enough(specs, (), 150_000, notes.append) == specs
    assert len(notes) == 1


def test_a_comparison_leaves_slow_heads_out(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = [replace(spec, max_clips=3 if spec.name == "knn" else None) for spec in map(heads.get, ("knn", "ridge"))]
    monkeypatch.setattr(comparison, "chosen_heads", lambda *given: quick)
    notes: list[str] = []
    _, made = run_comparison(artifacts, ComparisonConfig(folds=2), jobs=1, log=notes.append)
    assert {p.head for p in made} == {"ridge"}
    assert any(note.startswith("note: knn: left out") for note in notes)
