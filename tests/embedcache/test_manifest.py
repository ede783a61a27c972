"""Manifests: they survive CSV, and complain about everything at once."""

import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from embedcache import Clip, DataError, Manifest
from embedcache.manifest import are_clips_as_speakers
from embedcache.text import normal_name

words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).map(str.strip).filter(bool)


@given(
    st.lists(
        st.builds(
            Clip,
            dataset=st.just("d"),
            clip_id=words,
            path=words,
            label=words,
            speaker=words,
            gender=st.sampled_from(["", "female", "male"]),
            extra=st.dictionaries(words.map(lambda w: f"x{w}"), words, max_size=2),
            key=st.text("0123456789abcdef", min_size=8, max_size=64),
            seconds=st.floats(0, 1e4),
        ),
        min_size=1,
        max_size=5,
        unique_by=(lambda clip: clip.clip_id, lambda clip: clip.key),
    )
)
def test_csv_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, clips: list[Clip]) -> None:
    path = tmp_path_factory.mktemp("m") / "m.csv"
    manifest = Manifest("d", tuple(clips))
    names = {normal_name(speaker) for speaker in manifest.speakers}
    assume(len(names) == len(manifest.speakers) and "" not in names)
    manifest.to_csv(path)
    assert Manifest.from_csv(path) == manifest


def test_a_key_is_one_key_however_its_digits_are_spelled(tmp_path: Path) -> None:
    Manifest("d", (Clip("d", "a", "a.wav", "sad", "s", key="AB" * 32),)).to_csv(tmp_path / "m.csv")
    assert Manifest.from_csv(tmp_path / "m.csv").keys == ("ab" * 32,)


def test_check_names_every_fault() -> None:
    clips = (Clip("d", "a", "a.wav", "", "s"), Clip("d", "b", "b.wav", "sad", ""), Clip("d", "b", "c.wav", "sad", "s"))
    with pytest.raises(DataError) as error:
        Manifest("d", clips).check()
    for fault in ("a: no label", "b: no speaker", "b: listed 2 times"):
        assert fault in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "its first line holds nothing"),
        ("path,label\na,b\n", "no column dataset, clip_id, speaker"),
        (
            "dataset,clip_id,path,label,speaker,gender,key,seconds\nd,a,a,l,s,,,long\n",
            "seconds is 'long'; wanted a duration",
        ),
        ("dataset,clip_id,path,label,speaker,gender,key,seconds\n", "lists no clips"),
    ],
)
def test_a_csv_that_is_no_manifest_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        Manifest.from_csv(tmp_path / "m.csv")


def spoken(*speakers: str, dataset: str = "folder-mine", keys: str = "") -> Manifest:
    """A clip of each speaker; `keys` has one letter for each."""
    return Manifest(
        dataset,
        tuple(
            Clip(dataset, f"c{n}", f"/x/sad/c{n}.wav", "sad", speaker, key=keys[n : n + 1] * 64)
            for n, speaker in enumerate(speakers)
        ),
    )


@pytest.mark.parametrize(
    "names",
    [("1", "01"), ("1", "1.0"), ("Spk1", "spk1"), ("Zo\u00eb", "Zoe\u0308"), ("ann", "ann\u200b"), ("a b", "a  b")],
)
@pytest.mark.parametrize("dataset", ["folder-mine", "ravdess"])
def test_two_spellings_of_a_speaker_are_not_two_people(names: tuple[str, str], dataset: str, tmp_path: Path) -> None:
    manifest = spoken(*names, "other", dataset=dataset)
    manifest.to_csv(tmp_path / "m.csv")
    for refused in (manifest.check, lambda: Manifest.from_csv(tmp_path / "m.csv")):
        with pytest.raises(DataError, match=f"'{dataset}' spells names of speakers in two ways") as error:
            refused()
        (line,) = [line for line in str(error.value).splitlines() if line.startswith("  ")]
        assert all(f"{name!r}" in line for name in names)
        assert "c0" in line
        assert "c1" in line
    assert Manifest.from_csv(tmp_path / "m.csv", check_speakers=False) == manifest


def test_names_that_look_alike_are_shown_with_their_difference() -> None:
    with pytest.raises(DataError, match=re.escape("'Zo\\xeb'")) as error:
        spoken("Zo\u00eb", "Zoe\u0308").check()
    assert "'Zoe\\u0308'" in str(error.value)


def test_a_speaker_that_is_not_seen_is_none() -> None:
    with pytest.raises(DataError, match="c1: no speaker that is seen"):
        spoken("ann", "\u200b").check()


def test_one_recording_has_one_speaker(tmp_path: Path) -> None:
    twins = spoken("ann", "bob", "eve", keys="aab")
    twins.to_csv(tmp_path / "m.csv")
    for refused in (twins.check, lambda: Manifest.from_csv(tmp_path / "m.csv")):
        with pytest.raises(DataError, match=r"under two speakers:\n  c0 \(speaker ann\) and c1 \(speaker bob\)\n"):
            refused()
    assert spoken("ann", "ann", "eve", keys="aab").check()  # RAVDESS has such a pair
    assert spoken("ann", "bob", "eve").check()  # keys are not known yet
    first, second, third = twins.clips
    skipped = Clip(**{**vars(second), "extra": {"skipped": "no sound"}})
    assert Manifest("folder-mine", (first, skipped, third)).check()


@pytest.mark.parametrize(
    ("speakers", "clips", "doubted"),
    [(36, 36, True), (10, 10, True), (9, 9, False), (4, 4, False), (8, 10, False), (9, 10, True), (24, 48, False)],
)
def test_nearly_as_many_speakers_as_clips_are_doubted(speakers: int, clips: int, doubted: bool) -> None:
    assert are_clips_as_speakers(speakers, clips) is doubted
    names = [f"s{n % speakers}" for n in range(clips)]
    question = spoken(*names).doubt_about_speakers()
    assert question.endswith("Is 's0' the speaker of sad/c0.wav?") is doubted
    assert bool(question) is doubted
    assert spoken(*names, dataset="ravdess").doubt_about_speakers() == ""


def test_copies_of_recordings_do_not_hide_that_speakers_are_clips() -> None:
    names = [f"s{n % 12}" for n in range(24)]
    assert spoken(*names, keys="abcdefghijkl" * 2).doubt_about_speakers()
    assert not spoken(*names).doubt_about_speakers()
