"""A comparison names clips that are probably copies, on the terminal, in a file and in its leaks."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.extraction import extracted
from helpers.sounds import noise, write

from classifiers import Task, make_folds
from classifiers.workflows.comparison import run_comparison
from classifiers.workflows.configurations import ComparisonConfig, CrossConfig
from classifiers.workflows.copy_search import search_copies
from classifiers.workflows.cross_corpus import cross
from embedcache import Artifacts


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """160 clips of 8 speakers, of which one is also there as 24-bit audio under the name of another speaker."""
    root = tmp_path_factory.mktemp("copies") / "mine"
    for n in range(160):
        write(root / f"l{n % 2}" / f"s{n // 20}_{n:03}.wav", noise(0.3, seed=n) * np.linspace(1, 0.1 + n % 7 / 9, 4800))
    original = noise(0.3, seed=4) * np.linspace(1, 0.1 + 4 / 9, 4800)
    write(root / "l0" / "s7_copy.wav", original, subtype="PCM_24")
    extracted(root, root.parent / "artifacts", dataset="folder", views=("pooled", "frames:0"))
    return Artifacts(root.parent / "artifacts")


def compared(place: Artifacts, **options: object) -> tuple[Path, list, list[str]]:
    lines: list[str] = []
    config = ComparisonConfig(**({"heads": ("ridge",), "folds": 4} | options))
    return *run_comparison(place, config, 1, log=lines.append), lines


@pytest.mark.parametrize("head", ["ridge", pytest.param("cnn", marks=pytest.mark.long)])
def test_a_comparison_names_probable_copies(place: Artifacts, head: str) -> None:
    """Also under a head of frames, whose clips are compared by their pooled vectors."""
    run, (p,), lines = compared(place, heads=(head,))
    assert p.leaks == "audio~+text?"
    (note,) = [line for line in lines if "copies" in line]
    assert note.startswith(
        "note: 1 pair of clips are probably copies, 1 of them in training and test clips of a fold: "
    )
    assert "l0/s0_004.wav = l0/s7_copy.wav (near_copies.csv" in note
    (row,) = csv.DictReader((run / "near_copies.csv").open())
    assert (row["clip"], row["copy"], row["speaker"], row["speaker_of_copy"]) == (
        "l0/s0_004.wav",
        "l0/s7_copy.wav",
        "s0",
        "s7",
    )
    assert (row["encoder"], row["split"]) == ("mfcc", "yes")
    assert float(row["margin"]) > 0.8


def test_a_comparison_without_copies_says_nothing(place: Artifacts, tmp_path: Path) -> None:
    path = place.manifest("folder-mine")
    text = path.read_text()
    path.write_text("".join(line for line in text.splitlines(True) if "s7_copy" not in line))
    try:
        run, (p,), lines = compared(place)
    finally:
        path.write_text(text)
    assert (p.leaks, lines) == ("text?", [])
    assert not (run / "near_copies.csv").exists()


@pytest.mark.parametrize(
    ("limit", "clips", "wanted"), [("MIN_CLIPS", 200, "fewer than 200"), ("MAX_CLIPS", 100, "more than 100")]
)
def test_too_few_or_too_many_clips_are_not_searched_and_a_note_says_so(
    place: Artifacts, monkeypatch: pytest.MonkeyPatch, limit: str, clips: int, wanted: str
) -> None:
    for module in ("classifiers.data.near_copies", "classifiers.workflows.copy_search"):
        monkeypatch.setattr(f"{module}.{limit}", clips)
    task, lines = Task.load(artifacts=place), []
    assert len(search_copies(place, ComparisonConfig(), [task], make_folds(task), lines.append).pairs) == 0
    assert lines == [f"note: near copies are not looked for among {wanted} clips."]


def test_vectors_of_few_dimensions_are_not_searched_and_a_note_says_so(
    place: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, lines = Task.load(artifacts=place), []
    for module in ("classifiers.data.near_copies", "classifiers.workflows.copy_search"):
        monkeypatch.setattr(f"{module}.MIN_DIMENSIONS", task.X.shape[1] + 1)
    assert len(search_copies(place, ComparisonConfig(), [task], make_folds(task), lines.append).pairs) == 0
    assert lines == [
        "note: near copies are not looked for with mfcc: its vectors have 970 numbers, and with fewer than 971, other "
        "takes look like copies."
    ]


def test_copies_in_another_dataset_are_a_leak_of_the_pair(place: Artifacts, tmp_path: Path) -> None:
    """One clip of the first dataset is in the second, with other bytes: in training one way, in test the other way."""
    root = tmp_path / "second"
    for n in range(40):
        write(root / f"l{n % 2}" / f"t{n // 10}_{n:03}.wav", noise(0.3, seed=900 + n) * np.linspace(1, 0.5, 4800))
    original = noise(0.3, seed=6) * np.linspace(1, 0.1 + 6 / 9, 4800)
    write(root / "l0" / "t3_copy.wav", original, subtype="PCM_24")
    artifacts = Artifacts(tmp_path / "artifacts")
    shutil.copytree(place.root, artifacts.root)
    extracted(root, artifacts.root, dataset="folder")
    lines: list[str] = []
    run, rows = cross(artifacts, CrossConfig(heads=("ridge",), labels="native", folds=4), 1, log=lines.append)
    assert [(row.train == row.test, "audio~" in row.leaks) for row in rows] == [
        (True, True),  # the copy of the first dataset itself, see `place`
        (False, True),
        (False, True),
        (True, False),
    ]
    assert any(line.startswith("note: 2 pairs of clips are probably copies") for line in lines)
    pairs = [(row["clip"], row["copy"]) for row in csv.DictReader((run / "near_copies.csv").open())]
    assert ("folder-mine:l0/s0_006.wav", "folder-second:l0/t3_copy.wav") in pairs
