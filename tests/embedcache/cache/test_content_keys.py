"""Content keys: remembered while nothing about a file changes, never longer."""

import os
import time
from pathlib import Path

import pytest
from helpers.sounds import noise, write

from embedcache import KeyMemo, Recording, add_keys, datasets
from embedcache.files import stamps


@pytest.fixture
def old_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every file had been written long ago."""
    monkeypatch.setattr(stamps, "GRAIN_NS", -(10**18))


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(Recording, "load", refuse)


@pytest.mark.usefixtures("old_clock")
def test_a_warm_run_reads_no_audio(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = datasets.get("ravdess").manifest(tree)
    cold = add_keys(manifest, KeyMemo(tmp_path / "keys.json"))
    forbid_reading(monkeypatch)
    assert add_keys(manifest, KeyMemo(tmp_path / "keys.json")) == cold
    assert all(len(clip.key) == 64 and clip.seconds == pytest.approx(0.2) for clip in cold.clips)


@pytest.mark.usefixtures("old_clock")
def test_a_file_of_equal_size_and_forged_date_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(0.1))
    before, memo = path.stat(), KeyMemo()
    first = memo.look(str(path))
    time.sleep(0.02)
    write(path, noise(0.1, seed=1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert memo.look(str(path)).key == Recording.load(path).key != first.key


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, memo = write(tmp_path / "a.wav", noise(0.1)), KeyMemo()
    memo.look(str(path))
    forbid_reading(monkeypatch)
    with pytest.raises(AssertionError, match="was read"):
        memo.look(str(path))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"/a.wav": 3}', '{"/a.wav": [1, 2]}'])
def test_a_memo_that_is_damaged_costs_time_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.json").write_text(text)
    path = write(tmp_path / "a.wav", noise(0.1))
    assert KeyMemo(tmp_path / "keys.json").look(str(path)).key == Recording.load(path).key


def test_a_faulty_file_is_kept_in_the_manifest_with_its_fault(tree: Path) -> None:
    bad = tree / "Actor_01" / "03-01-01-01-01-01-01.wav"
    bad.write_bytes(b"")
    keyed = add_keys(datasets.get("ravdess").manifest(tree))
    assert len(keyed) == 24
    (clip,) = [clip for clip in keyed.clips if "skipped" in clip.extra]
    assert clip.extra["skipped"] == f"{bad}: is empty (0 bytes). Copy or download it again, or remove it."
