"""What an encoder was fine-tuned on: the list that is found again, and that says which clips may not be tested."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from embedcache import Clip, EncoderError, EncoderInfo, StoreError
from embedcache.provenance import (
    CARD,
    LIST,
    TrainedOn,
    parse_training_list,
    read_checkpoint_training_list,
    read_store_training_list,
    speakers_of,
    whole_corpus,
    write_training_list,
)

INFO = EncoderInfo("net", "", "a" * 64, 16_000, 3, 4, "fp32", "none", 1)
MADE = TrainedOn(("k1", "k2"), ("d:ann", "d:bob"), ("happy", "sad"))


def clip(key: str = "k1", speaker: str = "ann", label: str = "sad", dataset: str = "d") -> Clip:
    return Clip(dataset, f"{key}-{speaker}", "x.wav", label, speaker, key=key)


def test_a_list_is_sorted_and_names_each_once() -> None:
    clips = [clip("k2", "bob", "happy"), clip("k1"), clip("k1"), clip("k2", "ann")]
    assert TrainedOn.of(clips) == MADE
    assert TrainedOn.of(iter(clips)) == MADE


def test_what_the_parent_was_trained_on_counts_too() -> None:
    child = TrainedOn.of([clip("k9", "eve", "calm")], MADE)
    assert child == TrainedOn(("k1", "k2", "k9"), ("d:ann", "d:bob", "d:eve"), ("calm", "happy", "sad"))


def test_its_digest_is_that_of_its_line() -> None:
    text = '{"keys": ["k1", "k2"], "labels": ["happy", "sad"], "speakers": ["d:ann", "d:bob"]}'
    assert MADE.to_json() == text
    assert MADE.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert TrainedOn.from_dict(json.loads(text)) == MADE


def test_a_clip_is_covered_by_its_key_or_its_speaker() -> None:
    clips = [clip("k1", "new"), clip("new", "ann"), clip("new", "new"), clip("new", "ann", dataset="e")]
    assert MADE.covers(clips) == [True, True, False, False]


def test_names_may_have_colons() -> None:
    listed = TrainedOn((), ("d:Ann:b", "e:*"), ())
    clips = [clip("new", "ann:B"), clip("new", "ann"), clip("new", "b"), clip("new", "a:b", dataset="e")]
    assert listed.covers(clips) == [True, False, False, True]


def test_namesakes_are_in_other_datasets_of_ones_own() -> None:
    listed = TrainedOn((), ("folder-a:01", "folder-c:x:y", "ravdess:02"), ())
    asked = [
        ("1", "folder-b"),
        ("1", "folder-a"),
        ("02", "folder-b"),
        ("01", "ravdess"),
        ("X:y", "folder-b"),
        ("y", "folder-b"),
    ]
    clips = [clip(speaker=speaker, dataset=dataset) for speaker, dataset in asked]
    assert listed.namesakes(clips) == [True, False, False, False, True, False]


def test_a_dataset_is_looked_up_once_however_many_clips_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up a name that is not built in reads the entry points of all installed packages."""
    asked: list[str] = []
    monkeypatch.setattr("embedcache.provenance.corpus_of", lambda name: asked.append(name) or name)
    clips = [clip(f"k{n}", dataset=name) for n in range(50) for name in ("folder-a", "folder-b")]
    MADE.covers(clips)
    assert sorted(asked) == ["folder-a", "folder-b"]


def test_speech_and_song_of_ravdess_have_the_same_speakers() -> None:
    names = set(speakers_of([clip(speaker="01", dataset=name) for name in ("ravdess", "ravdess-song")]))
    assert names == {"ravdess:01"}
    assert speakers_of([clip(speaker="01", dataset="folder-mine")]) == ["folder-mine:01"]


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"keys": []},
        {**asdict(MADE), "more": []},
        {**asdict(MADE), "keys": [1]},
        {**asdict(MADE), "keys": "k1"},
    ],
)
def test_what_is_no_list_is_refused(content: object) -> None:
    with pytest.raises(ValueError, match="fields|wrong type"):
        TrainedOn.from_dict(content)


def test_a_store_keeps_its_list(tmp_path: Path) -> None:
    write_training_list(MADE, tmp_path)
    tuned = replace(INFO, trained_on=MADE.sha256)
    assert read_store_training_list(tuned, tmp_path) == MADE
    assert read_store_training_list(INFO, tmp_path) is None
    with pytest.raises(
        StoreError,
        match=f"{LIST}: is not the list that its encoder was trained on .{MADE.sha256[:12]}, wanted {'f' * 12}\\)",
    ):
        read_store_training_list(replace(INFO, trained_on="f" * 64), tmp_path)
    (tmp_path / LIST).write_text("{}")
    with pytest.raises(StoreError, match="does not list what its encoder was trained on"):
        read_store_training_list(tuned, tmp_path)
    (tmp_path / LIST).unlink()
    with pytest.raises(StoreError, match="Run `ser extract` with that checkpoint again"):
        read_store_training_list(tuned, tmp_path)


def test_a_checkpoint_keeps_its_list(tmp_path: Path) -> None:
    (tmp_path / CARD).write_text(json.dumps({"trained_on": asdict(MADE), "labels": []}))
    assert read_checkpoint_training_list(tmp_path, MADE.sha256) == MADE
    with pytest.raises(EncoderError, match="lists training clips, but config.json has no 'ser_trained_on'"):
        read_checkpoint_training_list(tmp_path, "")
    with pytest.raises(EncoderError, match=f"{CARD}: is not the list that its encoder was trained on"):
        read_checkpoint_training_list(tmp_path, "f" * 64)
    for content in ({"labels": []}, []):
        (tmp_path / CARD).write_text(json.dumps(content))
        with pytest.raises(EncoderError, match="does not list"):
            read_checkpoint_training_list(tmp_path, MADE.sha256)
    (tmp_path / CARD).unlink()
    assert read_checkpoint_training_list(tmp_path, "") is None
    with pytest.raises(EncoderError, match="Copy the complete checkpoint again"):
        read_checkpoint_training_list(tmp_path, MADE.sha256)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"keys": []}'])
def test_an_exported_list_that_is_none(text: str) -> None:
    with pytest.raises(StoreError, match="x.npz: does not list"):
        parse_training_list(text, MADE.sha256, Path("x.npz"))
    assert parse_training_list(MADE.to_json(), MADE.sha256, Path("x.npz")) == MADE


def test_whole_corpora_and_unknown_clips_are_entries_of_a_list() -> None:
    clips = [Clip("ravdess-song", "a", "a.wav", "sad", "01"), Clip("emodb", "b", "b.wav", "sad", "01")]
    heard = TrainedOn((), (whole_corpus("ravdess"),), ())
    assert heard.covers(clips) == [True, False]
    assert (heard.is_complete, heard.with_unknown(False).is_complete) == (True, True)
    assert not heard.with_unknown(True).is_complete
    assert TrainedOn.of(clips[1:], heard.with_unknown(True)).covers(clips) == [True, True]
    assert not TrainedOn.of(clips[1:], heard.with_unknown(True)).is_complete
