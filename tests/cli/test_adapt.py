"""`--adapt` on the command line: rows of its own, and one message for what cannot be."""

import csv
from pathlib import Path

from helpers.places import Ser

from embedcache import Artifacts


def test_adapted_rows_come_after_unadapted_ones(ser: Ser, artifacts: Artifacts) -> None:
    place = ("--artifacts", artifacts.root)
    done = ser("compare", "--head", "ridge", "--folds", "2", "--adapt", "2,0", "--adapt", "all", *place)
    assert done.returncode == 0, done.stderr
    assert "protocol speakers/adapted-2" in done.stdout
    (run,) = artifacts.runs.iterdir()
    with (run / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["rank"], row["protocol"], row["adapted"], row["draws"]) for row in rows] == [
        ("1", "speakers", "", "1"),
        ("1", "speakers/adapted-2", "2", "5"),
        ("1", "speakers/adapted-all", "all", "1"),
    ]
    with (run / "adapt_clips.csv").open() as file:
        drawn = list(csv.DictReader(file))
    assert len(drawn) == 5 * int(rows[1]["adapt_clips"])
    listed = ser("leaderboard", *place)
    assert [line.split(",")[6] for line in listed.stdout.splitlines()[1:]] == [row["protocol"] for row in rows]


def test_what_cannot_be_adapted_is_one_message(ser: Ser, artifacts: Artifacts, tmp_path: Path) -> None:
    place = ("--artifacts", artifacts.root)
    for options, code, words in (
        (["--adapt", "few"], 2, "got --adapt few; wanted numbers of clips, such as 0,5,10,20, or all."),
        (["--adapt", "2", "--protocol", "random"], 1, "are also in the training clips of fold 1; wanted new speakers"),
    ):
        done = ser("compare", "--head", "ridge", "--folds", "2", *options, *place)
        assert done.returncode == code
        assert words in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr
    done = ser("enrol", tmp_path, "anna", tmp_path / "nothing.wav")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
