"""What every tracker gets."""

from __future__ import annotations

import json
import math
import posixpath
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.places import Ser
from hypothesis import given
from hypothesis import strategies as st

from classifiers import load_predictions, save_predictions
from classifiers.tracking.push import TRACKERS, push
from classifiers.tracking.pushed_run import finite, flat, read_run, unique_names
from embedcache import Artifacts, DataError, UnknownName


def test_parameters_are_what_the_row_is_and_what_the_run_was_asked(two_heads: Path, tmp_path: Path) -> None:
    rows = {row.params["head"]: row for row in read_run(Artifacts(tmp_path), str(two_heads)).rows}
    params = rows["logreg"].params
    assert (params["protocol"], params["folds"], params["n_clips"]) == ("random", 2, 160)
    assert params["configuration.heads"] == '["logreg", "lda"]'
    assert params["configuration.tune"] == 0
    assert "head.C" in params
    assert not {"uar", "leaks", "run", "rank", "version"} & set(params)
    assert all(isinstance(value, str | int | float | bool) and value != "" for value in params.values())


def test_unknown_numbers_are_left_out(run: Path, tmp_path: Path) -> None:
    (only,) = read_run(Artifacts(tmp_path), str(run)).rows
    assert all(map(math.isfinite, only.metrics.values()))
    assert not {"p_vs_best", "smallest_difference", "uar_seed_sd"} & set(only.metrics)
    assert finite({"a": 1.0, "b": math.nan, "c": math.inf}) == {"a": 1.0}


def test_a_row_is_recognised_by_its_predictions(two_heads: Path, tmp_path: Path) -> None:
    place = Artifacts(tmp_path)
    first, again = read_run(place, str(two_heads)), read_run(place, str(two_heads))
    assert [row.key for row in first.rows] == [row.key for row in again.rows]
    assert len({row.key for row in first.rows}) == 2
    other = tmp_path / two_heads.name
    p = load_predictions(two_heads)
    save_predictions(other, [p[0], replace(p[1], seeds=np.full(len(p[1].seeds), "7"))], {})
    assert not {row.key for row in read_run(place, str(other)).rows} & {row.key for row in first.rows}


def test_a_run_of_an_earlier_version_has_no_digest_and_no_configuration(two_heads: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    save_predictions(folder, load_predictions(two_heads), {})
    facts = json.loads((folder / "run.json").read_text())
    for name in ("predictions_sha256", "created", "asked"):
        del facts[name]
    (folder / "run.json").write_text(json.dumps(facts))
    assert len(read_run(Artifacts(tmp_path), str(folder)).rows) == 2


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no runs yet. Run `ser compare` first"):
        push(Artifacts(tmp_path), "", "tensorboard")
    (tmp_path / "runs/a").mkdir(parents=True)
    (tmp_path / "runs/a/run.json").write_text("{}")
    with pytest.raises(UnknownName, match="no run 'b'; have a"):
        push(Artifacts(tmp_path), "b", "tensorboard")
    with pytest.raises(DataError):
        push(Artifacts(tmp_path), "a", "tensorboard")


def test_the_command_takes_the_latest_run_and_one_tracker(two_heads: Path, ser: Ser, tmp_path: Path) -> None:
    shutil.copytree(two_heads, tmp_path / "artifacts" / "runs" / two_heads.name)
    done = ser("push", "--tensorboard", "--to", "logs")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"logs, folder {two_heads.name}: pushed: 2 rows; there already: 0 rows\n"
    assert ser("push", "--tensorboard", "--to", "logs").stdout.endswith("pushed: 0 rows; there already: 2 rows\n")
    assert [ser("push").returncode, ser("push", "--mlflow", "--wandb").returncode] == [2, 2]


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    name: str, two_heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"classifiers.tracking.to_{name}.find_spec", lambda package: None)
    with pytest.raises(Exception, match=rf"pip install .*\[{name}\]"):
        push(Artifacts(tmp_path), str(two_heads), name)


def test_values_that_are_lists_become_json() -> None:
    values = {"a": [1, "é"], "b": None, "c": "", "d": {"x": 1}, "e": False, "f": Path("p")}
    found = flat(values, "head")
    assert found == {"head.a": '[1, "é"]', "head.d": '{"x": 1}', "head.e": False, "head.f": '"p"'}


@given(st.lists(st.text() | st.text("ab/. +", max_size=9), unique=True), st.integers(7, 40))
def test_names_are_valid_short_and_different(names: list[str], longest: int) -> None:
    found = unique_names(names, r"[\w. /-]", longest)
    assert list(found) == names
    assert len(set(found.values())) == len(names)
    for name in found.values():
        assert re.fullmatch(r"[\w. /-]+", name)
        assert len(name) <= longest
        assert posixpath.normpath(name) == name
        assert not name.startswith(("/", ".."))
