"""`--folds FILE` and `ser protocols --write`: a comparison on listed folds is the comparison under the protocol."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.emobox import emobox_tree
from helpers.extraction import extracted
from helpers.logs import notes_into
from helpers.places import Ser
from helpers.trees import TREES

from classifiers.evaluation.predictions import Predictions
from classifiers.evaluation.run_folder import load_predictions
from classifiers.saved.model_folder import load_model
from classifiers.workflows.comparison import run_comparison
from classifiers.workflows.configurations import ComparisonConfig, ProtocolConfig
from classifiers.workflows.fitting import fit_model
from classifiers.workflows.fold_choice import write_folds
from embedcache import Artifacts, ConfigError, Manifest

ONE = ComparisonConfig(heads=("ridge",), folds=2)


def written(artifacts: Artifacts, **options: object) -> Path:
    path = artifacts.root.parent / "folds.csv"
    write_folds(artifacts, ProtocolConfig(**{"folds": 2} | options), path)
    return path


def compared(artifacts: Artifacts, config: ComparisonConfig) -> tuple[Path, Predictions]:
    run, (predictions,) = run_comparison(artifacts, config, jobs=1)
    return run, predictions


@pytest.mark.parametrize(("protocol", "seeds"), [("speakers", 1), ("loso", 1), ("random", 2)])
def test_scores_on_written_folds_are_those_of_the_protocol(artifacts: Artifacts, protocol: str, seeds: int) -> None:
    path = written(artifacts, protocol=protocol, seeds=seeds)
    _, wanted = compared(artifacts, replace(ONE, protocol=protocol, seeds=seeds))
    run, p = compared(artifacts, replace(ONE, folds=str(path)))
    assert (p.protocol, p.fold_hash, p.leaks) == ("listed", wanted.fold_hash, wanted.leaks)
    for name in ("clip_ids", "folds", "seeds", "predicted", "proba"):
        np.testing.assert_array_equal(getattr(p, name), getattr(wanted, name), err_msg=name)
    asked = json.loads((run / "run.json").read_text())["asked"]
    assert (asked["folds"], asked["protocol"], asked["seeds"]) == (str(path), "listed", seeds)
    assert (run / "folds.csv").read_text() == path.read_text()
    assert load_predictions(run)[0].fold_hash == wanted.fold_hash
    assert run.name.endswith("ravdess-listed")


def test_listed_folds_without_seeds_are_repeated_with_each_seed(artifacts: Artifacts) -> None:
    path = written(artifacts, protocol="loso")
    _, p = compared(artifacts, replace(ONE, folds=str(path), seeds=2))
    assert set(p.seeds.tolist()) == {"0", "1"}
    one, two = (p.clip_ids[p.seeds == seed].tolist() for seed in ("0", "1"))
    assert one == two


@pytest.mark.parametrize(
    ("written_seeds", "options", "said"),
    [
        (2, {"seeds": 3}, "got --seeds 3 and --folds .*, which lists the folds of 2 seeds. Leave --seeds out, or"),
        (1, {"protocol": "speakers"}, "got --protocol speakers and --folds .*; wanted one of both. Leave --protocol"),
    ],
)
def test_options_that_contradict_the_file(
    artifacts: Artifacts, written_seeds: int, options: dict[str, object], said: str
) -> None:
    path = written(artifacts, seeds=written_seeds)
    with pytest.raises(ConfigError, match=said):
        run_comparison(artifacts, replace(ONE, folds=str(path), **options), jobs=1)


def test_a_model_s_card_says_what_its_listed_folds_share(artifacts: Artifacts) -> None:
    for protocol, speakers in (("speakers", "disjoint"), ("random", "shared")):
        said: list[str] = []
        path = written(artifacts, protocol=protocol)
        model, card, _ = fit_model(artifacts, replace(ONE, folds=str(path)), jobs=1, log=notes_into(said))
        assert (card.protocol["name"], card.protocol["speakers"]) == ("listed", speakers)
        assert load_model(model)[1].protocol == card.protocol
        assert (artifacts.runs / card.score["run"] / "folds.csv").read_text() == path.read_text()
        assert any("share 4 speakers" in line for line in said) == (speakers != "disjoint")


def test_emobox_folds_of_two_datasets_name_clips_by_their_paths(tmp_path: Path) -> None:
    place = tmp_path / "artifacts"
    for name in ("ravdess", "savee"):
        extracted(TREES[name].make(tmp_path / name, seed=100 * len(name)), place, dataset=name)
    artifacts = Artifacts(place)
    manifests = [Manifest.from_csv(artifacts.manifest(name)) for name in ("ravdess", "savee")]
    wavs = [f"{m.dataset}/{c.clip_id}.wav" for m in manifests[:1] for c in m.clips]
    wavs += [str(Path(c.path).relative_to(tmp_path)) for c in manifests[1].clips]
    folder = emobox_tree(tmp_path / "both", "both", wavs, [wavs[::2], wavs[1::2]])
    config = ComparisonConfig(("ravdess", "savee"), heads=("ridge",), labels="emotion4", folds=str(folder))
    _, p = compared(artifacts, config)
    assert p.dataset == "ravdess+savee"
    first = {clip.rpartition("/")[2] for clip in p.clip_ids[p.folds == "1"].tolist()}
    assert f"ravdess:{manifests[0].clips[0].clip_id}" in first
    listed = ProtocolConfig(("ravdess", "savee"), folds=str(folder), labels="emotion4")
    path = tmp_path / "both.csv"
    write_folds(artifacts, listed, path)
    assert compared(artifacts, replace(config, folds=str(path)))[1].fold_hash == p.fold_hash


def test_speakers_of_two_datasets_are_listed_with_their_corpus(tmp_path: Path) -> None:
    place = tmp_path / "artifacts"
    for name in ("ravdess", "savee"):
        extracted(TREES[name].make(tmp_path / name, seed=100 * len(name)), place, dataset=name)
    path = tmp_path / "folds.csv"
    rows = ["ravdess:1,1", "ravdess:02,1", "RAVDESS:03,2", "ravdess:04,2", "savee:DC,1", "savee:kl,2"]
    path.write_text("speaker,fold\n" + "\n".join(rows))
    config = ComparisonConfig(("ravdess", "savee"), heads=("ridge",), labels="emotion4", folds=str(path))
    _, p = compared(Artifacts(place), config)
    assert set(p.speakers[p.folds == "2"].tolist()) == {"ravdess:03", "ravdess:04", "savee:KL"}
    assert "speaker" not in p.leaks.split("+")


def test_folds_are_written_and_used_on_the_command_line(ser: Ser, artifacts: Artifacts) -> None:
    shown = ser("protocols", "--write", "-", "--protocol", "loso")
    assert shown.returncode == 0, shown.stderr
    rows = list(csv.DictReader(io.StringIO(shown.stdout)))
    assert list(rows[0]) == ["clip_id", "speaker", "fold"]
    assert len(rows) == 24
    assert all(row["fold"] == row["speaker"] for row in rows)
    done = ser("protocols", "--write", "mine/folds 1.csv", "--protocol", "random", "--folds", "3", "--seeds", "2")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "Next: ser compare --dataset ravdess --folds 'mine/folds 1.csv'\n"
    path = artifacts.root.parent / "mine" / "folds 1.csv"
    assert path.read_text().splitlines()[0] == "clip_id,speaker,fold,seed"
    compared = ser("compare", "--folds", "mine/folds 1.csv", "--head", "ridge")
    assert "ravdess, protocol listed: 3 folds x 2 seeds, 24 clips" in " ".join(compared.stdout.split()), compared
    assert "training and test clips share 4 speakers" in compared.stderr
    assert compared.stderr.count("folds 1.csv: ") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("compare", "--folds", "1"), 2, "got --folds 1; wanted 2 or more, or a file."),
        (("compare", "--folds", "-3"), 2, "got --folds -3; wanted 2 or more, or a file."),
        (("compare", "--folds", "five"), 2, "got --folds five; wanted a number of folds, a CSV file with the columns"),
        (
            ("compare", "--folds", "."),
            1,
            "has 0 files *_train_fold_*.jsonl; wanted one in each folder fold_1, fold_2, …",
        ),
        (("protocols", "--protocol", "loso"), 2, "these options belong to --write FILE"),
        (("protocols", "--write", "x.csv", "--protocol", "lozo"), 1, "did you mean 'loso'?"),
        (
            ("protocols", "--write", ".", "--protocol", "loso"),
            1,
            "ser did not write it, so it stays. Choose another --write",
        ),
    ],
)
def test_folds_that_cannot_be_had(
    ser: Ser, artifacts: Artifacts, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = ser(*arguments, env={"COLUMNS": "200"})
    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stderr.replace("│", " ").split()), done.stderr
    assert not (artifacts.root.parent / "x.csv").exists()
