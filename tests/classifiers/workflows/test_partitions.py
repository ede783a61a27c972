"""Partitions from the manifest to the leaderboard: one fit, rows for each test partition, and what is said of them."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from classifiers import Predictions, Task, compare, heads, leaderboard, load_predictions, save_predictions
from classifiers.checks import toy_task
from classifiers.evaluation import cross_validation
from classifiers.evaluation.cross_validation import fit_head
from classifiers.evaluation.leaderboard import tables, to_csv
from classifiers.reporting.html_report import write_report
from classifiers.workflows.comparison import run_comparison
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.finetuning import FinetuneConfig, finetune
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts, DataError, Manifest, ProtocolError
from embedcache.finetune import FinetuneSettings
from embedcache.manifest import PARTITION

PARTS = {"01": "train", "02": "dev", "03": "test1", "04": "test2"}  # by actor of the tree


def partition(artifacts: Artifacts, parts: dict[str, str] = PARTS, without: Sequence[str] = ()) -> Manifest:
    """Write the partitions of the speakers into the manifest of `ravdess`; none for the clips `without`."""
    path = artifacts.manifest("ravdess")
    manifest = Manifest.from_csv(path)
    clips = (
        replace(c, extra={**c.extra, PARTITION: "" if c.clip_id in without else parts[c.speaker]})
        for c in manifest.clips
    )
    manifest = replace(manifest, clips=tuple(clips))
    manifest.to_csv(path)
    return manifest


@pytest.fixture(scope="module")
def toy() -> Task:
    """Eight speakers: four in train, one in dev, one in test1, and two in test2, who err."""
    task = toy_task(seed=1)
    X = task.X + 2 * np.random.default_rng(0).standard_normal(task.X.shape).astype(np.float32)
    parts = ["train"] * 4 + ["dev", "test1", "test2", "test2"]
    return replace(task, X=X, partitions=np.repeat(parts, 20))


NAMES = ["logreg", "mlp", "svm"]


@pytest.fixture(scope="module")
def predictions(toy: Task) -> list[Predictions]:
    return compare(toy, NAMES, "partition", jobs=1, seeds=2)


def test_each_head_has_a_row_for_each_test_partition(toy: Task, predictions: list[Predictions]) -> None:
    assert [(p.head, p.protocol) for p in predictions] == [
        (head, f"partition:{part}") for head in NAMES for part in ("test1", "test2")
    ]
    for p in predictions:
        assert set(toy.partitions[np.isin(toy.ids, p.clip_ids)]) == {p.protocol.partition(":")[2]}
        assert (len(p.clip_ids), p.leaks) == (40 if "test1" in p.protocol else 80, "")
        assert p.train_clips == 80
    rows = leaderboard(predictions)
    assert [row.rank for row in rows] == [1, 2, 3, 1, 2, 3]
    assert {(row.protocol, row.folds, row.n_speakers) for row in rows} == {
        ("partition:test1", 1, 1),
        ("partition:test2", 1, 2),
    }
    for table in tables(predictions):
        assert len({p.protocol for p in table.predictions}) == 1, "heads are compared within one test partition"


def test_all_test_partitions_are_predicted_by_one_fit(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []

    def spy(spec, task, rows, seed, dev):
        fitted.append((spec.name, seed, toy.partitions[rows].tolist(), toy.partitions[dev].tolist()))
        return fit_head(spec, task, rows, seed, dev)

    monkeypatch.setattr(cross_validation, "fit_head", spy)
    made = compare(toy, ["ridge"], "partition", seeds=2, jobs=1)
    assert fitted == [("ridge", seed, ["train"] * 80, ["dev"] * 20) for seed in (0, 1)]
    alone = fit_head(heads.get("ridge"), toy, np.arange(80), 0, np.arange(80, 100))
    wanted = alone.predict_proba(toy.X[100:120]).astype(np.float32)
    np.testing.assert_array_equal(made[0].proba[:20], wanted)


def test_the_labels_of_test_clips_change_no_probability(toy: Task) -> None:
    specs = heads.wrapped([heads.get(name) for name in ("mlp", "svm", "logreg")], tune=3, calibrate=True)
    test = np.char.startswith(toy.partitions, "test")
    other = replace(toy, y=np.where(test, np.roll(toy.y, 1), toy.y), X=toy.X)
    for a, b in zip(*(compare(task, specs, "partition", jobs=1) for task in (toy, other)), strict=True):
        np.testing.assert_array_equal(a.proba, b.proba, err_msg=f"{a.head}, {a.protocol}")
        assert (a.truth != b.truth).any()
    swapped = replace(toy, y=np.where(toy.partitions == "dev", np.roll(toy.y, 1), toy.y))
    assert any(
        (a.proba != b.proba).any()
        for a, b in zip(*(compare(task, specs, "partition", jobs=1) for task in (toy, swapped)), strict=True)
    ), "the labels of development clips do"


def test_a_run_keeps_the_rows_of_test_partitions_apart(predictions: list[Predictions], tmp_path: Path) -> None:
    save_predictions(tmp_path / "run", predictions, {})
    read = load_predictions(tmp_path / "run")
    assert [(p.head, p.protocol) for p in read] == [(p.head, p.protocol) for p in predictions]
    for a, b in zip(read, predictions, strict=True):
        assert a.clip_ids.tolist() == b.clip_ids.tolist()
        assert a.folds.tolist() == b.folds.tolist()
        np.testing.assert_array_equal(a.proba, b.proba)
    assert to_csv([replace(row, run="") for row in leaderboard(read)]) == to_csv(leaderboard(predictions))
    with pytest.raises(DataError, match="several predictions of toy, toy, logreg, test1 for one run"):
        save_predictions(tmp_path / "twice", [*predictions, predictions[0]], {})


@pytest.mark.parametrize("protocol", ["partition:test1", "partition", "partition:test3"])
def test_a_run_whose_partitions_do_not_fit_its_rows_is_refused(
    predictions: list[Predictions], tmp_path: Path, protocol: str
) -> None:
    save_predictions(tmp_path / "run", predictions[:2], {})
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    run["heads"][1]["protocol"] = protocol
    run["heads"] = run["heads"] if protocol != "partition" else [*run["heads"], run["heads"][1]]
    (tmp_path / "run" / "run.json").write_text(json.dumps(run))
    with pytest.raises(DataError, match=r"predictions.csv has no rows of toy, toy, logreg"):
        load_predictions(tmp_path / "run")


def test_labels_of_clips_in_no_partition_are_not_predicted(toy: Task) -> None:
    y = np.where(np.arange(160) == 159, "up", toy.y).astype("<U5")
    parts = np.where(np.arange(160) == 159, "", toy.partitions)
    for p in compare(replace(toy, y=y, partitions=parts), ["logreg"], "partition", jobs=1):
        assert p.labels == ("left", "right")
        assert p.proba.shape[1] == 2


def test_a_comparison_from_the_manifest_to_the_report(artifacts: Artifacts) -> None:
    clips = Manifest.from_csv(artifacts.manifest("ravdess")).clips
    partition(artifacts, without=[next(c.clip_id for c in clips if c.speaker == "01")])
    said: list[str] = []
    config = ComparisonConfig(heads=("logreg", "mlp"), protocol="partition", tune=2, calibrate=True)
    folder, made = run_comparison(artifacts, config, jobs=1, log=said.append)
    assert "note: 1 of 24 clips is in no fold of the protocol partition, so neither trained on nor tested." in said
    assert folder.name.endswith("-ravdess-partition")
    with (folder / "leaderboard.csv").open() as file:
        rows = [(row["protocol"], row["head"]) for row in csv.DictReader(file)]
    assert sorted(rows) == sorted((p.protocol, p.head) for p in made)
    assert len(rows) == 8
    assert len(list(folder.glob("confusion-*-test1.png"))) == len(list(folder.glob("confusion-*-test2.png"))) == 4
    with (folder / "chosen.csv").open() as file:
        assert {row["fold"] for row in csv.DictReader(file)} == {"test1", "test2"}
    assert all(p.chosen[0]["temperature"] is not None for p in made), "dev serves where no inner folds are possible"
    page = write_report(artifacts, [folder.name], audio=False).read_text()
    assert "protocol partition:test1: 1 fold, 6 clips" in page
    assert "protocol partition:test2: 1 fold, 6 clips" in page


def test_one_test_partition_has_the_plain_name_and_a_shared_speaker_is_said(artifacts: Artifacts) -> None:
    partition(artifacts, {**PARTS, "04": "train", "03": "test"})
    config = ComparisonConfig(heads=("logreg",), protocol="partition")
    _, (p,) = run_comparison(artifacts, config, jobs=1)
    assert (p.protocol, "speaker" in p.leaks.split("+")) == ("partition", False)
    manifest = Manifest.from_csv(artifacts.manifest("ravdess"))
    moved = [replace(c, extra={**c.extra, PARTITION: "dev"}) if c.speaker == "03" else c for c in manifest.clips[:13]]
    replace(manifest, clips=(*moved, *manifest.clips[13:])).to_csv(artifacts.manifest("ravdess"))
    _, (p,) = run_comparison(artifacts, config, jobs=1)
    assert "speaker" in p.leaks.split("+")


def test_a_dataset_without_partitions_is_refused_before_anything_is_fitted(artifacts: Artifacts) -> None:
    with pytest.raises(ProtocolError, match=r"cannot be used on ravdess.* none 24\): no clip has a partition"):
        run_comparison(artifacts, ComparisonConfig(protocol="partition"), jobs=1)


def test_a_fitted_model_names_the_test_partition_of_its_scores(artifacts: Artifacts) -> None:
    partition(artifacts)
    said: list[str] = []
    config = ComparisonConfig(heads=("logreg",), protocol="partition", calibrate=True)
    _, card, made = fit_model(artifacts, config, jobs=1, log=said.append)
    assert (card.n_clips, len(made), card.score["protocol"]) == (24, 2, "partition:test1")
    assert (card.protocol["name"], card.protocol["speakers"]) == ("partition:test1", "disjoint")
    assert card.protocol["about"].startswith("the column partition")
    assert card.protocol["then"].startswith("The saved head was then fitted on all clips.")
    assert "note: the model card has the scores of partition:test1; the run folder has all scores." in said


def test_a_checkpoint_is_kept_by_the_development_clips_and_tested_on_each_partition(
    artifacts: Artifacts, checkpoint: Path
) -> None:
    partition(artifacts)
    settings = FinetuneSettings(epochs=1, hidden=(), patience=1, batch_size=6)
    said: list[str] = []
    config = FinetuneConfig(("ravdess",), str(checkpoint), "partition", settings=settings)
    done = finetune(artifacts, config, device="cpu", log=said.append)
    assert "fold test1+test2: 6 training clips, 6 development clips" in said
    assert [path.name.endswith("-fold-test1-test2") for path in done.checkpoints] == [True]
    assert json.loads((done.checkpoints[0] / "finetuned.json").read_text())["development"] == ["02"]
    assert [(p.protocol, len(p.clip_ids), p.chosen[0]["setting"]["epoch"]) for p in done.predictions] == [
        ("partition:test1", 6, 1),
        ("partition:test2", 6, 1),
    ]
    assert len(load_predictions(done.run)) == 2
