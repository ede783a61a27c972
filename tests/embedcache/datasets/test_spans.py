"""Tables whose rows are spans of recordings, or belong to partitions."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.sounds import noise, write
from hypothesis import given
from hypothesis import strategies as st

from embedcache import DataError, Manifest, datasets
from embedcache.datasets._spans import seconds, span_of
from embedcache.manifest import Span, common_partition


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("calls/a.wav", "calls/b.wav"):
        write(tmp_path / name, noise(2))
    return tmp_path


def scan(folder: Path, text: str) -> Manifest:
    (folder / "my.csv").write_text(text)
    return datasets.get("folder").manifest(folder / "my.csv")


TIMES = {
    "1.5": 1.5,
    "1,5": 1.5,
    ".5": 0.5,
    "2": 2.0,
    "1e1": 10.0,
    "3 s": 3.0,
    "4.25sec": 4.25,
    "01:02.5": 62.5,
    "1:00:00,250": 3600.25,
    "0 days 00:00:01.500000": 1.5,
    "1 days 00:00:00": 86400.0,
    "-1": -1.0,
    "abrupt": None,
    "1:2:3:4": None,
    "1.2.3": None,
    "12 ms": None,
    "inf": None,
    "1e400": None,
    "75:30": 4530.0,
    "0:01:500": None,  # milliseconds behind the last colon
    "00:75:00": None,
}


@pytest.mark.parametrize("cell", TIMES)
def test_times_are_read_as_numbers_and_clocks(cell: str) -> None:
    assert seconds(cell) == TIMES[cell]


@given(st.floats(0, 1e5), st.floats(0, 1e5))
def test_bounds_are_kept_to_the_sample(start: float, end: float) -> None:
    columns, fault = span_of({"start": repr(start), "end": repr(end)})
    assert not fault
    for written, stored in ((start, columns["start"]), (end, columns["end"])):
        assert abs(float(stored) - written) < 1e-9 + 1e-12 * written  # a sample at 768 kHz lasts 1.3e-6 s


HEADERS = [
    "start,end",
    "Start_Time,End_Time",
    "onset,stop",
    "Begin Time (s),End Time (s)",
    "tmin,tmax",
    "start,duration",
    "start,duration_seconds",
]


@pytest.mark.parametrize("columns", HEADERS)
def test_bounds_stand_under_the_names_that_people_use(folder: Path, columns: str) -> None:
    length = "0.5" if "duration" in columns else "1.0"
    (clip,) = scan(folder, f"path,label,speaker,{columns}\ncalls/a.wav,sad,ann,0.50,{length}\n").clips
    assert (clip.span, clip.clip_id) == (Span(0.5, 1.0), "calls/a.wav@0.5-1")


def test_a_row_without_bounds_is_a_whole_recording_and_one_without_an_end_the_rest(folder: Path) -> None:
    rows = "calls/a.wav,sad,ann,,\ncalls/b.wav,sad,ann,1.5,\n"
    whole, rest = scan(folder, f"path,label,speaker,start,end\n{rows}").clips
    assert (whole.span, whole.clip_id, "session" in whole.extra) == (None, "calls/a.wav", False)
    assert (rest.span, rest.clip_id) == (Span(1.5), "calls/b.wav@1.5-")


def test_a_recording_with_spans_is_a_session_unless_the_table_says_otherwise(folder: Path) -> None:
    row = "calls/a.wav,sad,ann,0,1"
    (clip,) = scan(folder, f"path,label,speaker,start,end\n{row}\n").clips
    assert clip.extra["session"] == "calls/a.wav"
    (clip,) = scan(folder, f"path,label,speaker,start,end,session\n{row},monday\n").clips
    assert clip.extra["session"] == "monday"


UNREAD = {
    "start,length": "0.5,1",
    "start,duration_ms": "0.5,500",
    "start,len (samples)": "0.5,8000",
    "from,to": "0.5,1",
    "von,bis": "0.5,1",
    "start_ms,end_ms": "500ms,1e3 ms",
    "start_sample,x": "-8000,1",
}


@pytest.mark.parametrize("columns", UNREAD)
def test_columns_that_may_be_bounds_in_other_words_are_refused(folder: Path, columns: str) -> None:
    """Without this, the clip would be the whole recording, or the rest of it."""
    with pytest.raises(DataError, match=r"seems? to give bounds of a row .* wanted the columns start and end in sec"):
        scan(folder, f"path,label,speaker,{columns}\ncalls/a.wav,sad,ann,{UNREAD[columns]}\n")


@pytest.mark.parametrize("make", [shutil.copy, lambda old, new: new.symlink_to(old)])
def test_a_recording_with_spans_has_one_path(folder: Path, make: Callable[[Path, Path], object]) -> None:
    """Otherwise, spans of it that overlap, or that belong to one session, could be on both sides of a fold."""
    make(folder / "calls" / "a.wav", folder / "copy.wav")
    rows = "calls/b.wav,sad,bob,0,1\ncalls/a.wav,sad,ann,0,1\ncopy.wav,sad,ann,0.5,1.5\ncopy.wav,sad,ann,1.6,2\n"
    write(folder / "calls/b.wav", noise(2, seed=1))
    with pytest.raises(DataError) as error:
        scan(folder, f"path,label,speaker,start,end\n{rows}")
    assert str(error.value).splitlines()[1:-1] == [
        "  row 4: copy.wav is the recording calls/a.wav of row 3, byte for byte. Give a recording with spans one path"
    ]


@pytest.mark.parametrize("name", ["Channel ID", "side", "audio channel"])
def test_a_column_of_channels_under_another_name_is_refused(folder: Path, name: str) -> None:
    """Without this, the mean of the channels would be used."""
    table = f"path,label,speaker,{name}\ncalls/a.wav,sad,ann,Left\ncalls/b.wav,sad,ann,\n"
    with pytest.raises(DataError, match=f"the column {name} seems to name the channel of a row"):
        scan(folder, table)
    (clip, _) = scan(folder, table.replace("Left", "2")).clips
    assert clip.channel is None


def test_a_length_beside_an_end_is_another_column(folder: Path) -> None:
    (clip,) = scan(folder, "path,label,speaker,start,end,length\ncalls/a.wav,sad,ann,0.5,1,12\n").clips
    assert (clip.span, clip.extra["length"]) == (Span(0.5, 1.0), "12")


FAULTS = {
    "calls/a.wav,sad,ann,0.5,,\ncalls/a.wav,sad,ann,1,1.5,": "row 2: no end, but row 3 begins later in this recording",
    "calls/a.wav,sad,ann,1,1.5,\ncalls/a.wav,sad,ann,,,": "row 3: no start and no end, but row 2 begins later in this",
    "calls/a.wav,sad,ann,0:01:500,0:02:500,": "row 2: start is '0:01:500' and end is '0:02:500'; wanted seconds",
    "calls/a.wav,sad,ann,soon,2,": "row 2: start is 'soon'; wanted seconds",
    "calls/a.wav,sad,ann,0,later,": "row 2: end is 'later'; wanted seconds",
    "calls/a.wav,sad,ann,,1,": "row 2: an end without a start",
    "calls/a.wav,sad,ann,0,1,\ncalls/a.wav,sad,bob,0.0,1.00,": "row 3: has the file and the span of row 2",
    "calls/a.wav,sad,ann,0,1,x\ncalls/b.wav,sad,bob,0,1,x": "row 3: has the clip_id of row 2, x",
}


@pytest.mark.parametrize("rows", FAULTS)
def test_faulty_spans_are_told_by_their_rows(folder: Path, rows: str) -> None:
    with pytest.raises(DataError, match=re.escape(FAULTS[rows])):
        scan(folder, f"path,label,speaker,start,end,clip_id\n{rows}\n")


def test_a_manifest_with_spans_is_read_as_written(folder: Path) -> None:
    manifest = scan(folder, "path,label,speaker,start,end\ncalls/a.wav,sad,ann,0.25,1\ncalls/a.wav,sad,ann,1.5,\n")
    manifest.to_csv(folder / "manifest.csv")
    assert Manifest.from_csv(folder / "manifest.csv").clips == manifest.clips
    (folder / "manifest.csv").write_text((folder / "manifest.csv").read_text().replace("wav,0.25", "wav,quarter"))
    with pytest.raises(DataError, match="calls/a.wav@0.25-1: start is 'quarter'; wanted a time in seconds"):
        Manifest.from_csv(folder / "manifest.csv")


NAMES = {"Train": "train", "TRAINING": "train", "Development": "dev", "valid": "dev", "eval": "test"}
NAMES |= {"Test1": "test1", "Test 2": "test2", "test-3": "test3", "holdout": "holdout"}


@pytest.mark.parametrize("cell", NAMES)
def test_partitions_have_one_spelling(cell: str) -> None:
    assert common_partition(cell) == NAMES[cell]


@pytest.mark.parametrize("column", ["partition", "split", "Split_Set", "subset"])
def test_a_column_of_partitions_fills_the_manifest(folder: Path, column: str) -> None:
    manifest = scan(folder, f"path,label,speaker,{column}\ncalls/a.wav,sad,ann,Train\ncalls/b.wav,sad,bob,\n")
    assert [clip.extra.get("partition") for clip in manifest.clips] == ["train", None]


def test_partitions_that_are_not_called_test_are_noted(folder: Path) -> None:
    """A misspelt or unlabelled partition would otherwise become a test partition without a word."""
    rows = "calls/a.wav,sad,ann,{}\ncalls/b.wav,sad,bob,{}\n"
    header = "path,label,speaker,split\n"
    notes = scan(folder, header + rows.format("Train", "Tets")).notes
    assert "partitions other than train, dev and test are test partitions, too: tets (1 clip)." in notes[-1]
    for usual in ("train", "val", "test", "Test 2", ""):
        notes = scan(folder, header + rows.format("train", usual)).notes
        assert not [note for note in notes if "are test partitions" in note]
