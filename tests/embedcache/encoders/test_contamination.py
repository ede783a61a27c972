"""What published checkpoints were trained on: the table, and what the leak check makes of it."""

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.checkpoints import save_checkpoint
from helpers.extraction import extracted
from helpers.stores import INFO

from classifiers import Task, compare
from embedcache import datasets, encoders, load_encoder
from embedcache.encoders.contamination import known_training, published, saw
from embedcache.provenance import whole_corpus


def test_every_line_has_a_source_and_words_of_its_own() -> None:
    lines = published()
    assert len(lines) > 50
    for line in lines.values():
        assert line.source, line.checkpoint
        assert line.speech, line.checkpoint
        assert line.text == line.text.lower()
        assert "none" not in line.saw, "none stands alone"
    names = {corpus for line in lines.values() for corpus in line.saw}
    ours = {spec.corpus or spec.name for spec in datasets.all()} - {"folder"}
    assert {"ravdess", "cremad", "emodb", "iemocap"} <= names & ours, "corpora are named as datasets are"


def test_every_built_in_checkpoint_is_in_the_table() -> None:
    assert all(spec.checkpoint in published() for spec in encoders.all() if spec.checkpoint)
    assert (saw(""), saw("nobody/knows")) == ("none", "unknown")


@pytest.mark.parametrize(
    ("checkpoint", "heard", "complete"),
    [
        ("facebook/wav2vec2-base", (), True),
        ("ehcalabres/wav2vec2-lg-xlsr-en-speech-emotion-recognition", ("ravdess",), True),
        ("audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim", ("msp-podcast",), True),
        ("openai/whisper-base", (), False),
        ("nobody/knows", (), False),
        ("", (), True),
    ],
)
def test_what_is_known_of_an_encoder(checkpoint: str, heard: tuple[str, ...], complete: bool) -> None:
    known = known_training(replace(INFO, checkpoint=checkpoint, sample_rate=16_000))
    assert known.speakers == tuple(sorted([*map(whole_corpus, heard), *([] if complete else ["?:*"])]))
    assert known.is_complete == complete


def test_imported_vectors_are_of_unknown_training() -> None:
    assert not known_training(replace(INFO, checkpoint="", sample_rate=0)).is_complete


def test_a_checkpoint_that_heard_the_corpus_leaks(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny checkpoint under the name of one that was trained on RAVDESS, and of one that was trained on IEMOCAP."""
    tiny = save_checkpoint(tmp_path / "tiny")
    found = {}
    for name, corpus in (("emotional", "ravdess"), ("other", "iemocap"), ("silent", "none")):
        extracted(tree, tmp_path / name, encoder=str(tiny))
        row = next(line for line in published().values() if line.text == corpus)
        monkeypatch.setitem(published(), str(tiny.resolve()), row)
        (p,) = compare(Task.load("ravdess", artifacts=tmp_path / name), ["ridge"], "speakers", n_folds=2, jobs=1)
        found[name] = p.leaks
    assert found == {"emotional": "text+encoder", "other": "text", "silent": "text"}


def test_a_folder_of_weights_is_of_unknown_training(tree: Path, tmp_path: Path) -> None:
    extracted(tree, tmp_path / "artifacts", encoder=str(save_checkpoint(tmp_path / "tiny")))
    assert not Task.load("ravdess", artifacts=tmp_path / "artifacts").training_known


def test_a_classifier_of_emotions_is_pointed_out(tmp_path: Path) -> None:
    labels = {0: "angry", 1: "happy", 2: "neutral"}
    emotional = save_checkpoint(tmp_path / "emotional", id2label=labels)
    plain = save_checkpoint(tmp_path / "plain")
    notes: list[str] = []
    load_encoder(str(plain), "cpu", log=notes.append)
    assert not [note for note in notes if "emotions" in note]
    load_encoder(str(emotional), "cpu", log=notes.append)
    (note,) = [note for note in notes if "emotions" in note]
    assert "was trained to classify emotions (angry, happy, neutral), on unknown recordings" in note
