"""Who is whom: the speakers of combined datasets that are one person, and those that an encoder was trained on."""

from collections.abc import Sequence

import numpy as np
import pytest

from classifiers.data.speakers import people_notes, people_of, seen_in_training
from embedcache import Clip, ConfigError, DataError, Manifest
from embedcache.provenance import TrainedOn


def listed(dataset: str, *clips: str) -> Manifest:
    """A manifest of clips `speaker key`; a second word `-` is a skipped clip of the key k."""
    made = []
    for n, (speaker, key) in enumerate(clip.split() for clip in clips):
        extra = {"skipped": "no sound"} if key == "-" else {}
        made.append(Clip(dataset, f"c{n}", "x.wav", "sad", speaker, extra=extra, key="k" if key == "-" else key))
    return Manifest(dataset, tuple(made))


def test_a_shared_recording_joins_its_speakers_even_by_a_chain() -> None:
    manifests = [listed("a", "x k", "y l"), listed("b", "p k", "p m", "q n"), listed("c", "z m")]
    assert people_of(manifests) == {"a:x": "a:x", "b:p": "a:x", "c:z": "a:x"}
    assert people_of(manifests[:1]) == {}


def test_skipped_clips_and_clips_without_a_key_join_nobody() -> None:
    assert people_of([listed("a", "x -"), listed("b", "p k")]) == {}
    keyless = [Manifest(name, (Clip(name, "c", "x.wav", "sad", "s"),)) for name in "ab"]
    assert people_of(keyless) == {}


def test_speakers_of_one_corpus_have_one_name_already() -> None:
    assert people_of([listed("ravdess", "01 k"), listed("ravdess-song", "01 k", "02 l")]) == {}


@pytest.mark.parametrize(("said", "people"), [("one", {"folder-a:1", "folder-b:01"}), ("two", set())])
def test_equal_names_are_one_person_or_two_as_is_said(said: str, people: set[str]) -> None:
    manifests = [listed("folder-a", "1 k", "ann l"), listed("folder-b", "01 m"), listed("emodb", "1 n", "ann o")]
    manifests.append(listed("folder-c", "eve p"))  # of whom nobody asks
    assert set(people_of(manifests, said)) == people
    with pytest.raises(
        DataError, match="folder-a and folder-b have speakers of the same names: 1. Are equal names one"
    ):
        people_of(manifests)
    with pytest.raises(ConfigError, match="got --same-names three"):
        people_of(manifests, "three")


def test_many_names_are_counted() -> None:
    manifests = [listed(f"folder-{name}", *(f"s{n} {name}{n}" for n in range(6))) for name in "ab"]
    with pytest.raises(DataError, match="s0, s1, s2 and 3 more"):
        people_of(manifests)


def test_those_who_have_several_names_are_noted() -> None:
    assert people_notes(["a:x", "b:y"], ["a:x", "b:y"]) == []
    (line,) = people_notes(["a:x", "a:x", "b:y"], ["a:x", "b:z", "b:y"])
    assert line.startswith("1 speaker with several names count as one person each (a:x = b:z): ")


def seen(trained: Sequence[str], *clips: str, dataset: str = "folder-b", said: str = "") -> str:
    manifest = listed(dataset, *clips)
    trained_on = TrainedOn(("k",), tuple(trained), ())
    speakers = [clip.speaker for clip in manifest.clips]
    return "".join(".x"[int(one)] for one in seen_in_training(trained_on, manifest.clips, speakers, said))


def test_whoever_has_a_clip_in_the_training_list_was_trained_on() -> None:
    """The clip k is on the list under another name of its speaker."""
    assert seen(["folder-a:x"], "p k", "p l", "q m") == "xx."


def test_a_training_speaker_is_known_by_a_corrected_name() -> None:
    assert seen(["folder-b:Ann"], "ann l", "bob m") == "x."
    assert seen(["ravdess:01"], "01 l", "02 m", dataset="ravdess-song") == "x."


def test_a_namesake_of_a_training_speaker_is_asked_about() -> None:
    with pytest.raises(DataError, match="fine-tuned on another dataset with speakers of these names: ann. Are equal"):
        seen(["folder-a:ann"], "ann l", "bob m")
    assert seen(["folder-a:ann"], "ann l", "ann n", "bob m", said="one") == "xx."
    assert seen(["folder-a:ann"], "ann l", "bob m", said="two") == ".."
    assert seen(["folder-a:ann"], "ann k", "ann l", "bob m") == "xx."  # a recording says it
    assert seen(["emodb:ann"], "ann l") == "."
    assert seen(["folder-a:01"], "01 l", dataset="ravdess") == "."


def test_what_was_seen_is_one_row_a_clip() -> None:
    manifest = listed("folder-a", "x k", "y l")
    result = seen_in_training(TrainedOn((), (), ()), manifest.clips, ["x", "y"])
    np.testing.assert_array_equal(result, [False, False])
