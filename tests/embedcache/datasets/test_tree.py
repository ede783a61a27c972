"""Adapters: counts, labels and speakers from trees in the real layouts; a sentence for trees that are not."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.permissions import nobody, public_folder
from helpers.sounds import noise, ravdess_tree, write

from embedcache import DataError, add_keys, datasets
from embedcache.checks import check_dataset
from embedcache.dataset import audio_files


def test_ravdess_reads_every_code(tree: Path) -> None:
    check_dataset(datasets.get("ravdess"), tree)
    manifest = datasets.get("ravdess").manifest(tree)
    assert (len(manifest), manifest.speakers, manifest.labels) == (
        24,
        ("01", "02", "03", "04"),
        ("calm", "happy", "neutral"),
    )
    clip = next(clip for clip in manifest.clips if clip.clip_id == "03-01-03-01-01-02-04")
    assert (clip.label, clip.speaker, clip.gender) == ("happy", "04", "female")
    assert clip.extra == {"language": "English", "intensity": "normal", "text": "kids", "repetition": "2"}


def test_song_and_speech_in_one_tree_stay_apart(tree: Path) -> None:
    song = write(tree / "Actor_01" / "03-02-05-02-02-01-01.wav", noise(0.1))
    assert len(datasets.get("ravdess").manifest(tree)) == 24
    (clip,) = datasets.get("ravdess-song").manifest(tree).clips
    assert (clip.path, clip.label, clip.extra["intensity"], clip.extra["text"]) == (
        str(song),
        "angry",
        "strong",
        "dogs",
    )


def test_a_tree_of_song_says_so(tmp_path: Path) -> None:
    write(tmp_path / "Actor_01" / "03-02-01-01-01-01-01.wav", noise(0.1))
    with pytest.raises(
        DataError, match="this looks like RAVDESS, song, not RAVDESS, speech. Use --dataset ravdess-song"
    ):
        datasets.get("ravdess").manifest(tmp_path)


def test_flac_under_the_original_stems_is_ravdess(tmp_path: Path) -> None:
    write(tmp_path / "Actor_24" / "03-01-08-02-02-02-24.flac", noise(0.1))
    (clip,) = datasets.get("ravdess").manifest(tmp_path).clips
    assert (clip.clip_id, clip.label) == ("03-01-08-02-02-02-24", "surprised")


def test_kaggles_second_copy_is_recognised(tree: Path) -> None:
    shutil.copytree(tree, tree / "audio_speech_actors_01-24")
    manifest = datasets.get("ravdess").manifest(tree)
    assert len(manifest) == 48
    keyed = add_keys(manifest).check()
    assert len(keyed) == 24
    assert all("audio_speech" not in clip.path for clip in keyed.clips)


def test_two_different_files_with_one_name_are_refused(tree: Path) -> None:
    write(tree / "again" / "03-01-01-01-01-01-01.wav", noise(0.3, seed=9))
    with pytest.raises(DataError, match="different files or labels have the same clip id"):
        add_keys(datasets.get("ravdess").manifest(tree))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hello.wav", "the name does not match the dataset's file names"),
        ("03-01-09-01-01-01-01.wav", "code 09, wanted one of 01, 02"),
        ("03-01-01-01-01-01-25.wav", "code 25"),
        ("01-01-01-01-01-01-01.wav", "modality 01, wanted 03"),
    ],
)
def test_a_name_that_does_not_parse_stops_with_its_path(tree: Path, name: str, said: str) -> None:
    path = write(tree / "Actor_01" / name, noise(0.1))
    with pytest.raises(DataError) as error:
        datasets.get("ravdess").manifest(tree)
    assert f"{path}: " in str(error.value)
    assert said in str(error.value)
    assert "Wanted names like 03-01-05-02-01-01-12.wav" in str(error.value)


def test_hidden_files_are_passed_over(tree: Path) -> None:
    (tree / "Actor_01" / "._03-01-01-01-01-01-01.wav").write_bytes(b"mac")
    (tree / "__MACOSX").mkdir()
    (tree / "__MACOSX" / "x.wav").write_bytes(b"mac")
    assert len(datasets.get("ravdess").manifest(tree)) == 24


def test_links_are_followed_and_loops_end(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "inner").symlink_to(tree)
    (tree / "loop").symlink_to(tree)
    assert len(datasets.get("ravdess").manifest(tmp_path / "linked")) == 24


def test_a_missing_root_and_an_empty_one_say_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DataError, match="does not exist. Name their folder with --root.\nRAVDESS, speech: https://zenodo"
    ):
        datasets.get("ravdess").manifest(tmp_path / "no")
    with pytest.raises(DataError, match="no ravdess clips in it; wanted names like"):
        datasets.get("ravdess").manifest(tmp_path)
    ravdess_tree(tmp_path / "ravdess", actors=1)
    monkeypatch.setenv("SER_DATA", str(tmp_path))
    assert len(datasets.get("ravdess").manifest()) == 6


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    root = tmp_path / "My corpus"
    write(root / "sad" / "ann_01.wav", noise(0.1))
    write(root / "deep" / "angry" / "bob_x_y.flac", noise(0.1))
    check_dataset(datasets.get("folder"), root)
    manifest = datasets.get("folder").manifest(root)
    assert manifest.dataset == "folder-My-corpus"
    assert [(c.clip_id, c.label, c.speaker) for c in manifest.clips] == [
        ("deep/angry/bob_x_y.flac", "angry", "bob"),
        ("sad/ann_01.wav", "sad", "ann"),
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [("sad/ann.wav", "no speaker before an underscore"), ("ann_1.wav", "is not in the folder of a label")],
)
def test_a_folder_without_speaker_or_label(tmp_path: Path, name: str, said: str) -> None:
    write(tmp_path / "sad" / "ann_01.wav", noise(0.1))
    write(tmp_path / name, noise(0.1))
    with pytest.raises(DataError, match=said):
        datasets.get("folder").manifest(tmp_path)


def test_a_csv_of_ones_own(tmp_path: Path) -> None:
    write(tmp_path / "wavs" / "1.wav", noise(0.1))
    (tmp_path / "my.csv").write_text("path,label,speaker,gender,text\nwavs/1.wav,sad,ann,female,hello\n")
    (clip,) = datasets.get("folder").manifest(tmp_path / "my.csv").clips
    assert (clip.dataset, clip.path) == ("folder-my", str(tmp_path / "wavs" / "1.wav"))
    assert (clip.label, clip.speaker, clip.gender, clip.extra) == ("sad", "ann", "female", {"text": "hello"})
    (tmp_path / "my.csv").write_text("path,label,speaker\nwavs/1.wav,,ann\nwavs/1.wav,sad,\n")
    with pytest.raises(DataError, match="row 2: no label\n  row 3: no speaker"):
        datasets.get("folder").manifest(tmp_path / "my.csv")


def test_a_recording_listed_under_two_labels_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "1.wav", noise(0.1))
    (tmp_path / "my.csv").write_text("path,label,speaker\n1.wav,sad,ann\n1.wav,happy,ann\n")
    with pytest.raises(DataError, match="row 3: has the file of row 2. List a file once"):
        datasets.get("folder").manifest(tmp_path / "my.csv")


def test_cells_are_stripped_and_reserved_columns_left_to_the_manifest(tmp_path: Path) -> None:
    """A speaker with a blank behind is the same speaker: else it would stand in train and test unnoticed."""
    for n in (1, 2):
        write(tmp_path / f"{n}.wav", noise(0.1, seed=n))
    rows = "path,label,speaker,dataset,key,seconds,skipped,text\n1.wav,sad,ann,tess,k,x,no,a\n2.wav,sad ,ann ,,,,,b\n"
    (tmp_path / "my.csv").write_text(rows)
    manifest = add_keys(datasets.get("folder").manifest(tmp_path / "my.csv"))
    assert (manifest.speakers, manifest.labels, manifest.dataset) == (("ann",), ("sad",), "folder-my")
    assert [dict(clip.extra) for clip in manifest.clips] == [{"text": "a"}, {"text": "b"}]


@pytest.mark.parametrize("name", ["录音", "my data é"])
def test_names_of_folders_in_any_script(tmp_path: Path, name: str) -> None:
    write(tmp_path / name / "sad" / "ann_1.wav", noise(0.1))
    assert datasets.get("folder").manifest(tmp_path / name).dataset == "folder-" + name.replace(" ", "-")


def test_two_collections_of_one_name_never_overwrite_each_other(tmp_path: Path) -> None:
    for place in ("x", "y"):
        write(tmp_path / place / "clips" / "sad" / "ann_1.wav", noise(0.1))
    old, new = (datasets.get("folder").manifest(tmp_path / place / "clips") for place in ("x", "y"))
    assert old.inherit_skips(old) == old
    with pytest.raises(DataError, match=r"'folder-clips' already names other recordings \(.*/x/clips/sad/ann_1.wav"):
        new.inherit_skips(old)


def test_recordings_that_have_moved_are_the_same(tmp_path: Path) -> None:
    """As the bytes say: half of the clips, or more, are those of the older list."""
    for number in range(4):
        write(tmp_path / "x" / "clips" / "sad" / f"ann_{number}.wav", noise(0.1, seed=number))
    old = add_keys(datasets.get("folder").manifest(tmp_path / "x" / "clips"))
    (tmp_path / "x").rename(tmp_path / "y")
    moved = add_keys(datasets.get("folder").manifest(tmp_path / "y" / "clips"))
    assert moved.inherit_skips(old) == moved
    for number in range(3):
        write(tmp_path / "y" / "clips" / "sad" / f"ann_{number}.wav", noise(0.1, seed=9 + number))
    other = add_keys(datasets.get("folder").manifest(tmp_path / "y" / "clips"))
    with pytest.raises(DataError, match=r"already names other recordings.*ser cache rm folder-clips"):
        other.inherit_skips(old)


def test_what_one_encoder_skipped_stays_out_for_all(tree: Path) -> None:
    fresh = add_keys(datasets.get("ravdess").manifest(tree))
    first, *rest = fresh.clips
    old = replace(fresh, clips=(replace(first, extra={**first.extra, "skipped": "too long"}), *rest))
    assert fresh.inherit_skips(old) == old
    changed = replace(fresh, clips=(replace(first, key="f" * 64), *rest))
    assert changed.inherit_skips(old) == changed


def test_audio_that_is_not_decoded_is_a_clip_that_cannot_be_used(tree: Path) -> None:
    (tree / "Actor_01" / "03-01-08-01-01-01-01.ra").write_bytes(b".ra\xfd" + bytes(100))
    (clip,) = add_keys(datasets.get("ravdess").manifest(tree)).skipped
    assert "03-01-08-01-01-01-01.ra: cannot be decoded" in clip.extra["skipped"]


def test_two_links_to_one_folder_are_two_labels(tmp_path: Path) -> None:
    write(tmp_path / "shared" / "ann_1.wav", noise(0.1))
    (tmp_path / "root").mkdir()
    for label in ("happy", "sad"):
        (tmp_path / "root" / label).symlink_to(tmp_path / "shared")
    assert datasets.get("folder").manifest(tmp_path / "root").labels == ("happy", "sad")


def test_a_name_that_is_not_utf_8_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "sad").mkdir()
    path = os.fsdecode(os.fsencode(tmp_path / "sad") + b"/s1_\xff.wav")
    Path(path).write_bytes(b"")
    with pytest.raises(DataError, match="the name is not UTF-8; rename the file") as error:
        datasets.get("folder").manifest(tmp_path)
    assert str(error.value).encode()


def test_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    """Three speakers' folders, each with links to the other two: every clip is found, and the walk ends."""
    for label in ("a", "b", "c"):
        write(tmp_path / "tree" / label / f"speaker{label}_1.wav", noise(0.05))
        for other in {"a", "b", "c"} - {label}:
            (tmp_path / "tree" / label / other).symlink_to(tmp_path / "tree" / other)
    clips = datasets.get("folder").manifest(tmp_path / "tree").clips
    assert {Path(clip.path).name for clip in clips} == {"speakera_1.wav", "speakerb_1.wav", "speakerc_1.wav"}
    assert len(clips) == 3 + 6 + 6


