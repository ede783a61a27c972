"""Wrong usage ends with 2 everywhere, tables keep names whole at any width, the shell can complete commands."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import typer
from helpers.places import REPOSITORY, Ser
from helpers.tty import in_terminal

import cli
from embedcache import encoders
from embedcache.terminal import print_table

WRONG = {
    "two heads": ("fit", "--head", "svm,mlp"),
    "two encoders": ("fit", "--head", "svm", "--encoder", "a,b"),
    "no datasets": ("cross",),
    "train alone": ("cross", "--train", "a"),
    "all and some": ("cross", "--all", "--test", "b"),
    "one fold": ("compare", "--folds", "1"),
    "no number": ("compare", "--folds", "many"),
    "two views of a kind": ("compare", "--head", "svm", "--view", "layers", "--view", "std"),
    "a view that nobody reads": ("compare", "--head", "svm", "--view", "frames:1"),
    "frames that nobody reads": ("compare", "--head", "svm", "--frames", "9"),
    "copies without transforms": ("extract", "--dataset", "ravdess", "--copies", "2"),
    "units": ("finetune", "--dataset", "ravdess", "--hidden", "wide"),
    "a part that is none": ("finetune", "--dataset", "ravdess", "--unfreeze", "half"),
    "a rate": ("finetune", "--dataset", "ravdess", "--lr", "-1"),
    "a root of several": ("finetune", "--dataset", "a,b", "--root", "."),
    "a hop beyond the window": ("predict", "model", "x.wav", "--window", "1", "--hop", "2"),
    "raw sound in a file": ("predict", "model", "x.wav", "--rate", "16000"),
    "a certainty of 2": ("predict", "model", "x.wav", "--abstain-below", "2"),
    "a port": ("demo", "--port", "99999"),
    "no model": ("export",),
    "no encoder": ("check",),
    "a device and no encoder": ("check", "--device", "cpu"),
    "no command": ("nothing",),
    "no option": ("audit", "--dataset", "ravdess", "--nothing"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_usage_ends_with_2(ser: Ser, name: str) -> None:
    done = ser(*WRONG[name])
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    assert done.stdout == ""


def test_the_old_flag_of_export_is_taken(ser: Ser) -> None:
    """`--onnx` was compulsory once."""
    for options in ((), ("--onnx",)):
        done = ser("export", "no-such-model", *options)
        assert done.returncode == 1
        assert "no-such-model" in done.stderr


@pytest.mark.parametrize("package", ["embedcache", "classifiers"])
def test_running_a_package_says_what_to_run(package: str) -> None:
    done = subprocess.run([sys.executable, "-m", package], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 1
    assert "`ser --help`" in done.stderr
    assert "Traceback" not in done.stderr


@cache
def on_a_wide_screen(command: str, place: Path) -> str:
    code, screen = in_terminal([command], 400, place)
    assert code == 0
    return screen


@pytest.mark.parametrize("width", [80, *(pytest.param(width, marks=pytest.mark.long) for width in (40, 60, 100, 200))])
@pytest.mark.parametrize("command", ["encoders", "heads", "protocols"])
def test_no_name_is_cut_at_any_width(command: str, width: int, tmp_path: Path) -> None:
    wide = on_a_wide_screen(command, tmp_path.parent)
    code, screen = in_terminal([command], width, tmp_path)
    assert code == 0
    words = set(re.findall(r"[\w./:-]{4,}", wide)) - {"name"}  # the first column needs no name in a record
    assert words <= set(re.findall(r"[\w./:-]{4,}", screen)), "a word is broken in two, or missing"
    if command == "encoders":
        assert all(spec.checkpoint in screen for spec in encoders.all())
    longest = max(map(len, words))
    assert max(map(len, screen.splitlines())) <= max(width, longest + 30)


def test_through_a_pipe_every_cell_is_whole(ser: Ser) -> None:
    header, *lines = ser("encoders").stdout.splitlines()
    assert header.split("\t") == ["name", "checkpoint", "licence", "emotional speech", "engine", "about"]
    assert [line.split("\t")[1] for line in lines] == [spec.checkpoint for spec in encoders.all()]


def test_a_table_without_rows_has_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [])
    assert capsys.readouterr().out == "a\tb\n"


def test_a_cell_of_two_lines_takes_one(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [("x\ny", "t\tu")])
    assert capsys.readouterr().out == "a\tb\nx\\ny\tt\\tu\n"


@pytest.mark.parametrize(("typed", "wanted"), [("ser comp", "compare"), ("ser compare --prot", "--protocol")])
def test_the_shell_completes(typed: str, wanted: str) -> None:
    ask = {"_SER_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    code = "import sys; sys.argv = ['ser']; import cli; cli.main()"
    there = {**os.environ, **ask, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=there)
    assert wanted in done.stdout.split(), (done.stdout, done.stderr)


def test_every_option_is_explained_from_its_noun() -> None:
    """A help text begins with what the option is, not with a preposition."""
    riddle = re.compile(r"^(Of|Also|At|Behind|Longer|With|Another with|To) ")
    found = []

    def look(command: typer.core.TyperGroup, name: str) -> None:
        for parameter in command.params:
            text = getattr(parameter, "help", "") or ""
            if parameter.name != "help" and (not text or riddle.match(text)):
                found.append((name, parameter.name, text))
        for below, inner in getattr(command, "commands", {}).items():
            look(inner, f"{name} {below}")

    look(typer.main.get_command(cli.app), "ser")
    assert [one for one in found if one[1] not in ("install_completion", "show_completion", "onnx")] == []
