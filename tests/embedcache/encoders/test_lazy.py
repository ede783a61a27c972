"""What is remembered of an encoder stands only as long as nothing about it changes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.checkpoints import save_checkpoint
from helpers.places import REPOSITORY
from helpers.sounds import noise

from embedcache import EncoderError, load_encoder
from embedcache.encoders import _lazy as _remembered
from embedcache.encoders._lazy import LazyEncoder
from embedcache.files import stamps

WAVE = noise(0.4).astype(np.float32)


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint whose files are older than the clock's grain."""
    return shutil.copytree(checkpoint, tmp_path / "tiny")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a test has just written count as old."""
    monkeypatch.setattr(stamps, "GRAIN_NS", 0)


def load(folder: Path, memory: Path, precision: str = "fp32"):
    return load_encoder(str(folder), precision=precision, memory=memory)


def test_a_second_run_knows_the_encoder_without_loading_it(folder: Path, tmp_path: Path) -> None:
    memory = tmp_path / "cache" / "encoders.json"
    first, second = load(folder, memory), load(folder, memory)
    assert not isinstance(first, LazyEncoder)
    assert isinstance(second, LazyEncoder)
    for fact in ("info", "views", "shortest", "longest"):
        assert getattr(second, fact) == getattr(first, fact)
    assert "loaded" not in vars(second)
    assert (second.pack, second.lanes) == (first.pack, first.lanes)
    np.testing.assert_array_equal(*(e.encode([WAVE], ["layers"])["layers"] for e in (first, second)))
    assert not isinstance(load(folder, memory, "bf16"), LazyEncoder)


def test_a_file_that_changed_is_loaded_again(folder: Path, tmp_path: Path) -> None:
    memory = tmp_path / "encoders.json"
    old = load(folder, memory).info
    stale = load(folder, memory)
    other = save_checkpoint(tmp_path / "other", layer_norm_eps=1e-4)
    shutil.copy(other / "config.json", folder / "config.json")
    new = load(folder, memory)
    assert not isinstance(new, LazyEncoder)
    assert new.info.fingerprint != old.fingerprint
    with pytest.raises(EncoderError, match="tiny: the checkpoint changed during the run. Run the command again"):
        stale.encode([WAVE], ["pooled"])


def test_a_file_that_was_dated_back_is_loaded_again(folder: Path, tmp_path: Path) -> None:
    memory = tmp_path / "encoders.json"
    load(folder, memory)
    weights = folder / "model.safetensors"
    before = weights.stat()
    weights.write_bytes(weights.read_bytes())
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not isinstance(load(folder, memory), LazyEncoder)


def test_young_files_are_not_trusted(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamps, "GRAIN_NS", 10**18)
    memory = tmp_path / "encoders.json"
    load(folder, memory)
    assert not memory.exists()


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": 1}', '{"a": {"info": "{}"}}'])
def test_a_lost_or_foreign_memory_costs_time_alone(folder: Path, tmp_path: Path, text: str) -> None:
    memory = tmp_path / "encoders.json"
    memory.write_text(text)
    load(folder, memory)
    assert isinstance(load(folder, memory), LazyEncoder)
    assert len(json.loads(memory.read_text())) == 1


def test_an_encoder_without_a_checkpoint_is_loaded_as_ever(tmp_path: Path) -> None:
    assert not isinstance(load_encoder("mfcc", memory=tmp_path / "encoders.json"), LazyEncoder)
    assert not (tmp_path / "encoders.json").exists()


def test_after_a_change_the_next_run_knows_better(folder: Path, tmp_path: Path) -> None:
    memory = tmp_path / "encoders.json"
    load(folder, memory)
    stale = load(folder, memory)
    shutil.copy(save_checkpoint(tmp_path / "other", layer_norm_eps=1e-4) / "config.json", folder / "config.json")
    with pytest.raises(EncoderError, match="the checkpoint changed during the run"):
        stale.encode([WAVE], ["pooled"])
    assert np.isfinite(load(folder, memory).encode([WAVE], ["pooled"])["pooled"]).all()
    assert len(json.loads(memory.read_text())) == 1  # nothing old is kept


@pytest.mark.long
def test_one_checkpoint_under_two_names_is_two_entries_and_no_error(checkpoint: Path, tmp_path: Path) -> None:
    place = tmp_path / "hf-home" / "hub" / "models--facebook--hubert-base-ls960"
    shutil.copytree(checkpoint, place / "snapshots" / ("a" * 40))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("a" * 40)
    memory = tmp_path / "encoders.json"
    script = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from embedcache import load_encoder\nfrom embedcache.files import stamps\n"
        "stamps.GRAIN_NS = 0; wave = np.ones(800, np.float32)\n"
        "for name in ('hubert-base', 'facebook/hubert-base-ls960') * 2:\n"
        "    e = load_encoder(name, memory=Path(sys.argv[1])); e.encode([wave], ['pooled']); print(type(e).__name__)\n"
    )
    there = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HOME": str(tmp_path / "hf-home")}
    done = subprocess.run([sys.executable, "-c", script, memory], capture_output=True, text=True, env=there)
    assert done.stdout.split() == ["Packed", "Packed", "LazyEncoder", "LazyEncoder"], done.stderr


def test_files_that_were_young_before_they_were_read_are_not_remembered(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One could have been replaced while it was read; its stamp afterwards would be the new one's."""
    monkeypatch.setattr(stamps, "GRAIN_NS", 10**18)
    memory = tmp_path / "encoders.json"

    def reading():
        monkeypatch.setattr(stamps, "GRAIN_NS", 0)
        return load_encoder(str(folder))

    _remembered.load_lazily(memory, "tiny", str(folder), "fp32", reading)
    assert not memory.exists()
