"""Hints to install extras work wherever this distribution came from; names are compared by what a reader sees."""

import json
import os
import pickle
import re
import shlex
import subprocess
import sys
import unicodedata
from importlib.metadata import metadata
from pathlib import Path

import pytest
from helpers.places import REPOSITORY, tracked_files
from hypothesis import given
from hypothesis import strategies as st

from embedcache import DataError, text
from embedcache.errors import complain
from embedcache.text import DISTRIBUTION, count, install_hint, normal_name, one_line

SCRIPT = "from embedcache.text import install_hint; print(install_hint('onnx'))"


class Installed:
    """A distribution whose origin is what pip wrote."""

    def __init__(self, origin: object) -> None:
        self.origin = origin

    def read_text(self, name: str) -> str | None:
        return json.dumps(self.origin) if name == "direct_url.json" and self.origin else None


def test_numbered_names_all_differ() -> None:
    assert text.numbered(["a", "b", "a", "a-2", "a"]) == ["a", "b", "a-2", "a-2-2", "a-3"]
    assert text.numbered(["a_2", "a", "a"], "_") == ["a_2", "a", "a_3"]


def test_a_number_has_its_noun() -> None:
    assert [count(n, "clip") for n in (0, 1, 2)] == ["0 clips", "1 clip", "2 clips"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain \u00e9 \u65e5\u672c\u3000\u200d \\n", "plain \u00e9 \u65e5\u672c\u3000\u200d \\n"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[2J\x85\u2028", "\\x1b[2J\\x85\\u2028"),
        ("\u202egpj.wav", "\\u202egpj.wav"),
        ("\udcff\udc80\ud800", "\\xff\\x80\\ud800"),
    ],
)
def test_any_name_fits_in_a_line(name: str, shown: str) -> None:
    assert one_line(name) == shown
    assert str(DataError(f"{name}: no", name)) == f"{shown}: no\n{shown}"


def test_a_message_of_several_lines_has_as_many_lines_as_parts() -> None:
    error = DataError(*complain("two files are bad", ["a\nb: no", "c: no", "d: no"], "Remove them.", show=2))
    assert str(error) == "two files are bad:\n  a\\nb: no\n  c: no\n  … and 1 more\nRemove them."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    "spellings",
    [
        ("1", "01", "1.0", "1.", "0001.000", " 1 ", "\uff11", "\u0661"),
        ("Spk1", "spk1", "SPK01", "spk1\u200b", "\ufeffspk1", "spk\u00ad1", "s\ufe0fpk1"),
        ("Zo\u00eb", "Zoe\u0308", "ZO\u00cb"),
        ("Ann B", "ann  b", "ann\u00a0b", "\tann b\n", "ann\u3000b", "\u3164ann b"),
        ("Stra\u00dfe", "STRASSE"),
        ("0", "00", "0.0"),
    ],
)
def test_names_that_a_reader_takes_for_one_are_one(spellings: tuple[str, ...]) -> None:
    assert len({normal_name(name) for name in spellings}) == 1


@pytest.mark.parametrize(
    "names", ["1 2 10 100 1.1 1.10 1.5 1.05 -1", "ann anna an bob", "s1_sess0 s1_sess1", "a b ab", "f01 m01 f10"]
)
def test_names_that_differ_stay_apart(names: str) -> None:
    listed = names.split()
    assert len({normal_name(name) for name in listed}) == len(listed)


def test_a_name_that_is_not_seen_is_none() -> None:
    assert {normal_name(name) for name in ("", " ", "\u200b", "\ufeff\t", "\u3164", "\u2800")} == {""}


NAMES = st.text(max_size=12) | st.text("aB\u00df\u0130\u0345\u01c50123456789._ \u200b\u0301\ufb01", max_size=12)


@given(NAMES)
def test_the_form_of_a_form_is_itself(name: str) -> None:
    assert normal_name(normal_name(name)) == normal_name(name)


@given(
    NAMES, st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]), st.sampled_from([" ", "\t", "\u200b", "\u00a0", "\ufeff"])
)
def test_forms_case_and_blanks_make_no_difference(name: str, form: str, blank: str) -> None:
    wanted = normal_name(name)
    assert normal_name(unicodedata.normalize(form, name)) == wanted
    assert normal_name(unicodedata.normalize("NFD", name).casefold()) == wanted
    assert normal_name(blank + name + blank + blank) == wanted


@given(st.integers(0, 10**30), st.integers(0, 4), st.integers(0, 4))
def test_numbers_are_compared_by_value(number: int, zeros: int, decimals: int) -> None:
    assert normal_name(f"{'0' * zeros}{number}.{'0' * decimals}") == str(number)
    assert normal_name(f"Spk{'0' * zeros}{number}") == f"spk{number}"


def test_the_distribution_is_not_the_package_of_other_people() -> None:
    assert metadata(DISTRIBUTION)["Name"] == DISTRIBUTION != "ser"


def test_an_index_knows_it_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "distribution", lambda name: Installed(None))
    assert shlex.split(install_hint("onnx")) == [sys.executable, "-m", "pip", "install", f"{DISTRIBUTION}[onnx]"]


def test_a_folder_with_blanks_is_named_by_its_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "my clone"
    folder.mkdir()
    origin = {"url": folder.as_uri(), "dir_info": {"editable": True}}
    monkeypatch.setattr(text, "distribution", lambda name: Installed(origin))
    assert shlex.split(install_hint("onnx"))[4:] == ["--editable", f"{folder}[onnx]"]


def test_a_wheel_that_has_gone_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    origin = {"url": (tmp_path / "gone.whl").as_uri(), "archive_info": {}}
    monkeypatch.setattr(text, "distribution", lambda name: Installed(origin))
    assert shlex.split(install_hint("onnx"))[-1] == f"{DISTRIBUTION}[onnx]"


@pytest.mark.long
def test_the_hint_of_an_installed_wheel_is_one_that_pip_takes(tmp_path: Path) -> None:
    """A wheel is built, installed beside nothing else, and asked; pip resolves what it says."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [
        *pip,
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        str(REPOSITORY),
    ]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("ser_toolkit-*.whl")
    site = tmp_path / "site"
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True
    )
    alone = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=tmp_path, env=alone)
    command = shlex.split(done.stdout)
    assert command[-1] == f"{wheel}[onnx]", done.stderr
    dry = subprocess.run(
        [*command, "--dry-run", "--no-deps", "--no-index"], capture_output=True, text=True, cwd=tmp_path
    )
    assert dry.returncode == 0, dry.stderr
    assert "does not provide the extra" not in dry.stderr


def test_no_text_advises_the_package_ser() -> None:
    advice = re.compile(r"pip install +['\"]?ser\b(?!-toolkit)|\bser\[\w+\]")
    found = [
        f"{path.relative_to(REPOSITORY)}: {line.strip()}"
        for path in tracked_files()
        if path.suffix in (".py", ".md", ".toml", ".html", ".js", ".yml", "")
        for line in path.read_text(errors="ignore").splitlines()
        if advice.search(line) and path != Path(__file__)
    ]
    assert found == []


def test_every_extra_that_a_hint_names_exists() -> None:
    extras = set(metadata(DISTRIBUTION).get_all("Provides-Extra"))
    named = {
        extra
        for package in ("embedcache", "classifiers")
        for path in (REPOSITORY / package).rglob("*.py")
        for extra in re.findall(r"install_hint\([\"'](\w+)", path.read_text())
    }
    assert named
    assert named <= extras
