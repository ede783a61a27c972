"""Tables of one's own recordings: which files, labels and speakers they mean."""

import re
import unicodedata
from pathlib import Path

import pytest
from helpers.sounds import noise, write

from embedcache import DataError, Manifest, datasets

ROWS = "wavs/a.wav,happy,ann\nwavs/b.wav,sad,bob\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("wavs/a.wav", "wavs/b.wav", "wavs/deep/c.wav", "other/c.wav"):
        write(tmp_path / name, noise(0.1))
    return tmp_path


def scan(folder: Path, text: str) -> Manifest:
    (folder / "my.csv").write_text(text)
    return datasets.get("folder").manifest(folder / "my.csv")


def files(folder: Path, paths: list[str]) -> list[str]:
    """Return the files below the folder that a table with these paths lists, in the order of the table."""
    rows = "".join(f"{path},sad,ann,{number}\n" for number, path in enumerate(paths))
    manifest = scan(folder, f"path,label,speaker,clip_id\n{rows}")
    return [Path(clip.path).relative_to(folder.resolve()).as_posix() for clip in manifest.clips]


MOVED = {
    "Windows": ["C:\\Users\\me\\wavs\\a.wav", "C:\\Users\\me\\wavs\\b.wav"],
    "a server of Windows": ["\\\\server\\share\\a.wav", "\\\\server\\share\\b.wav"],
    "another machine": ["/data/else/corpus/a.wav", "/data/else/corpus/b.wav"],
    "the folder below": ["a.wav", "b.wav"],
    "names without suffix": ["a", "b"],
    "names in upper case": ["A.WAV", "B.WAV"],
}


@pytest.mark.parametrize("name", MOVED)
def test_paths_of_another_place_mean_the_files_of_that_name(folder: Path, name: str) -> None:
    assert files(folder, MOVED[name]) == ["wavs/a.wav", "wavs/b.wav"]
    (note,) = datasets.get("folder").manifest(folder / "my.csv").notes
    assert f"such as 'wavs/a.wav' for '{MOVED[name][0]}'" in note


def test_equal_folders_decide_between_files_of_one_name(folder: Path) -> None:
    assert files(folder, ["/else/wavs/deep/c.wav", "/else/other/c.wav"]) == ["wavs/deep/c.wav", "other/c.wav"]


@pytest.mark.parametrize("paths", [["/x/a.wav", "/x/z.wav"], ["/x/c.wav"], ["/x/a.wav", "/y/a.wav"]])
def test_paths_of_another_place_are_taken_all_or_none(folder: Path, paths: list[str]) -> None:
    """A name that is missing, that stands for two files, or that stands twice for one file."""
    with pytest.raises(DataError, match=r"row 2: .* is outside"):
        files(folder, paths)


def test_a_missing_file_is_not_replaced_by_another_of_its_name(folder: Path) -> None:
    assert files(folder, ["wavs/a.wav", "c.wav"]) == ["wavs/a.wav", "c.wav"]


def test_backslashes_and_unicode_forms_are_read_and_said(folder: Path) -> None:
    write(folder / unicodedata.normalize("NFD", "é.wav"), noise(0.1))
    found = files(folder, ["wavs\\a.wav", unicodedata.normalize("NFC", "é.wav")])
    assert [unicodedata.normalize("NFC", name) for name in found] == ["wavs/a.wav", "é.wav"]
    (note,) = datasets.get("folder").manifest(folder / "my.csv").notes
    assert "reads 2 paths in another form, such as 'wavs\\\\a.wav' as 'wavs/a.wav'" in note


def test_a_path_of_windows_without_its_file_says_so(folder: Path) -> None:
    with pytest.raises(DataError, match=r"row 2: C:\\x\\z.wav is a path of another machine; wanted a path relative to"):
        files(folder, ["C:\\x\\z.wav"])


def test_labels_of_one_form_are_one_label(folder: Path) -> None:
    labels = ["happy", "Happy", "HAPPY", "happy", "hap\u200bpy", "ＨＡＰＰＹ", "1", "1.0", "True", "true"]
    rows = "".join(f"wavs/{n}.wav,{label},s\n" for n, label in enumerate(labels))
    manifest = scan(folder, f"path,label,speaker\n{rows}")
    assert [clip.label for clip in manifest.clips] == ["happy"] * 6 + ["1", "1", "true", "true"]
    (note,) = manifest.notes
    assert "'Happy' as 'happy'" in note
    assert "'hap\\u200bpy' as 'happy'" in note