def test_the_first_published_name_of_a_clip_of_cremad_is_taken(tmp_path: Path) -> None:
    for name in ("1040_ITH_SAD_X", "1040_ITH_ANG_XX", "1041_ITH_SAD_XX"):
        write(tmp_path / "AudioWAV" / f"{name}.wav", noise(0.1))
    clips = datasets.get("cremad").manifest(tmp_path).clips
    assert sorted(clip.clip_id for clip in clips) == ["1040_ITH_ANG_XX", "1040_ITH_SAD_XX", "1041_ITH_SAD_XX"]
    assert [clip.extra.get("intensity", "") for clip in clips] == [""] * 3
    (renamed,) = (clip for clip in clips if clip.path.endswith("1040_ITH_SAD_X.wav"))
    assert (renamed.clip_id, renamed.label, renamed.speaker) == ("1040_ITH_SAD_XX", "sad", "1040")


def test_a_folder_that_may_not_be_listed_is_an_error() -> None:
    with public_folder() as place:
        write(place / "happy" / "ann_1.wav", noise(0.1))
        write(place / "sad" / "ann_1.wav", noise(0.1))
        (place / "sad").chmod(0o000)
        with nobody(), pytest.raises(DataError, match="sad: the folder cannot be listed: Permission denied"):
            list(audio_files(place))
        (place / "sad").chmod(0o755)
        assert len(list(audio_files(place))) == 2


