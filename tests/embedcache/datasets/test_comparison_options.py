"""The command that comes after an extraction works, however few speakers there are."""

from dataclasses import replace

import pytest

from classifiers import Task, make_folds
from embedcache import Clip, Manifest
from embedcache.dataset import comparison_options


def manifest(speakers: int, takes: int, dataset: str = "folder-x", alone: bool = False) -> Manifest:
    """Clips of two labels; `alone`: only the first speaker has the second label."""
    clips = [
        Clip(dataset, f"{speaker}{label}{take}", "a.wav", label, speaker)
        for speaker in [f"s{n}" for n in range(speakers)]
        for label in ("happy", "sad")
        for take in range(takes)
        if not alone or label == "happy" or speaker == "s0"
    ]
    return Manifest(dataset, tuple(clips))


@pytest.mark.parametrize(
    ("made", "options"),
    [
        (manifest(8, 4), ""),
        (manifest(5, 1), ""),
        (manifest(4, 4), " --protocol loso"),
        (manifest(2, 9), " --protocol loso"),
        (manifest(1, 9), " --protocol random"),
        (manifest(8, 9, alone=True), " --protocol random"),
    ],
)
def test_the_folds_of_the_next_command_can_be_made(made: Manifest, options: str) -> None:
    assert comparison_options(made) == options
    y, speakers = [clip.label for clip in made.clips], [clip.speaker for clip in made.clips]
    import numpy as np

    task = Task(np.zeros((len(y), 2), np.float32), np.array(y), np.array(speakers), dataset=made.dataset)
    assert make_folds(task, options.removeprefix(" --protocol ") or "speakers")


def test_a_dataset_with_official_folds_of_few_speakers_names_them() -> None:
    clips = tuple(
        Clip("tess", f"{speaker}{label}{n}", "a.wav", label, speaker)
        for speaker in ("OAF", "YAF")
        for label in ("happy", "sad")
        for n in range(9)
    )
    assert comparison_options(Manifest("tess", clips)) == " --protocol official"


@pytest.mark.parametrize(
    ("partitions", "options"),
    [
        (["train", "test"], " --protocol partition"),
        (["train", "dev", "test1", "test2", ""], " --protocol partition"),
        (["train", "dev"], ""),
        (["test"], ""),
    ],
)
def test_partitions_come_first(partitions: list[str], options: str) -> None:
    clips = [
        replace(clip, extra={"partition": partitions[n % len(partitions)]})
        for n, clip in enumerate(manifest(8, 9).clips)
    ]
    assert comparison_options(Manifest("folder-x", tuple(clips))) == options
