"""What duration and level alone score: planted differences are reported, chance and speakers' own levels are not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.places import EMODB, RAVDESS, needs_emodb, needs_ravdess
from helpers.sounds import noise, write

from embedcache import Audit, audit, datasets
from embedcache.auditing.baseline import is_above_chance, uar_of_nearest_mean


def labelled(speakers: int, takes: int) -> tuple[np.ndarray, np.ndarray]:
    grid = [(f"l{label}", f"s{s:02}") for s in range(speakers) for label in range(4) for _ in range(takes)]
    return tuple(np.array(column) for column in zip(*grid, strict=True))


def test_a_feature_that_tells_the_label_scores_and_one_that_does_not_is_chance() -> None:
    labels, speakers = labelled(6, 10)
    rng = np.random.default_rng(0)
    telling = (np.unique(labels, return_inverse=True)[1] + rng.normal(0, 0.05, len(labels)))[:, None]
    assert uar_of_nearest_mean(telling, labels, speakers) == 1
    guesses = [uar_of_nearest_mean(rng.normal(size=(240, 2)), labels, speakers) for _ in range(200)]
    assert np.mean(guesses) == pytest.approx(0.25, abs=0.02)
    assert not any(is_above_chance(uar, labels) for uar in guesses)
    assert is_above_chance(0.4, labels)
    assert not is_above_chance(0.4, labels[::20])
    assert uar_of_nearest_mean(np.ones((240, 1)), labels, speakers) == 0.25


def test_test_speakers_are_not_learned_from() -> None:
    """Each speaker has a value of their own for each label: known speakers score 1, new ones do not."""
    labels, speakers = labelled(3, 10)
    number = np.unique(labels, return_inverse=True)[1]
    shift = np.unique(speakers, return_inverse=True)[1]
    own = ((number + shift) % 4).astype(float)[:, None]
    assert uar_of_nearest_mean(own, labels, speakers) <= 0.25
    assert np.isnan(uar_of_nearest_mean(own, labels, np.full(len(labels), "s")))


def test_more_speakers_than_folds_are_all_tested() -> None:
    labels, speakers = labelled(45, 1)
    assert uar_of_nearest_mean(np.unique(labels, return_inverse=True)[1][:, None] * 1.0, labels, speakers) == 1


def tree(root: Path, longer: float = 0.0, louder: float = 0.0, quiet_speaker: float = 1.0) -> Audit:
    """An audit of 120 clips: label l1 is longer or louder, speaker s0 quieter."""
    rng = np.random.default_rng(0)
    for n in range(120):
        label, speaker = n % 2, n // 2 % 6
        seconds = 0.3 + longer * label + rng.uniform(0, 0.1)
        gain = 0.2 * (1 + louder * label) * rng.uniform(0.7, 1) * (quiet_speaker if speaker == 0 else 1)
        write(root / f"l{label}" / f"s{speaker}_{n}.wav", gain * noise(seconds, seed=n))
    return audit(datasets.get("folder"), root)


def lines(found: Audit, kind: str) -> tuple[str, ...]:
    return next((finding.lines for finding in found.findings if finding.kind == kind), ())


def test_a_corpus_without_such_differences_has_no_note(tmp_path: Path) -> None:
    found = tree(tmp_path)
    assert found.findings == ()


def test_longer_clips_of_a_label_are_a_note(tmp_path: Path) -> None:
    found = tree(tmp_path, longer=0.2)
    assert lines(found, "baseline") == (
        "duration alone predicts the label with UAR 1.000, chance 0.500",
        "duration and level alone predict the label with UAR 1.000, chance 0.500",
    )
    assert found.faults == ()


def test_louder_clips_of_a_label_are_a_note(tmp_path: Path) -> None:
    assert {line.split(" alone")[0] for line in lines(tree(tmp_path, louder=2.0), "baseline")} == {
        "level",
        "peak",
        "duration and level",
    }


def test_a_quiet_speaker_is_a_note_beyond_ten_decibels(tmp_path: Path) -> None:
    (line,) = lines(tree(tmp_path / "a", quiet_speaker=0.1), "speaker level")
    assert line.startswith("speaker s0: median level -")
    assert lines(tree(tmp_path / "b", quiet_speaker=0.5), "speaker level") == ()


@needs_ravdess
def test_the_baselines_of_ravdess() -> None:
    found = audit(replace(datasets.get("ravdess"), seconds=(2.9, 5.3), rates=()), RAVDESS)
    assert [line.split(",")[0] for line in lines(found, "baseline")] == [
        "duration alone predicts the label with UAR 0.184",
        "level alone predicts the label with UAR 0.268",
        "peak alone predicts the label with UAR 0.270",
        "duration and level alone predict the label with UAR 0.346",
    ]
    assert lines(found, "speaker level") == ("speaker 09: median level -52.9 dB, others -39.7 dB",)


@needs_emodb
def test_the_baselines_of_emodb() -> None:
    found = audit(datasets.get("emodb"), EMODB)
    assert "duration alone predicts the label with UAR 0.248, chance 0.143" in lines(found, "baseline")
    assert lines(found, "speaker level") == ()