@pytest.mark.parametrize("folder", ["__MACOSX", "$RECYCLE.BIN", "System Volume Information", "@eaDir", ".Trash-1000"])
def test_what_an_operating_system_leaves_is_passed_over(tree: Path, folder: str) -> None:
    write(tree / folder / "$R1.wav", noise(0.1))
    write(tree / "Actor_01" / "._03-01-01-01-01-01-01.wav", noise(0.1))
    assert len(datasets.get("ravdess").manifest(tree)) == 24


def test_a_dead_link_to_a_folder_is_told(tree: Path) -> None:
    (tree / "Actor_05").symlink_to(tree / "gone")
    with pytest.raises(DataError, match=r"Actor_05: links to .*gone, where nothing is. Mend or remove the link"):
        datasets.get("ravdess").manifest(tree)


def test_a_dead_link_to_a_file_is_a_clip_that_cannot_be_read(tree: Path) -> None:
    (tree / "Actor_01" / "03-01-08-01-01-01-01.wav").symlink_to("gone.wav")
    (clip,) = add_keys(datasets.get("ravdess").manifest(tree)).skipped
    assert "cannot be read: it links to gone.wav, where nothing is" in clip.extra["skipped"]


def test_files_without_the_name_of_audio_are_counted(tmp_path: Path) -> None:
    for name in ("sad/ann_1.wav", "glad/bob_1.WAVE", "sad/bob_1.mp2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / "x.wav", noise(0.1)).rename(tmp_path / name)
    for name in ("sad/ann_2.wav.part", "sad/notes.TXT", "glad/more.txt", ".DS_Store"):
        (tmp_path / name).write_text("x")
    manifest = datasets.get("folder").manifest(tmp_path)
    assert len(manifest) == 3
    assert manifest.notes == ("passed over 3 files without the name of audio: .txt (2), .part (1).",)


def test_a_recording_under_two_labels_is_said(tmp_path: Path) -> None:
    for name in ("sad/ann_1.wav", "glad/ann_1.wav"):
        write(tmp_path / name, noise(0.1))
    (note,) = add_keys(datasets.get("folder").manifest(tmp_path)).notes
    wanted = (
        "one recording has two labels in 1 case: glad/ann_1.wav (glad) and sad/ann_1.wav (sad). Remove one of each."
    )
    assert note == wanted
