"""How training clips sound, measured from files: also of spans, of copies, of unions, and where files are gone."""

from pathlib import Path

import numpy as np
import pytest
from helpers.long_recordings import lay_end_to_end
from helpers.sounds import write

from classifiers import Task
from classifiers.saved.training_sound import TrainingSound
from classifiers.workflows import training_clips
from classifiers.workflows.configurations import ComparisonConfig
from embedcache import Artifacts
from embedcache.audio.augment import Augmentation
from embedcache.cache.dataset_extraction import extract_dataset


def measured(place: Artifacts, datasets: tuple[str, ...] = (), copies: int = 0) -> tuple[TrainingSound | None, str]:
    """How the training clips of datasets sound, and what was said about it."""
    config, lines = ComparisonConfig(datasets=datasets, copies=copies), list[str]()
    task = Task.load(datasets or None, "mfcc", artifacts=place, copies=copies)
    return training_clips.training_sound(place, config, task, log=lines.append), "\n".join(lines)


def test_spans_sound_as_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables, place = lay_end_to_end(tmp_path, stereo=True), Artifacts(tmp_path / "artifacts")
    for table in (tables.spans, tables.files):
        extract_dataset(place, "folder", table, "mfcc")
    spans, files = (measured(place, (name,))[0] for name in ("folder-spans", "folder-files"))
    assert spans.clips == files.clips == 24
    assert spans.limit == pytest.approx(files.limit)
    monkeypatch.setattr(training_clips, "MOST_LONG", 1)
    assert measured(place, ("folder-spans",))[0].clips == 12  # those of one of two recordings
    monkeypatch.setattr(training_clips, "MOST", 5)
    assert measured(place, ("folder-files",))[0].clips == 5


def test_all_datasets_of_a_union_are_measured(artifacts: Artifacts, tmp_path: Path) -> None:
    extract_dataset(artifacts, "folder", lay_end_to_end(tmp_path / "long").files, "mfcc")
    assert measured(artifacts, ("ravdess", "folder-files"))[0].clips == 48


def test_copies_are_training_clips_too(tree: Path, tmp_path: Path) -> None:
    place = Artifacts(tmp_path / "artifacts")
    extract_dataset(place, "ravdess", tree, "mfcc", augmentation=Augmentation(("gain",), 2))
    clips, copies = measured(place)[0], measured(place, copies=2)[0]
    assert (clips.clips, copies.clips) == (24, 72)
    assert copies.loudest > clips.loudest + 3
    assert copies.quietest < clips.quietest - 3


def test_what_cannot_be_measured_is_said(artifacts: Artifacts, tree: Path) -> None:
    assert measured(artifacts)[1] == ""
    first, *others = sorted(tree.glob("*/*.wav"))
    write(first, np.zeros(8000))
    sound, said = measured(artifacts)
    assert sound.clips == 23
    assert "measured on 23 of 24 clips; the others are silent, or their files cannot be read." in said
    for path in others:
        path.unlink()
    sound, said = measured(artifacts)
    assert sound is None
    assert "on 0 of 24 clips; the others are silent, or their files cannot be read, so sounds that are unlike" in said
