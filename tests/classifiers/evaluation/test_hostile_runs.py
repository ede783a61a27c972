"""Runs from a stranger: what no comparison writes is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.hostile import GIB, edit, sparse

from classifiers import (
    load_predictions,
)
from classifiers.evaluation.run_folder import load_runs
from embedcache import Artifacts, DataError


def facts(**changes: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "run.json", lambda run: run["heads"][0].update(changes))


def rows(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        path = folder / "predictions.csv"
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    return attack


def cell(number: int, value: str) -> Callable[[Path], None]:
    """Another value in the first row."""

    def change(lines: list[str]) -> list[str]:
        cells = lines[1].split(",")
        cells[number] = value
        return [lines[0], ",".join(cells), *lines[2:]]

    return rows(change)


def crowd(lines: list[str]) -> list[str]:
    """100,000 speakers of one clip each."""
    before, after = lines[1].split(",")[:2], lines[1].split(",")[3:]
    return [lines[0], *(",".join([*before, f"s{n}", *after]) for n in range(100_000))]


RUNS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a probability of NaN": (cell(9, "nan"), "not between 0 and 1"),
    "a row without probabilities": (cell(9, ""), "1 row of logreg without a probability of each label: "),
    "a probability of infinity": (cell(9, "inf"), "not between 0 and 1"),
    "a probability of 7": (cell(9, "7"), "not between 0 and 1"),
    "a probability that is a word": (cell(9, "sure"), "cannot be read as a run"),
    "labels of another kind": (facts(labels={"left": 1}), "run.json has invalid values of a head: labels"),
    "labels twice": (facts(labels=["left", "right", "left"]), "run.json has invalid values of a head: labels"),
    "seconds of NaN": (facts(fit_seconds=float("nan")), "run.json has invalid values of a head: fit_seconds"),
    "seconds without an end": (facts(predict_ms=float("inf")), "run.json has invalid values of a head: predict_ms"),
    "seconds of 1e400": (facts(fit_seconds=10**400), "run.json has invalid values of a head: fit_seconds"),
    "seconds that are a word": (facts(fit_seconds="long"), "run.json has invalid values of a head: fit_seconds"),
    "a number for a name": (facts(fingerprint=3), "run.json has invalid values of a head: fingerprint"),
    "a list for a name": (facts(head=["logreg"]), "run.json has invalid values of a head: head"),
    "a word for skipped clips": (facts(skipped="abc"), "run.json has invalid values of a head: skipped"),
    "a list for parameters": (facts(params=[1]), "run.json has invalid values of a head: params"),
    "curves of another kind": (facts(histories=[1]), "run.json has invalid values of a head: histories"),
    "one head twice": (
        lambda f: edit(f / "run.json", lambda run: run["heads"].append(run["heads"][0])),
        "predictions.csv has no rows of",
    ),
    "heads that are none": (
        lambda f: edit(f / "run.json", lambda run: run.update(heads=["a"])),
        "cannot be read as a run",
    ),
    "a list": (lambda f: (f / "run.json").write_text("[]"), "cannot be read as a run"),
    "brackets": (lambda f: (f / "run.json").write_text("[" * 100_000), "cannot be read as a run"),
    "a gigabyte": (lambda f: sparse(f / "run.json", GIB), "has 1,073,741,824 bytes; wanted at most"),
    "a gigabyte of rows": (lambda f: sparse(f / "predictions.csv", GIB), "has 1,073,741,824 bytes; wanted at most"),
    "a hundred thousand speakers": (rows(crowd), "1 clip with several predictions of one seed"),
    "one long name among many": (
        rows(lambda lines: [lines[0], *lines[1:] * 500, lines[1].replace(",", "," + "x" * 8000, 1)]),
        "a clip_id that is too long for this many rows",
    ),
}


def swap(first: str, second: str) -> Callable[[Path], None]:
    """Another predicted label in the first row that has one of two labels, without another probability."""

    def change(lines: list[str]) -> list[str]:
        cells = lines[1].split(",")
        cells[8] = {first: second, second: first}[cells[8]]
        return [lines[0], ",".join(cells), *lines[2:]]

    return rows(change)


def claimed_independent(folder: Path) -> None:
    """Random folds under the name of a protocol that keeps each speaker in one fold."""
    facts(protocol="speakers")(folder)


RUNS |= {
    "a clip twice": (
        rows(lambda lines: [*lines, lines[1]]),
        r"1 clip with several predictions of one seed: .* \(seed 0, 2",
    ),
    "a probability that is too large": (cell(9, "0.99999"), "1 row whose probabilities do not sum to 1"),
    "a label that is not the likeliest": (
        swap("left", "right"),
        "1 row whose predicted label is not the most",
    ),
    "speakers in two folds": (claimed_independent, "8 speakers in several folds of the speaker-independent protocol"),
    "leaks of another kind": (facts(leaks="moon"), "leaks that this version of ser does not know: moon"),
    "another version": (
        lambda f: edit(f / "run.json", lambda run: run.update(version=3)),
        "run.json has invalid values: version",
    ),
    "other truth than the run had": (
        rows(lambda lines: [line.replace(",s0,", ",s00,") for line in lines]),
        "changed since the run: the file has the SHA-256",
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_lies_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    attack, said = RUNS[name]
    folder = shutil.copytree(run, tmp_path / "run")
    attack(folder)
    with pytest.raises(DataError, match=said) as error:
        load_predictions(folder)
    assert str(folder) in str(error.value)


def test_a_run_that_cannot_be_loaded_is_named_and_not_ranked(run: Path, tmp_path: Path) -> None:
    place = Artifacts(tmp_path / "artifacts")
    shutil.copytree(run, place.runs / "good")
    bad = shutil.copytree(run, place.runs / "bad")
    claimed_independent(bad)
    notes: list[str] = []
    assert {p.run for p in load_runs(place, log=notes.append)} == {"good"}
    (note,) = notes
    assert note.startswith(f"note: left out: {bad / 'predictions.csv'} has faults")
    with pytest.raises(DataError, match="several folds"):
        load_runs(place, ["bad"])
    shutil.rmtree(place.runs / "good")
    with pytest.raises(DataError, match="no run can be loaded"):
        load_runs(place)
