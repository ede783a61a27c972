"""Spans of long recordings from the table to the report: the scores of files of their own, and what is shared."""

import csv
from pathlib import Path

import numpy as np
import pytest
from helpers.long_recordings import RATE, lay_end_to_end
from helpers.sounds import noise, write

from classifiers import Task, compare, make_folds
from classifiers.data.listed_clips import load_manifest
from classifiers.protocols.fold import Fold
from classifiers.protocols.leaks import leaks
from classifiers.reporting.hardest_clips import clip_audio
from embedcache import Artifacts, Recording
from embedcache.cache.dataset_extraction import extract_dataset


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    folder = tmp_path_factory.mktemp("long")
    tables = lay_end_to_end(folder, speakers=6, takes=3, stereo=True)
    artifacts = Artifacts(folder / "artifacts")
    for table in (tables.spans, tables.files):
        extract_dataset(artifacts, "folder", table, "mfcc")
    return artifacts


def test_spans_give_the_scores_of_files(place: Artifacts) -> None:
    spans, files = (Task.load(name, "mfcc", artifacts=place) for name in ("folder-spans", "folder-files"))
    np.testing.assert_array_equal(spans.X, files.X)
    (a,), (b,) = (compare(task, ["ridge"], "loso") for task in (spans, files))
    np.testing.assert_array_equal(a.proba, b.proba)
    assert (a.leaks, b.leaks) == ("session+text?", "text?")


def test_the_report_plays_the_span_and_not_the_recording(place: Artifacts) -> None:
    manifest = load_manifest(place, "folder-spans")
    audio = clip_audio(manifest.clips[::5])
    for clip in manifest.clips[::5]:
        assert audio[clip.key].uri.startswith("data:audio/flac;base64,")
    import base64

    clip = manifest.clips[0]
    sound = Recording.of(base64.b64decode(audio[clip.key].uri.partition(",")[2]), "player").sound()[0]
    assert len(sound) == pytest.approx(clip.seconds * 16_000, abs=1)


def overlapping(folder: Path) -> Task:
    """Windows of one second, every half second, of two recordings of one speaker each."""
    rows = []
    for name, speaker in (("a.wav", "ann"), ("b.wav", "bob")):
        write(folder / name, noise(6, RATE, seed=len(rows)), RATE)
        rows += [[name, n / 2, n / 2 + 1, ["sad", "glad"][n // 5], speaker] for n in (0, 1, 2, 3, 6, 7, 8, 9)]
    with (folder / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "start", "end", "label", "speaker"], *rows])
    artifacts = Artifacts(folder / "artifacts")
    extract_dataset(artifacts, "folder", folder / "t.csv", "mfcc")
    return Task.load("folder-t", "mfcc", artifacts=artifacts)


def test_spans_that_overlap_share_audio(tmp_path: Path) -> None:
    task = overlapping(tmp_path)
    assert task.overlaps is not None
    assert len(task.overlaps) == 12  # three neighbours in each of four groups of windows
    assert "audio" not in leaks(task, make_folds(task, "loso"), "loso").split("+")
    rows = np.arange(len(task))
    split = [Fold("1", rows[::2], rows[1::2])]
    assert "audio" in leaks(task, split, "random").split("+")
    assert task.take(rows[::2]).overlaps.tolist() == []  # type: ignore[union-attr]
    half = task.take(rows[:8][::-1])
    assert {tuple(sorted(half.ids[pair])) for pair in half.overlaps} == {  # type: ignore[union-attr]
        tuple(sorted(task.ids[pair])) for pair in task.overlaps if (pair < 8).all()
    }
