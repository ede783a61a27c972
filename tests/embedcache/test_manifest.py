"""Manifests: they survive CSV, and complain about everything at once."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedcache import Clip, DataError, Manifest

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
            key=st.text("0123456789abcdef", max_size=64),
            seconds=st.floats(0, 1e4),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda clip: clip.clip_id,
    )
)
def test_csv_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, clips: list[Clip]) -> None:
    path = tmp_path_factory.mktemp("m") / "m.csv"
    manifest = Manifest("d", tuple(clips))
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
