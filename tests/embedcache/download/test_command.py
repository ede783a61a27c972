"""`ser download` as a person meets it."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.server import CLIPS, World, archived, zipped

import cli
from embedcache import Dataset, datasets
from embedcache.download.dataset import target_folder


def told(monkeypatch: pytest.MonkeyPatch, what: Dataset, *options: object) -> int:
    monkeypatch.setattr(datasets, "get", lambda name: what)
    monkeypatch.setattr(sys, "argv", ["ser", "download", what.name, *map(str, options)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_command_says_where_it_is_and_what_comes_next(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    what = archived(world, zipped(CLIPS))
    assert told(monkeypatch, what, "--root", tmp_path) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"ravdess: {tmp_path} is complete",
        "files downloaded now: 1, 4 unpacked from archives; already complete: 0",
        "licence: CC BY-NC-SA 4.0",
        f"cite:    {what.citation}",
    ]
    assert f"Next: ser audit --dataset ravdess --root {tmp_path}" in said.err
    assert f"ser extract --dataset ravdess --root {tmp_path}" in said.err
    assert told(monkeypatch, what, "--root", tmp_path) == 0
    assert "files downloaded now: 0; already complete: 1" in capsys.readouterr().out
    assert len(datasets.get("ravdess").manifest(tmp_path)) == 4


def test_what_nobody_may_fetch_says_how_to_apply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    asked = replace(datasets.get("ravdess"), name="savee", remotes=None, how_to_apply="Register at Surrey.")
    assert told(monkeypatch, asked, "--root", tmp_path / "new") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: savee cannot be downloaded automatically. Register at Surrey.\nPut its files into ")
    assert not (tmp_path / "new").exists()
    monkeypatch.undo()
    assert told(monkeypatch, datasets.get("folder")) == 1
    assert "label>/<speaker>_<anything>.wav" in capsys.readouterr().err


def test_the_folder_is_where_it_will_be_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ravdess = datasets.get("ravdess")
    assert target_folder(ravdess) == Path("data/ravdess")
    monkeypatch.setenv("SER_DATA", str(tmp_path))
    assert target_folder(ravdess) == tmp_path / "ravdess"
    assert target_folder(ravdess, "here") == Path("here")
