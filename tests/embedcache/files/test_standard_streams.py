"""Output that is lost is not passed over: one line and an exit code, whatever the streams are; no traceback."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.extraction import extracted
from helpers.places import REPOSITORY
from helpers.sounds import ravdess_tree

from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts

EARLIER = REPOSITORY / "tests" / "data" / "version-0.1.0"
COMMANDS = {
    "datasets": "datasets",
    "encoders": "encoders",
    "predict": "predict fitted/models/ravdess-mfcc-logreg tree --json",
    "leaderboard": "leaderboard",
    "cache": "cache ls",
}
SLOW = [pytest.param(name, marks=pytest.mark.long) for name in ("predict", "leaderboard", "cache")]
FULL, CLOSED = "error: standard output cannot be written: No space left on device;", "error: standard output is closed;"


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what an earlier version wrote."""
    folder = tmp_path_factory.mktemp("streams")
    shutil.copytree(EARLIER, folder / "artifacts")
    return folder


@functools.cache
def fit_in(place: Path) -> None:
    """Clips, and a model that is fitted on them."""
    extracted(ravdess_tree(place / "tree"), place / "fitted")
    fit_model(Artifacts(place / "fitted"), ComparisonConfig(heads=("logreg",), folds=2), jobs=1)


def shell(place: Path, line: str) -> subprocess.CompletedProcess:
    """A line of a shell, in which `ser` is the command."""
    if "predict" in line:
        fit_in(place)
    there = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ser = f'ser() {{ "{sys.executable}" "{REPOSITORY / "cli.py"}" "$@"; }}'
    return subprocess.run(["bash", "-c", f"{ser}\n{line}"], capture_output=True, text=True, cwd=place, env=there)


def python(code: str, redirection: str = "") -> subprocess.CompletedProcess:
    """A command of one line that runs guarded."""
    guarded = "from embedcache.files.standard_streams import run_guarded"
    script = f"import sys\n{guarded}\nsys.exit(run_guarded(lambda: {code}))"
    there = {**os.environ, "PYTHONPATH": str(REPOSITORY), "CODE": script}
    line = f'"{sys.executable}" -c "$CODE" {redirection}'
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=there)


@pytest.mark.parametrize("name", ["datasets", "encoders", *SLOW])
@pytest.mark.parametrize(("redirection", "said"), [("> /dev/full", FULL), (">&-", CLOSED)])
def test_a_result_that_is_lost_is_one_message(place: Path, name: str, redirection: str, said: str) -> None:
    done = shell(place, f"ser {COMMANDS[name]} {redirection}")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(said)


@pytest.mark.parametrize("name", ["encoders", *SLOW])
def test_a_reader_that_has_gone_is_no_error_to_speak_of(place: Path, name: str) -> None:
    done = shell(place, f"ser {COMMANDS[name]} | true; echo ${{PIPESTATUS[0]}}")
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.parametrize("name", ["datasets", *SLOW])
def test_messages_need_no_place(place: Path, name: str) -> None:
    """A closed standard error changes no result, and its messages do not get into the result."""
    closed, open_ = (shell(place, f"ser {COMMANDS[name]} {more}") for more in ("2>&-", ""))
    assert (closed.returncode, closed.stdout) == (0, open_.stdout)


def test_an_error_without_a_place_for_it_is_still_an_error(place: Path) -> None:
    for where in ("2>&-", "2> /dev/full", ">&- 2>&-"):
        done = shell(place, f"ser extract --dataset nothing {where}")
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_work_goes_on_without_its_messages() -> None:
    code = "print('a', file=sys.stderr, flush=True) or print('b') or 0"
    full = python(code, "2> /dev/full")
    assert (full.returncode, full.stdout, full.stderr) == (1, "b\n", "")
    closed = python(code, "2>&-")
    assert (closed.returncode, closed.stdout) == (0, "b\n")


def test_no_file_gets_the_number_of_standard_error() -> None:
    """What a library prints there would be written into that file."""
    done = python("print(open('/dev/null').fileno() > 2) or 0", "2>&-")
    assert done.stdout == "True\n"


def test_what_is_lost_when_the_command_ends_counts() -> None:
    """Python holds back a few lines, which are written at the end."""
    done = python("print('a') or 0", "> /dev/full")
    assert (done.returncode, done.stderr.count("\n"), done.stderr.startswith(FULL)) == (1, 1, True)


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_exit_code_is_the_commands(code: int) -> None:
    assert python(str(code)).returncode == code


@pytest.mark.parametrize("coding", ["utf-8", "ascii"])
def test_a_name_keeps_its_bytes_as_escapes_and_a_dash_may_be_lost(monkeypatch: pytest.MonkeyPatch, coding: str) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", coding)
    assert python("print('a\\udcff – b')").stdout == {"utf-8": "a\\xff – b\n", "ascii": "a\\xff ? b\n"}[coding]
