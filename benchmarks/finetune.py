"""Benchmark of fine-tuning: training clips a second and peak memory, in fp32, in bf16 and with gradient checkpointing.

    python -m benchmarks.finetune                                     a small network on the CPU
    python -m benchmarks.finetune --full --device cuda --root DIR     wav2vec2-base's size, an epoch over RAVDESS

Each side is one epoch of `embedcache.finetune.train`, as `ser finetune` runs it, including decoding and saving, in a
process of its own; the sides run in turns. Without `--root`, the clips are noise with the mean duration of RAVDESS,
since the content of a clip does not affect the time. `loss` is the mean training loss of the epoch. All sides start
from the same weights and use the same batches, so its difference from that of fp32 is the effect of the side.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from embedcache import Artifacts, Clip, Manifest, Recording, datasets, keyed_manifest
from embedcache.checking.memory import forget_peak, memory_mb
from embedcache.encoders import UNTRAINED
from embedcache.finetune import FinetuneSettings, train
from embedcache.finetune.job import TrainingJob
from embedcache.progress import terminal

from ._measure import RESULTS, load, machine, run, save, table

SECONDS = 3.7  # the mean of RAVDESS
LABELS = ("angry", "calm", "disgust", "fearful", "happy", "neutral", "sad", "surprised")
SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "conv_dim": (64,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
PLAIN = FinetuneSettings(pooling="attention", epochs=1, patience=0, lr=3e-5)
SIDES = {
    "fp32": PLAIN,
    "bf16": replace(PLAIN, precision="bf16"),
    "fp32, checkpointing": replace(PLAIN, gradient_checkpointing=True),
    "fp32, last 2 blocks": replace(PLAIN, unfreeze="top:2"),
}
COLUMNS = ("side", "clips_per_second", "times_as_fast", "peak_mb", "loss")

Row = dict[str, Any]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    full: Annotated[
        bool, typer.Option("--full", help="Train a network of wav2vec2-base's size, not a small one.")
    ] = False,
    device: Annotated[str, typer.Option(help="Device: cpu or cuda.")] = "cpu",
    root: Annotated[Path | None, typer.Option(help="Folder of RAVDESS.", show_default="clips of noise")] = None,
    clips: Annotated[int, typer.Option(min=16, help="Number of clips of noise.")] = 96,
    rounds: Annotated[int, typer.Option(min=1, help="Number of epochs of each side.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder of the results.", show_default="benchmarks/results")] = RESULTS,
) -> None:
    """Measure an epoch of each side, in turns."""
    before = load()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        encoder = UNTRAINED if full else write_small(place / "small")
        used = ravdess_clips(place, root) if root else write_clips(place, clips)
        measured: dict[str, list[Row]] = {name: [] for name in SIDES}
        with terminal("fine-tuning", total=rounds * len(SIDES), unit="epochs") as advance:
            for number in range(rounds):
                for name in [*SIDES][number % len(SIDES) :] + [*SIDES][: number % len(SIDES)]:
                    folder = place / f"{number} {name}"
                    measured[name].append(apart(encoder, used, SIDES[name], folder, device))
                    advance(1)
    rows = summed(measured)
    table(rows, COLUMNS)
    facts = {"load_before": before, "rounds": rounds, "encoder": "base" if full else "small", "clips": len(used)}
    save(f"finetune-{'base' if full else 'small'}", machine(), rows, facts, out)


def write_small(folder: Path) -> str:
    """A seeded checkpoint of two layers."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(0)
    Wav2Vec2Model(Wav2Vec2Config(**SMALL)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return str(folder)


def write_clips(folder: Path, count: int) -> list[Clip]:
    """Clips of noise, from 0.8 to 1.2 of the mean length."""
    import soundfile

    rng, made = np.random.default_rng(0), []
    for number in range(count):
        seconds = SECONDS * (0.8 + 0.4 * rng.random())
        path = folder / f"{number}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(int(seconds * 48_000)), 48_000)
        label, key = LABELS[number % len(LABELS)], Recording.load(path).key
        made.append(Clip("noise", str(number), str(path), label, str(number % 8), key=key, seconds=seconds))
    return made


def ravdess_clips(folder: Path, root: Path) -> list[Clip]:
    """Return the clips of RAVDESS in a folder, with their keys."""
    manifest: Manifest = keyed_manifest(datasets.get("ravdess").manifest(root), Artifacts(folder), terminal)
    return list(manifest.usable)


def apart(encoder: str, clips: list[Clip], settings: FinetuneSettings, folder: Path, device: str) -> Row:
    """`measure` in a process of its own, whose memory nothing else has used."""
    return in_process(measure, encoder, clips, settings, folder, device)


def in_process(work: Callable[..., Row], *arguments: Any) -> Row:
    """Call a function in a new process. It may start processes itself, as those that load clips for a GPU."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def measure(encoder: str, clips: list[Clip], settings: FinetuneSettings, folder: Path, device: str) -> Row:
    """One epoch: clips a second, MB at the peak above what was held before, and the mean loss."""
    import torch

    forget_peak()
    held = memory_mb()
    made = train(TrainingJob(encoder, clips, (), settings, lambda truth, predicted: {}), folder, device)
    on_gpu = device.startswith("cuda")
    peak = torch.cuda.max_memory_allocated() / 1e6 if on_gpu else memory_mb(peak=True) - held
    return {"speed": made.card.clips_per_second, "peak": peak, "loss": made.card.history["train_loss"][0]}


def summed(measured: Mapping[str, list[Row]]) -> list[Row]:
    """Medians, and each side's speed as a multiple of the first one's."""
    first = median(row["speed"] for row in next(iter(measured.values())))
    return [
        {
            "side": name,
            "clips_per_second": round(median(row["speed"] for row in found), 3),
            "times_as_fast": round(median(row["speed"] for row in found) / first, 3),
            "peak_mb": round(median(row["peak"] for row in found), 1),
            "loss": found[0]["loss"],
        }
        for name, found in measured.items()
    ]


if __name__ == "__main__":
    run(app)
