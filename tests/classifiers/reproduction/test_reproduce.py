"""Published systems: recipes are whole, the protocols differ as they must, nothing passes for more than it is."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.checkpoints import save_checkpoint
from helpers.places import Ser
from helpers.sounds import noise, ravdess_tree, write

from classifiers import heads
from classifiers.reproduction.recipe import Quick, names, recipe
from classifiers.reproduction.recipe_data import clips_per_group
from classifiers.reproduction.reproduce import ReproductionConfig, reproduce
from embedcache import Artifacts, Clip, DataError, Manifest, dataset_manifest, datasets, encoders
from embedcache.manifest import SKIPPED


@pytest.mark.parametrize("name", names())
def test_a_recipe_names_what_is_there(name: str) -> None:
    said = recipe(name)
    assert said.source
    assert said.stated
    assert said.open, "every source leaves something open"
    assert encoders.find(said.encoder)
    assert all(datasets.find(dataset) for dataset in said.datasets)
    assert bool(said.head) != bool(said.finetune)
    assert not said.head or heads.find(said.head)
    assert set(said.claims) <= {"war", "macro_f1"}


def test_the_claims_are_those_of_the_sources() -> None:
    claims = {name: dict(recipe(name).claims) for name in names()}
    assert claims == {
        "attention-finetune": {"war": 87.5},
        "frozen-mlp": {"war": 95.31, "macro_f1": 94.92},
        "mfcc-cnn": {"war": 69.44},
        "ravdess-esd": {},
        "sequence-960h": {"war": 90.57},
        "weighted-layers-cnn": {"war": 63.11},
    }


@pytest.fixture
def eight(tmp_path: Path) -> Path:
    """24 actors, 3 emotions, a take: RAVDESS's published folds by speaker can be cut."""
    return ravdess_tree(tmp_path / "eight", actors=24, takes=1)


def test_three_columns(eight: Path, tmp_path: Path) -> None:
    place = Artifacts(tmp_path / "artifacts")
    done = reproduce(place, replace(recipe("frozen-mlp"), head="ridge"), ReproductionConfig("mfcc", root=eight))
    rows = {what: cells for what, *cells in done.table()}
    assert rows["protocol"] == ["its own", "random, 5 folds", "official, 6 folds"]
    assert ["speaker" in cell for cell in rows["leaks"]] == [False, True, False]
    assert rows["accuracy, %"][0] == "95.31"
    near, far = (float(cell.split()[0]) for cell in rows["accuracy, %"][1:])
    assert float(rows["points above its protocol"][2]) == pytest.approx(far - near, abs=0.11)
    assert [float(cell) for cell in rows["points above the claim"][1:]] == pytest.approx(
        [near - 95.31, far - 95.31], abs=0.11
    )
    verdict = "This is not a reproduction: without ravdess: 1368 of 1440 clips; encoder mfcc instead of wav2vec2-base."
    assert done.notes()[-2:] == ["missing: ravdess: 1368 of 1440 clips", verdict]
    saved = json.loads((done.folder / "reproduction.json").read_text())
    assert (saved["is_reproduction"], saved["missing"]) == (False, ["ravdess: 1368 of 1440 clips"])
    lines = list(csv.DictReader((done.folder / "reproduction.csv").open()))
    assert [line["percent"] for line in lines if line["what"] == "claimed"] == ["95.31", "94.92"]
    assert {line["run"] for line in lines if line["what"] == "speakers held out"} == {done.folder.name}


@pytest.mark.long
def test_what_is_not_here_is_named_with_the_way_to_get_it(ser: Ser, tree: Path) -> None:
    lacking = ser("reproduce", "mfcc-cnn")
    assert lacking.returncode == 1
    assert (
        "mfcc-cnn needs datasets that are not on this machine: cremad, ravdess, savee, tess. Get them" in lacking.stderr
    )
    assert lacking.stderr.count("http") >= 4
    listed = ser("reproduce").stdout
    assert "accuracy 69.44\t2-D CNN over (30, 216) MFCC" in listed
    assert "frozen-mlp\tnot here\tmissing: ravdess\taccuracy 95.31, macro-F1 94.92\tfrozen" in listed
    assert "no recipe 'mlp-frozen'" in ser("reproduce", "mlp-frozen").stderr
    assert "--root is the folder of one dataset" in ser("reproduce", "mfcc-cnn", "--root", tree).stderr


@pytest.mark.long
def test_a_part_of_the_data_says_so(tmp_path: Path) -> None:
    place = Artifacts(tmp_path / "artifacts")
    dataset_manifest("ravdess", place, ravdess_tree(tmp_path / "many", actors=24))
    hurried = replace(recipe("frozen-mlp"), head="ridge", quick=Quick(1))
    done = reproduce(place, hurried, ReproductionConfig("mfcc", quick=True))
    assert done.differences[-1] == "quick: at most 1 clip of each speaker and label, folds 5"
    assert all(column.protocol in ("random", "official") for column in done.columns)
    assert len(Manifest.from_csv(place.root / "reproduce" / "frozen-mlp-quick" / "manifests" / "ravdess.csv")) == 24 * 3
    whole = reproduce(place, replace(hurried, encoder="mfcc"))
    assert whole.differences == ("without ravdess: 1296 of 1440 clips",)
    with pytest.raises(DataError, match="or use --dataset ravdess for a result that is not a reproduction"):
        reproduce(place, recipe("mfcc-cnn"))


def test_no_more_clips_than_the_source_used() -> None:
    clips = tuple(Clip("a", f"{who}{n}", "x", "sad", who) for who, many in (("1", 5), ("2", 2)) for n in range(many))
    skipped = (Clip("a", "s", "x", "sad", "1", extra={SKIPPED: "it is"}),)
    manifest = Manifest("a", clips + skipped)
    assert [clips_per_group([manifest], most) for most in (None, 7, 6, 5, 3, 1)] == [None, None, 4, 3, 1, 1]


@pytest.mark.long
@pytest.mark.parametrize("name", names())
def test_every_recipe_runs_quickly_on_a_small_encoder(name: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    place = Artifacts(tmp_path / "artifacts")
    dataset_manifest("ravdess", place, ravdess_tree(tmp_path / "tree", actors=6, emotions=4, seconds=0.4))
    used = ["ravdess"]
    if name == "ravdess-esd":
        for speaker in range(11, 15):
            for number, label in enumerate(("Neutral", "Angry", "Happy", "Sad")):
                file = f"{speaker:04d}_{350 * number + 1:06d}.wav"
                write(tmp_path / "esd" / f"{speaker:04d}" / label / file, noise(0.4, seed=10 * speaker + number))
        dataset_manifest("esd", place, tmp_path / "esd")
        used.append("esd")
    encoder = "mfcc" if name == "mfcc-cnn" else str(save_checkpoint(tmp_path / "net"))
    said = replace(recipe(name), protocol="random")
    done = reproduce(place, said, ReproductionConfig(encoder, tuple(used), quick=True, device="cpu", jobs=2))
    assert [column.title for column in done.columns] == ["claimed protocol", "speakers held out"]
    assert "speaker" in done.columns[0].leaks
    assert "speaker" not in done.columns[1].leaks
    assert done.differences
    assert (done.folder / "reproduction.csv").exists()
