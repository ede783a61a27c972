"""`ser check`: what it finds in sound encoders and in broken ones, and how it says so."""

import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import plugins
from helpers.checkpoints import save_checkpoint
from helpers.tty import in_terminal

import cli
from embedcache import EncoderError, checks, load_encoder
from embedcache.checking import limits, memory, steps
from embedcache.checking.result import CheckLine, EncoderCheck
from embedcache.checking.run import check
from embedcache.checking.subject import Subject
from embedcache.checking.terminal_table import show_check
from embedcache.checks import check_encoder
from embedcache.encoders.engine import packed
from embedcache.encoders.huggingface import HuggingFaceEncoder


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(limits.SIDES, "cpu", 64)
    monkeypatch.setitem(packed.PACK, "cpu", 6.0)
    monkeypatch.setattr(checks, "LONG_CLIP_SECONDS", 4.0)
    plugins.install(monkeypatch)


def by_name(result: EncoderCheck) -> dict[str, CheckLine]:
    assert len({one.name for one in result.checks}) == len(result.checks)
    return {one.name: one for one in result.checks}


BATCHES = [
    f"{what}: {beside}"
    for what in ("batch", "frames")
    for beside in ("beside a long clip", "beside silence", "in pairs", "shuffled")
]


@pytest.mark.parametrize(
    ("family", "engine"), [("Wav2Vec2", "packed"), ("WavLM", "packed"), ("Wav2Vec2Conformer", "transformers")]
)
def test_a_network_passes_and_everything_is_measured(tmp_path: Path, family: str, engine: str) -> None:
    heard: list[str] = []
    result = check(str(save_checkpoint(tmp_path / "tiny", family)), "cpu", log=heard.append)
    found = by_name(result)
    assert result.broken == []
    assert (result.encoder, result.engine, result.device, result.precision) == ("tiny", engine, "cpu", "fp32")
    assert result.fingerprint == load_encoder(str(tmp_path / "tiny")).info.fingerprint
    assert list(result.notes) == heard
    assert bool(heard) == (engine == "transformers")
    bounded = ["two runs", *BATCHES, "layer 0", "layer 1", "layer 2"]
    assert [name for name, one in found.items() if one.ok] == ["two runs", "contract", *bounded[1:]]
    assert all(0 <= found[name].measured <= found[name].bound for name in bounded)
    assert found["two runs"].bound == 0
    assert {found[f"layer {n}"].bound for n in range(3)} == {1e-5}
    assert found["speed"].measured > 0
    assert (found["share of the limit"].measured is not None) == (engine == "packed")
    assert found["pack"].measured == (6 if engine == "packed" else 60)
    assert {"cpu", "instructions", "torch", "transformers", "memory_gb"} <= set(result.machine)
    json.dumps(result.to_dict(), allow_nan=False)


def test_half_the_precision_is_held_to_a_cosine(tmp_path: Path) -> None:
    """64 dimensions, as in test_packed.py. So few turn further than those of real networks."""
    result = check(str(save_checkpoint(tmp_path / "tiny", hidden_size=64)), "cpu", "bf16")
    found = by_name(result)
    assert [found[f"layer {n}"].unit for n in range(3)] == ["1 - cosine"] * 3
    assert all(0 < found[f"layer {n}"].measured < 1e-3 for n in range(3))
    assert {found[name].bound for name in BATCHES} == {0.014}


@pytest.mark.parametrize("name", ["mfcc", "functionals", "levels"])
def test_an_encoder_without_a_checkpoint_is_not_compared_with_transformers(name: str) -> None:
    result = check(name)
    found = by_name(result)
    assert (result.broken, result.engine) == ([], "its own")
    assert (found["layers"].unit, found["layers"].ok, found["layers"].measured) == ("not applicable", None, None)
    assert found["share of the limit"].unit == "not applicable"
    assert found["speed"].measured > 0
    assert found["batch: shuffled"].measured <= 1e-5
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_changed_weight_is_seen_from_its_layer_on(checkpoint: Path) -> None:
    encoder = load_encoder(str(checkpoint), "cpu")
    first, second = encoder.network.blocks
    norm = replace(second.feed_forward_norm, weight=second.feed_forward_norm.weight.clone())
    norm.weight[7] *= 1.001
    network = replace(encoder.network, blocks=(first, replace(second, feed_forward_norm=norm)))
    lines = list(steps.layers(Subject(replace(encoder, network=network))))
    assert [(line.name, line.ok) for line in lines] == [("layer 0", True), ("layer 1", True), ("layer 2", False)]


