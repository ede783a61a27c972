"""A run in MLflow: what is there, what a second push does, and what a server gets that fails."""

from __future__ import annotations

import csv
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.tracking_server import Tracker, running_tracker

from classifiers import load_predictions
from classifiers.tracking.pushed_run import PushedRun, read_run
from classifiers.tracking.to_mlflow import LONGEST_VALUE, push_to_mlflow, without_password
from embedcache import Artifacts, SerError

pytest.importorskip("mlflow")


@pytest.fixture
def tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracker]:
    """A server that fails quickly, where it fails."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    with running_tracker(tmp_path / "files") as running:
        yield running


@pytest.fixture
def pushed(two_heads: Path, tmp_path: Path) -> PushedRun:
    return read_run(Artifacts(tmp_path), str(two_heads))


def test_each_row_is_a_run_below_the_run_of_the_folder(tracker: Tracker, pushed: PushedRun, two_heads: Path) -> None:
    done = push_to_mlflow(pushed, tracker.url)
    assert (done.new, done.present) == (2, 0)
    (parent,), rows = tracker.parents(), tracker.rows("FINISHED")
    assert (parent["name"], parent["status"], len(rows)) == (two_heads.name, "FINISHED", 2)
    assert {row["tags"]["mlflow.parentRunId"] for row in rows} == {parent["id"]}
    board = {line["head"]: line for line in csv.DictReader((two_heads / "leaderboard.csv").read_text().splitlines())}
    for row in rows:
        line = board[row["params"]["head"]]
        for name in ("uar", "uar_low", "uar_high", "war", "macro_f1", "ece"):
            assert row["metrics"][name] == pytest.approx(float(line[name]), abs=6e-4)
        assert {"recall/left", "recall/right", "war_low", "brier_high"} <= set(row["metrics"])
        assert row["tags"]["leaks"] == line["leaks"]
        assert row["tags"]["version"] == line["version"]


def test_files_of_rows_and_of_the_run(tracker: Tracker, pushed: PushedRun, two_heads: Path) -> None:
    push_to_mlflow(pushed, tracker.url)
    (parent,) = tracker.parents()
    files = {path.name for path in (tracker.files / parent["id"]).iterdir()}
    assert files == {"leaderboard.csv", "run.json"}
    board = (tracker.files / parent["id"] / "leaderboard.csv").read_bytes()
    assert board == (two_heads / "leaderboard.csv").read_bytes()
    own = {p.head: len(p.truth) for p in load_predictions(two_heads)}
    for row in tracker.rows():
        folder = tracker.files / row["id"]
        lines = list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))
        assert {line["head"] for line in lines} == {row["params"]["head"]}
        assert len(lines) == own[row["params"]["head"]]
        assert (folder / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_push_adds_nothing(tracker: Tracker, pushed: PushedRun) -> None:
    push_to_mlflow(pushed, tracker.url)
    before = json.dumps(tracker.runs)
    done = push_to_mlflow(pushed, tracker.url)
    assert (done.new, done.present) == (0, 2)
    assert json.dumps(tracker.runs) == before


def test_a_row_that_was_removed_there_is_pushed_again(tracker: Tracker, pushed: PushedRun) -> None:
    push_to_mlflow(pushed, tracker.url)
    tracker.rows()[0]["deleted"] = True
    done = push_to_mlflow(pushed, tracker.url)
    assert (done.new, done.present, len(tracker.rows("FINISHED")), len(tracker.parents())) == (1, 1, 2, 1)


@pytest.mark.parametrize("fault", ["500", "cut", "hang"])
@pytest.mark.parametrize("after", [0, 4, 8, 12])
def test_what_fails_halfway_is_named_and_not_complete(
    tracker: Tracker, pushed: PushedRun, fault: str, after: int
) -> None:
    tracker.fault, tracker.after = fault, after
    with pytest.raises(SerError, match=r"MLflow at http://127\.0\.0\.1:\d+: (?s:.*)push again"):
        push_to_mlflow(pushed, tracker.url)
    assert not [run for run in tracker.parents() if run["status"] == "FINISHED"]
    assert len(tracker.rows("FINISHED")) < 2
    tracker.release.set()
    tracker.fault = ""
    push_to_mlflow(pushed, tracker.url)
    assert [run["status"] for run in tracker.parents()] == ["FINISHED"]
    assert sorted(row["params"]["head"] for row in tracker.rows()) == ["lda", "logreg"]
    assert {row["status"] for row in tracker.rows()} == {"FINISHED"}


def test_a_server_that_recovers_is_told_of_the_failure(
    tracker: Tracker, pushed: PushedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("classifiers.tracking.to_mlflow._log_values", fails)
    with pytest.raises(SerError, match="no space left"):
        push_to_mlflow(pushed, tracker.url)
    assert {run["status"] for run in tracker.runs.values()} == {"FAILED"}


def test_nobody_listens(pushed: PushedRun, tracker: Tracker) -> None:
    with pytest.raises(SerError, match=r"MLflow at http://127\.0\.0\.1:9: ") as caught:
        push_to_mlflow(pushed, "http://me:secret@127.0.0.1:9")
    assert "secret" not in str(caught.value)


def test_long_and_odd_values(tracker: Tracker, pushed: PushedRun) -> None:
    first = pushed.rows[0]
    odd = {"recall/a+b": 0.1, "recall/a?b": 0.2, "recall/" + "x" * 400: 0.3, "recall/Ärger": 0.4}
    row = replace(first, params={"long": "é" * 9000, **{f"p{n}": n for n in range(250)}}, metrics=odd)
    push_to_mlflow(replace(pushed, rows=(row,)), tracker.url)
    (there,) = tracker.rows("FINISHED")
    assert len(there["params"]) == 251
    assert there["params"]["long"].startswith("ééé")
    assert there["params"]["long"].endswith("9000 characters, all in the files of the run)")
    assert len(there["params"]["long"]) == LONGEST_VALUE
    assert sorted(there["metrics"].values()) == [0.1, 0.2, 0.3, 0.4]
    assert {"recall/a_b", "recall/a_b_2", "recall/Ärger"} < set(there["metrics"])


def test_passwords_are_not_printed(tracker: Tracker, pushed: PushedRun) -> None:
    assert without_password("https://me:secret@host:5/x") == "https://host:5/x"
    assert without_password("sqlite:///mlflow.db") == "sqlite:///mlflow.db"
    assert without_password("databricks") == "databricks"
    with_password = tracker.url.replace("//", "//me:secret@")
    assert "secret" not in push_to_mlflow(pushed, with_password).place


def test_the_server_answers_as_the_tests_believe(tracker: Tracker) -> None:
    request = urllib.request.Request(f"{tracker.url}/api/2.0/mlflow/experiments/create", b'{"name": "e"}')
    assert json.load(urllib.request.urlopen(request)) == {"experiment_id": "1"}
