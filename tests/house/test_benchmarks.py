"""The benchmarks run, and say what they measured; what the numbers are is no test's business."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import _measure
from benchmarks import extract as bench
from benchmarks import finetune as finetune_bench
from benchmarks import gpu as gpu_bench
from benchmarks import heads as heads_bench
from benchmarks import large as large_bench
from benchmarks import live as live_bench
from benchmarks import mapped as mapped_bench
from benchmarks import scale as scale_bench
from benchmarks import serve as serve_bench
from classifiers import heads
from classifiers.data.memmap import write_rows
from embedcache import checks
from embedcache.checking import limits, steps
from embedcache.checking.timing import interleave
from embedcache.encoder import pick_device
from embedcache.encoders.engine import packed


@pytest.mark.long
def test_every_way_to_the_vectors_is_measured(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(limits.SIDES, "cpu", 64)
    monkeypatch.setitem(bench.END_TO_END, "cpu", 4)
    monkeypatch.setattr(bench, "memory_over_model", lambda way, work: None)
    bench.main(None, str(checkpoint), "cpu", clips=3, rounds=1, every=False, out=tmp_path)
    (written,) = tmp_path.glob("extract-*.json")
    result = json.loads(written.read_text())
    rows = {row["way"]: row for row in result["rows"]}
    assert rows[bench.PLAIN]["times_as_fast"] == 1.0
    assert {"padded batch, fp32", "oracle, fp32", "packed, fp32"} <= set(rows)
    assert rows["packed, fp32"]["moves"] <= 1e-5
    assert rows["oracle, fp32"]["moves"] <= 1e-5
    assert rows["padded batch, fp32"]["moves"] > 1e-3  # what padding does to a group norm
    assert {row["stage"] for row in result["stages"]} >= {"convolutions", "attention", "linear layers and norms"}
    ends = [row["way"] for row in result["end_to_end"]]
    assert ends[:2] == ["encoder alone, fp32", "files to shards, fp32"]
    assert written.with_suffix(".png").stat().st_size > 10_000
    assert "of_limit" in capsys.readouterr().out


def test_each_head_is_measured_against_its_librarys_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads_bench, "measure_jobs", lambda *arguments: [])
    heads_bench.main(None, None, None, "layers", rounds=1, quick=True, out=tmp_path)
    (written,) = tmp_path.glob("heads-quick-*.json")
    sides = [(row["head"], row["side"]) for row in json.loads(written.read_text())["rows"]]
    assert sides == [("logreg", "defaults"), ("logreg", "ours"), ("svm", "defaults"), ("svm", "ours")]


def test_fits_on_a_file_are_measured_by_their_peak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped_bench, "apart", mapped_bench.measure)
    mapped_bench.main(quick=True, out=tmp_path)
    (written,) = tmp_path.glob("mapped-quick-*.json")
    rows = json.loads(written.read_text())["rows"]
    assert [(row["head"], row["side"], row["rows"]) for row in rows] == [(h, "mapped", 20_000) for h in ("mlp", "lgbm")]
    assert all(row["peak_gb"] >= row["imports_gb"] > 0 and row["limit_gb"] == 1 for row in rows)
    assert all(row["accuracy"] > 0.2 for row in rows)  # chance is an eighth


def test_what_lies_in_memory_is_what_lies_in_the_file(tmp_path: Path) -> None:
    shape = mapped_bench.Shape(rows=3000, unseen=1000, dim=4)
    X = write_rows(tmp_path, (shape.all, shape.dim), mapped_bench.vectors(shape))
    mapped = mapped_bench.in_file(X.path, shape)
    held = mapped_bench.in_memory(mapped)
    assert isinstance(held.X, np.ndarray)
    np.testing.assert_array_equal(held.X, np.concatenate(list(mapped_bench.vectors(shape))))
    assert set(mapped.speakers[: shape.rows]).isdisjoint(mapped.speakers[shape.rows :])


def test_a_large_dataset_has_speakers_in_one_partition_each() -> None:
    arrays = large_bench.dataset(2000)
    pairs = set(zip(arrays["speaker"].tolist(), arrays["split"].tolist(), strict=True))
    counts = np.unique(arrays["speaker"], return_counts=True)[1]
    assert len(pairs) == len(counts) == 40
    assert {split for _, split in pairs} == {"Train", "Dev", "Test"}
    assert counts.max() > 5 * counts.min()
    assert len(np.unique(large_bench.speakers(150_000))) == 1400


@pytest.mark.long
@pytest.mark.parametrize(("clips", "names"), [(600, ["ridge"]), (10_000, None)])
def test_each_command_is_measured_on_a_large_dataset(clips: int, names: list[str] | None, tmp_path: Path) -> None:
    large_bench.main([clips], names, "partition", tmp_path, tmp_path)
    (written,) = tmp_path.glob("large-*.json")
    rows = json.loads(written.read_text())["rows"]
    fits = [f"head {name}" for name in names or heads.usual()]
    assert [row["step"] for row in rows] == ["import", *fits, "compare", "leaderboard", "report"]
    assert all(row["clips"] == clips and row["seconds"] > 0 and 0.01 < row["memory_gb"] < 24 for row in rows)


def test_sides_take_turns() -> None:
    ran: list[str] = []
    sides = {name: lambda name=name: ran.append(name) for name in "abc"}
    seconds = interleave(sides, rounds=3)
    assert "".join(ran) == "abc" + "abc" + "bca" + "cab"
    assert all(len(took) == 3 for took in seconds.values())


def test_the_work_of_the_network_is_counted() -> None:
    """About 14 GFLOP a second of audio for wav2vec2-base (convolutions 5, transformer 9)."""
    from transformers import Wav2Vec2Config

    one, ten = (limits.operations(Wav2Vec2Config(), 16_000 * n) / n / 1e9 for n in (1, 10))
    assert 13 < one < 15
    assert one < ten < one * 1.2
    got = bench.distance(np.ones((2, 3, 4)), np.ones((2, 3, 4)) * 2)
    assert got == {"moves": 1.0, "turns": 0.0}


def test_a_machine_is_named_by_its_facts() -> None:
    facts = {"cpu": "Intel(R) Xeon(R) CPU @ 2.60GHz", "cores": 2, "cuda": "NVIDIA H200"}
    assert _measure.slug(facts) == "intel-xeon-2-cores-nvidia-h200"
    assert {"cpu", "cores", "memory_gb", "instructions", "torch"} <= set(_measure.machine())


def test_the_store_is_measured_by_its_size_and_by_its_shards(tmp_path: Path) -> None:
    scale_bench.main(None, quick=True, place=tmp_path, out=tmp_path)
    (written,) = tmp_path.glob("scale-quick-*.json")
    rows = json.loads(written.read_text())["rows"]
    assert [row["clips"] for row in rows] == [1_000, 10_000, "growth"]
    assert all(row[name] > 0 for row in rows for name in scale_bench.MEASURES)
    scale_bench.main(8, quick=False, place=tmp_path, out=tmp_path)
    (written,) = tmp_path.glob("reading-*.json")
    assert [row["shards"] for row in json.loads(written.read_text())["rows"]] == [1, 8]
    assert {path.suffix for path in tmp_path.iterdir()} == {".json"}  # the stores are gone


@pytest.mark.long
def test_fine_tuning_is_measured_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune_bench, "apart", finetune_bench.measure)
    finetune_bench.main(False, "cpu", None, clips=16, rounds=1, out=tmp_path)
    (written,) = tmp_path.glob("finetune-small-*.json")
    rows = {row["side"]: row for row in json.loads(written.read_text())["rows"]}
    assert list(rows) == list(finetune_bench.SIDES)
    assert rows["fp32"]["times_as_fast"] == 1.0
    assert rows["fp32, checkpointing"]["loss"] == pytest.approx(rows["fp32"]["loss"], abs=1e-4)
    assert rows["bf16"]["loss"] == pytest.approx(rows["fp32"]["loss"], abs=0.05)


def test_an_epoch_may_start_the_processes_that_load_its_clips() -> None:
    row = finetune_bench.in_process(eval, "{'daemon': __import__('multiprocessing').current_process().daemon}")
    assert row == {"daemon": False}


def test_the_plain_loop_has_tf32_as_users_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(bench, "TF32", (False, True))
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    pick_device("cuda")
    with bench.default_tf32("cuda"):
        assert [flag.allow_tf32 for flag in flags] == [False, True]
    assert [flag.allow_tf32 for flag in flags] == [False, False]
    for flag, value in zip(flags, before, strict=True):
        flag.allow_tf32 = value


def test_memory_is_counted_on_the_gpu_that_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    for name in ("reset_peak_memory_stats", "memory_allocated", "max_memory_allocated", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda device=None: counted.append(str(device)) or 0)
    monkeypatch.setitem(bench.WAYS, bench.PLAIN, lambda work, precision: lambda: None)
    assert bench.memory_over_model(bench.PLAIN, bench.Work((), "", "cuda:1")) == 0
    limits.finished(None, "cuda:1")
    assert counted == ["cuda:1"] * 4


def test_made_up_clips_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.soundfile, "write", lambda path, *_, **__: path.touch())
    bench.made_up(tmp_path, 1440)
    assert len(list(tmp_path.rglob("*.wav"))) == 1440


@pytest.mark.long
def test_live_use_is_measured_alone_and_under_load(tmp_path: Path) -> None:
    live_bench.main(seconds=1.0, rounds=2, requests=3, ways="mfcc", out=tmp_path)
    (written,) = tmp_path.glob("live-quick-*.json")
    result = json.loads(written.read_text())
    assert [(row["way"], row["answers"]) for row in result["rows"]] == [("mfcc", 2)]
    assert [(row["clients"], row["busy"]) for row in result["load"]] == [(1, 0), (4, 0), (16, 0)]
    assert all(row["answers"] > 0 and row["memory_mb"] > 0 for row in result["load"])
    (cold,) = result["cold"]
    assert cold["requests"] == 3
    assert cold["demo_s"] > 0 < cold["predict_s"]


@pytest.mark.long
def test_the_steps_of_a_gpu_that_a_cpu_can_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(limits.SIDES, "cpu", 64)
    monkeypatch.setitem(packed.PACK, "cpu", 6.0)
    monkeypatch.setattr(checks, "LONG_CLIP_SECONDS", 4.0)
    monkeypatch.setattr(steps, "TURN", 1e-3)  # so few numbers as those of a tiny network turn further
    gpu_bench.main("cpu", None, tiny=True, out=tmp_path)
    (written,) = tmp_path.glob("gpu-tiny-*.json")
    rows = {row["step"]: row for row in json.loads(written.read_text())["rows"]}
    checked = [f"check, {network}, {precision}" for network in gpu_bench.NETWORKS for precision in ("fp32", "bf16")]
    shards = [f"files to shards, {what}" for what in ("fp32", "bf16", "fp32, killed")]
    assert list(rows) == [*checked, *shards, "fine-tuning, fp32", "fine-tuning, bf16"]
    assert all(row["ok"] for row in rows.values())
    assert all(rows[name]["audio_per_second"] > 0 and rows[name]["checks"] for name in checked)
    assert rows["files to shards, fp32, killed"]["clips"] == 8


def test_a_step_that_fails_is_a_row() -> None:
    def step() -> dict:
        raise RuntimeError("of a driver\nin two lines")

    row = gpu_bench.attempt("x", step, lambda done: None)
    assert (row["step"], row["ok"], row["note"]) == ("x", False, "RuntimeError: of a driver")


@pytest.mark.long
def test_joined_requests_are_measured_against_one_by_one(tmp_path: Path) -> None:
    serve_bench.main(seconds=1.0, requests=4, rounds=2, ways="functionals", clients="1,4", out=tmp_path)
    (written,) = tmp_path.glob("serve-1s-*.json")
    rows = json.loads(written.read_text())["rows"]
    assert [(row["clients"], row["side"]) for row in rows] == [(n, side) for n in (1, 4) for side in serve_bench.SIDES]
    assert all(row["answers_per_s"] > 0 and row["cpu_s"] > 0 and row["busy"] == 0 for row in rows)
    assert [row["times_as_fast"] for row in rows if row["side"] == "one by one"] == [1.0, 1.0]