def test_rows_that_depend_on_the_batch_are_found_and_named() -> None:
    result = check("padded")
    found = by_name(result)
    # Beside silence, which is shorter, the padding falls on the silence and changes nothing.
    assert result.broken == ["batch: beside a long clip", "batch: in pairs", "batch: shuffled"]
    assert found["batch: beside a long clip"].measured > found["batch: in pairs"].bound == 1e-5
    with pytest.raises(
        EncoderError, match=r"levels: 3 checks of 12 failed: batch: beside a long clip, .* shuffled\. Do"
    ):
        result.refuse_broken()
    with pytest.raises(EncoderError, match=r"'pooled' differs by \d.* in the batch \[0, 1\]; wanted at most 1e-05"):
        check_encoder(plugins.Padded())


def test_values_that_are_not_finite_break_the_contract() -> None:
    found = by_name(check("silent"))
    assert (found["two runs"].ok, found["two runs"].measured, found["two runs"].note) == (False, None, "got nan")
    assert (found["contract"].ok, found["contract"].unit) == (False, "EncoderError")
    assert "contains NaN or infinity" in found["contract"].note


def test_an_error_is_a_line_and_the_other_checks_are_made(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    result = check("failing", log=heard.append)
    assert result.broken == ["memory", "speed", "two runs", "contract"]
    assert by_name(result)["two runs"] == CheckLine("two runs", None, None, False, "ZeroDivisionError", "of its own")
    assert all(text.startswith("Traceback") for text in heard)
    assert len(heard) == 4

    def full(self, waveforms, views):
        raise EncoderError("no memory is left.")

    monkeypatch.setattr(HuggingFaceEncoder, "encode", full)
    result = check(str(checkpoint), "cpu", log=heard.append)
    assert result.broken == ["layers"]
    assert len(heard) == 4


def test_numbers_are_compared_at_their_scale() -> None:
    """float32 has 24 bits, and large networks have layers with numbers in the hundreds."""

    @dataclass(frozen=True)
    class Rounding(plugins.Levels):
        error: float = 0.0

        def encode(self, waveforms, views):
            batch = super().encode(waveforms, views)
            return {view: rows * np.float32(1 + self.error * (len(waveforms) > 1)) for view, rows in batch.items()}

    check_encoder(Rounding(scale=1000.0, error=2e-6))
    for scale, error in ((1000.0, 2e-5), (1.0, 2e-5)):
        with pytest.raises(EncoderError, match=r"'pooled' differs by \d"):
            check_encoder(Rounding(scale=scale, error=error))


def test_nothing_that_is_not_a_number_passes() -> None:
    assert CheckLine.within("a", 1e-5, 1e-5, "").ok
    assert not CheckLine.within("a", 1.1e-5, 1e-5, "").ok
    assert [CheckLine.within("a", value, 1, "").ok for value in (math.nan, math.inf)] == [False, False]
    assert steps.largest_turn(np.ones((2, 3)), np.array([[2, 2, 2], [1, 1, -1.0]])) == pytest.approx(2 / 3)
    assert steps.largest_turn(np.zeros((1, 3)), np.zeros((1, 3))) == 0
    assert steps.largest_turn(np.zeros((1, 3)), np.ones((1, 3))) == 1
    assert math.isnan(steps.largest_turn(np.full((1, 3), np.nan), np.ones((1, 3))))


def test_a_gpu_is_measured_by_torchs_own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes in use, at the peak, reserved and free on the second GPU, as torch counts them."""
    device, asked = torch.device("cuda:1"), []
    counts = {"memory_allocated": 3e6, "max_memory_allocated": 8e6, "memory_reserved": 5e6, "mem_get_info": (7e6, 9e6)}
    for name, value in {**counts, "reset_peak_memory_stats": None}.items():
        monkeypatch.setattr(torch.cuda, name, lambda of, value=value: asked.append(of) or value)
    assert (memory.restart_peak(device), memory.peak_of(device), memory.free_mb(device)) == (3.0, 8.0, 9.0)
    assert set(asked) == {device}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone measures it")
def test_the_peak_of_a_part_of_the_work_is_measured() -> None:
    cpu = torch.device("cpu")
    before = memory.restart_peak(cpu)
    np.ones(30_000_000).sum()  # 240 MB, given back
    assert 200 < memory.peak_of(cpu) - before < 400
    assert memory.restart_peak(cpu) < before + 100
    assert memory.peak_of(cpu) < before + 150
    assert memory.free_mb(cpu) > 100


RESULT = EncoderCheck(
    *("tiny", "some/tiny", "packed", "f" * 64, "cpu", "fp32", "0.1"),
    {"cpu": "Some CPU", "cores": 2, "threads": 2, "memory_gb": 8.0, "instructions": ["avx2"], "cuda": "Some GPU"}
    | {"torch": "2", "transformers": "5", "numpy": "2", "python": "3.11", "os": "Linux x86_64"},
    ("note: of the encoder",),
    (
        CheckLine.fact("speed", 21.44, "s of audio a second"),
        CheckLine.skipped("share of the limit", "operations are counted for the packed engine alone"),
        CheckLine.within("frames: beside a long clip", 0.000122, 0.014, "distance by the norm of the vector"),
        CheckLine.within("layer 24", 3.25e-4, 1e-5, "largest difference"),
    ),
)


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_fits_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    show_check(RESULT)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    (header,) = [line for line in lines if line.startswith("check")]
    assert header.split() == ["check", "measured", "bound", "result", "about"]
    (broken,) = [line for line in lines if line.startswith("layer 24")]
    assert broken.split()[2:] == ["0.000325", "1e-05", "BROKEN", "largest", "difference"]
    assert any(line.split() == ["fingerprint", "f" * 64] for line in lines)


def test_through_a_pipe_the_table_is_tab_separated(capsys: pytest.CaptureFixture[str]) -> None:
    show_check(RESULT)
    cells = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert cells[-1] == ["layer 24", "0.000325", "1e-05", "BROKEN", "largest difference"]
    assert ["gpu", "Some GPU"] in cells


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ser", *map(str, arguments)])
    return cli.exit_code()


def test_the_command_prints_one_document_and_its_exit_code_says_whether_all_is_well(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "check", checkpoint, "--device", "cpu", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["broken"] == []
    assert {"encoder", "engine", "fingerprint", "device", "precision", "machine", "checks"} <= set(document)
    assert {"name", "measured", "bound", "ok", "unit", "note"} == set(document["checks"][0])
    assert run(monkeypatch, "check", "padded", "--json") == 1
    out, err = capsys.readouterr()
    assert len(json.loads(out)["broken"]) == 3
    assert err.startswith("error: levels: 3 checks of 12 failed: batch: beside a long clip")
    assert run(monkeypatch, "check", "padded") == 1
    assert "BROKEN" in capsys.readouterr().out
    assert run(monkeypatch, "check", "nobody") == 1
    assert run(monkeypatch, "check", "mfcc", "--precision", "bf16") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "no encoder 'nobody'" in err


def test_a_whole_check_on_a_terminal(tmp_path: Path) -> None:
    code, screen = in_terminal(["check", "mfcc"], 80, tmp_path)
    assert code == 0
    assert "two runs" in screen
    assert max(map(len, screen.splitlines())) <= 80