def test_folders_of_one_form_are_one_label(tmp_path: Path) -> None:
    for name in ("Sad/ann_1.wav", "sad/ann_2.wav", "sad/bob_1.wav", "happy/bob_2.wav"):
        write(tmp_path / name, noise(0.1))
    manifest = datasets.get("folder").manifest(tmp_path)
    assert manifest.labels == ("happy", "sad")
    assert manifest.notes == ("labels that differ only in case or form are one label: reads 'Sad' as 'sad'.",)


@pytest.mark.parametrize("label", ["", "nan", "None", "NULL"])
def test_a_missing_label_is_no_label(folder: Path, label: str) -> None:
    with pytest.raises(DataError, match="row 2: no label"):
        scan(folder, f"path,label,speaker\nwavs/a.wav,{label},ann\n")


COLUMNS = ["start_ms", "offset", "begin_frame", "t0_samples", "data_split", "fold", "my_partition"]


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_that_would_change_what_a_row_is_is_refused(folder: Path, column: str) -> None:
    with pytest.raises(DataError, match=f"the column {re.escape(column)} seems to .*another name"):
        scan(folder, f"path,label,speaker,{column}\nwavs/a.wav,sad,ann,1\n")


def test_columns_under_other_names_fill_the_manifest(folder: Path) -> None:
    (clip,) = scan(folder, "file;Emotion;Speaker ID;Sex;Transcript;take\nwavs/a.wav;sad;7;F;Hi;3\n").clips
    assert (clip.label, clip.speaker, clip.gender, dict(clip.extra)) == ("sad", "7", "F", {"text": "Hi", "take": "3"})


def test_a_column_of_partitions_is_told_by_its_cells(folder: Path) -> None:
    with pytest.raises(DataError, match="the column usage seems to divide the clips"):
        scan(folder, "path,label,speaker,usage\nwavs/a.wav,sad,ann,Train\nwavs/b.wav,sad,bob,test\n")


@pytest.mark.parametrize("cell", ["abrupt", "3"])
def test_an_end_without_a_start_is_refused(folder: Path, cell: str) -> None:
    with pytest.raises(DataError, match="row 2: an end without a start.* rename the column"):
        scan(folder, f"path,label,speaker,end\nwavs/a.wav,sad,ann,{cell}\n")


@pytest.mark.parametrize("cell", ['"happy', "'happy'", '="happy"', 'happy"'])
def test_parts_of_quotation_marks_are_told(folder: Path, cell: str) -> None:
    with pytest.raises(DataError, match="with a part of quotation marks|unexpected end|expected after"):
        scan(folder, f"path;speaker;label\nwavs/a.wav;ann; {cell}\n")


@pytest.mark.parametrize("label", ["\u200b", "\ufeff", "#REF!", "\\N", "?"])
def test_what_is_not_seen_or_an_error_of_a_spreadsheet_is_no_label(folder: Path, label: str) -> None:
    with pytest.raises(DataError, match="row 2: no label"):
        scan(folder, f"path,label,speaker\nwavs/a.wav,{label},ann\n")


TREES = {
    "label, then speaker": ["{label}/{speaker}/utt_{n}.wav"],
    "label, then speaker, twice": ["{label}/{speaker}/{speaker}_{n}.wav"],
    "speaker, then label": ["{speaker}/{label}/{n}_take.wav"],
}


@pytest.mark.parametrize("name", TREES)
def test_folders_in_folders_are_a_question_if_it_is_not_plain_what_they_are(tmp_path: Path, name: str) -> None:
    for label in ("happy", "sad", "angry"):
        for speaker in ("s01", "s02", "s03"):
            for n in (1, 2):
                write(tmp_path / TREES[name][0].format(label=label, speaker=speaker, n=n), noise(0.1))
    with pytest.raises(DataError, match="it is not plain what the folders are: is '.*' the label and"):
        datasets.get("folder").manifest(tmp_path)


def test_an_upper_folder_and_speakers_of_one_session_are_plain(tmp_path: Path) -> None:
    for session, speakers in (("one", "ab"), ("two", "cd")):
        for speaker in speakers:
            for label in ("happy", "sad"):
                write(tmp_path / session / label / f"{speaker}_1.wav", noise(0.1))
    manifest = datasets.get("folder").manifest(tmp_path)
    assert (manifest.labels, manifest.speakers) == (("happy", "sad"), ("a", "b", "c", "d"))
