"""The hint that installs an extra works wherever this distribution came from; no text advises the package `ser`."""

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest
from helpers.places import REPOSITORY, tracked_files

from embedcache import text
from embedcache.text import DISTRIBUTION, count, install_hint

SCRIPT = "from embedcache.text import install_hint; print(install_hint('onnx'))"


class Installed:
    """A distribution whose origin is what pip wrote."""

    def __init__(self, origin: object) -> None:
        self.origin = origin

    def read_text(self, name: str) -> str | None:
        return json.dumps(self.origin) if name == "direct_url.json" and self.origin else None


def test_a_number_has_its_noun() -> None:
    assert [count(n, "clip") for n in (0, 1, 2)] == ["0 clips", "1 clip", "2 clips"]


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
