"""Benchmark of stage 1: seconds of audio encoded in a second, by transformers and by the packed engine.

    python -m benchmarks.extract                                  synthetic clips, wav2vec2-base with random weights
    python -m benchmarks.extract --root data/ravdess --all        clips of RAVDESS, and all of them from file to shard
    python -m benchmarks.extract --device cuda

All ways encode the same clips in one process, in turns, into the time means of all hidden states:

    plain loop       transformers, one clip at a time, as its documentation shows; also under autocast
    padded batch     transformers, 8 clips padded to the longest, means over the frames of each clip
    oracle           `HuggingFaceEncoder`: clips of equal length together, without padding
    packed           the packed engine, in each precision that is fast on this processor

The columns of the results:

    of_limit         speed relative to the fastest large matrix product of this precision in the same rounds, by the
                     number of operations of the network for a second of audio
    moves            largest difference from the oracle in float32, over all layers
    turns            1 minus the smallest cosine with the vectors of the oracle in float32
    memory_gb        peak memory above that of the loaded model, measured in a separate process

On a GPU, the plain loop and the padded batch run with TF32 as torch has it by default, which is what users get.

Speeds of two machines cannot be compared; the ratios of one run can.
"""

from __future__ import annotations

import functools
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import soundfile
import torch
import typer

from embedcache import EmbeddingStore, Manifest, add_keys, datasets, extract, read
from embedcache.audio.decode import Waveform
from embedcache.cache.extract import packs
from embedcache.checking.limits import finished, operations, product_operations, products_of
from embedcache.checking.memory import peak_of, restart_peak
from embedcache.checking.timing import interleave
from embedcache.encoder import VIEWS, pick_device
from embedcache.encoders.checkpoint import Checkpoint, open_checkpoint, untrained
from embedcache.encoders.engine.convolutions import FrontEnd
from embedcache.encoders.engine.linear import DTYPES, is_fast
from embedcache.encoders.engine.network import Network
from embedcache.encoders.engine.packed import Packed
from embedcache.encoders.engine.pooling import Collector
from embedcache.encoders.engine.positions import Positions
from embedcache.encoders.hub import UNTRAINED
from embedcache.encoders.huggingface import HuggingFaceEncoder
from embedcache.progress import silent, terminal

from ._measure import RESULTS, bars, load, machine, run, save, slug, table

RATE = 16_000
PLAIN, ORACLE = "plain loop, fp32", "oracle, fp32"
COLUMNS = ("way", "audio_per_second", "slowest", "fastest", "times_as_fast", "of_limit", "moves", "turns", "memory_gb")
ENDS = ("way", "clips", "audio_seconds", "seconds", "audio_per_second", "of_encoder_alone")
PADDED = 8  # clips in a padded batch
# Clips of the measurement from file to shard, unless all are asked for, and clips after which the other side has its
# turn. On a GPU they fill nine packs, so that its lanes have work.
END_TO_END = {"cpu": 96, "cuda": 1440}
CHUNK = {"cpu": 240, "cuda": 1440}
STAGES = {
    "convolutions": (FrontEnd, "__call__"),
    "positions": (Positions, "__call__"),
    "attention": (Network, "_attend"),
    "blocks": (Network, "_block"),  # attention is taken off
    "means": (Collector, "add"),
}

TF32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32  # before the engine turns it off

Row = dict[str, Any]
Encode = Callable[[], np.ndarray]  # gives (n, layers, dim)


@dataclass(frozen=True)
class Work:
    """What every way has to do."""

    waves: Sequence[Waveform]
    checkpoint: str
    device: str

    @property
    def audio(self) -> float:
        """Seconds."""
        return sum(map(len, self.waves)) / RATE

    @property
    def operations(self) -> float:
        """Additions and multiplications of the network."""
        return sum(operations(opened(self.checkpoint).model.config, len(wave)) for wave in self.waves)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    root: Annotated[Path | None, typer.Option(help="Folder of RAVDESS.", show_default="synthetic clips")] = None,
    checkpoint: Annotated[
        str, typer.Option(help="Checkpoint: a folder or a hub id.", show_default="random weights")
    ] = UNTRAINED,
    device: Annotated[str, typer.Option(help="Device: cpu, cuda or cuda:N.")] = "cpu",
    clips: Annotated[int, typer.Option(min=1, help="Number of clips that every way encodes.")] = 24,
    rounds: Annotated[int, typer.Option(min=1, help="Number of timed runs of each way.")] = 5,
    every: Annotated[bool, typer.Option("--all", help="Measure from file to shard with all clips.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the results.", show_default="benchmarks/results")] = RESULTS,
) -> None:
    """Measure every way to encode clips, and the time from file to shard."""
    before = load()
    with tempfile.TemporaryDirectory() as scratch:
        together = END_TO_END[torch.device(device).type]
        folder = root or made_up(Path(scratch) / "clips", max(clips, together))
        manifest = datasets.get("ravdess").manifest(folder)
        work = Work(some_waves(manifest, clips), checkpoint, device)
        rows = measure_ways(work, rounds)
        stages = [row for precision in precisions(device) for row in measure_stages(work, precision)]
        chosen = manifest if every else Manifest(manifest.dataset, manifest.clips[:together])
        ends = measure_ends(chosen, work, Path(scratch), 1 if every else 2)
    table(rows, COLUMNS)
    table(stages, ("precision", "stage", "seconds", "share"))
    table(ends, ENDS)
    about = {"load_before": before, "rounds": rounds, "checkpoint": Path(checkpoint).name, "device": device}
    about |= {"clips": "RAVDESS" if root else "made up", "audio_seconds": round(work.audio, 1)}
    write(rows, about | {"stages": stages, "end_to_end": ends}, work, out)


def made_up(folder: Path, count: int) -> Path:
    """Noise under RAVDESS's names, 48 kHz and 16 bits as RAVDESS has them, 3 to 4.5 s long."""
    rng = np.random.default_rng(0)
    for number in range(count):
        actor, rest = number % 24 + 1, number // 24
        emotion, statement, repetition = rest % 8 + 1, rest // 8 % 2 + 1, rest // 16 % 2 + 1
        name = f"03-01-{emotion:02d}-{rest // 32 + 1:02d}-{statement:02d}-{repetition:02d}-{actor:02d}.wav"
        sound = 0.1 * rng.standard_normal(int(48_000 * rng.uniform(3, 4.5)))
        (folder / f"Actor_{actor:02d}").mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"Actor_{actor:02d}" / name, sound, 48_000, subtype="PCM_16")
    return folder


def some_waves(manifest: Manifest, count: int) -> list[Waveform]:
    """Clips from all over a dataset."""
    chosen = np.linspace(0, len(manifest) - 1, min(count, len(manifest))).astype(int)
    return [read(manifest.clips[number].path, RATE) for number in chosen]


@functools.cache
def opened(checkpoint: str) -> Checkpoint:
    """The model, in float32 on the CPU; loaded once."""
    return untrained("fp32") if checkpoint == UNTRAINED else open_checkpoint(checkpoint, "", "fp32")


def plain_loop(work: Work, precision: str) -> Encode:
    """What one finds in tutorials and toolkits: a clip at a time."""
    checkpoint = opened(work.checkpoint)
    model, features = checkpoint.model.to(work.device), checkpoint.features

    def encode() -> np.ndarray:
        rows = []
        with (
            default_tf32(work.device),
            torch.inference_mode(),
            torch.autocast(torch.device(work.device).type, DTYPES[precision], enabled=precision != "fp32"),
        ):
            for wave in work.waves:
                inputs = features(wave, sampling_rate=RATE, return_tensors="pt").to(work.device)
                states = model(**inputs, output_hidden_states=True).hidden_states
                rows.append(torch.cat([state.float().mean(dim=1) for state in states]).cpu().numpy())
        return np.stack(rows)

    return encode


def padded_batch(work: Work, precision: str) -> Encode:
    """The same with clips padded to the longest of their batch; the means are over each clip's own frames."""
    checkpoint = opened(work.checkpoint)
    model, features = checkpoint.model.to(work.device), checkpoint.features

    def encode() -> np.ndarray:
        rows: list[np.ndarray] = []
        with default_tf32(work.device), torch.inference_mode():
            for begin in range(0, len(work.waves), PADDED):
                batch = list(work.waves[begin : begin + PADDED])
                inputs = features(batch, sampling_rate=RATE, padding=True, return_tensors="pt").to(work.device)
                states = torch.stack(model(**inputs, output_hidden_states=True).hidden_states, 1)
                frames = model._get_feat_extract_output_lengths(torch.tensor([len(wave) for wave in batch])).tolist()
                rows += [s[:, :n].mean(1).cpu().numpy() for s, n in zip(states, frames, strict=True)]
        return np.stack(rows)

    return encode


@contextmanager
def default_tf32(device: str) -> Iterator[None]:
    """TF32 as torch had it when it was imported; afterwards as the engine needs it."""
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = TF32
    try:
        yield
    finally:
        pick_device(device)


def oracle(work: Work, precision: str) -> Encode:
    """Our own slow way."""
    encoder = HuggingFaceEncoder.of(opened(work.checkpoint), pick_device(work.device))
    return lambda: np.asarray(encoder.encode(work.waves, ["layers"])["layers"])


def packed(work: Work, precision: str) -> Encode:
    """Our own fast way."""
    encoder = engine(work, precision)
    return lambda: np.asarray(encoder.encode(work.waves, ["layers"])["layers"])


def engine(work: Work, precision: str) -> Packed:
    """The packed engine of a precision."""
    checkpoint = opened(work.checkpoint)
    info = replace(checkpoint.info, precision=precision)
    return Packed.of(replace(checkpoint, info=info), pick_device(work.device))


WAYS: Mapping[str, Callable[[Work, str], Encode]] = {
    PLAIN: plain_loop,
    "plain loop, bf16": plain_loop,
    "padded batch, fp32": padded_batch,
    ORACLE: oracle,
    "packed, fp32": packed,
    "packed, bf16": packed,
    "packed, fp16": packed,
}


def precision_of(way: str) -> str:
    """The last word of its name."""
    return way.rpartition(", ")[2]


def precisions(device: str) -> list[str]:
    """Those that this processor has instructions for."""
    return [precision for precision in DTYPES if is_fast(torch.device(device).type, precision)]


def measure_ways(work: Work, rounds: int) -> list[Row]:
    """A row a way."""
    ways = [way for way in WAYS if precision_of(way) in precisions(work.device)]
    encodes = {way: WAYS[way](work, precision_of(way)) for way in ways}
    results: dict[str, np.ndarray] = {}
    products = {key: multiply for p in precisions(work.device) for key, multiply in products_of(p, work.device)}
    kept = {way: functools.partial(_keep, results, way, encode) for way, encode in encodes.items()}
    seconds = interleave({**kept, **products}, rounds, terminal)
    rows = []
    for way in ways:
        limit = max(
            product_operations(work.device) / median(seconds[key])
            for key in products
            if precision_of(key) == precision_of(way)
        )
        row = speeds(way, work, seconds[way]) | distance(results[way], results[ORACLE])
        row["times_as_fast"] = round(median(seconds[PLAIN]) / median(seconds[way]), 2)
        row["of_limit"] = round(work.operations / median(seconds[way]) / limit, 3)
        rows.append(row | {"memory_gb": memory_over_model(way, work), "limit_gflops": round(limit / 1e9)})
    return rows


def _keep(results: dict[str, np.ndarray], way: str, encode: Encode) -> None:
    results[way] = encode()


def speeds(way: str, work: Work, seconds: Sequence[float]) -> Row:
    """Seconds of audio a second: median and range."""
    values = {"audio_per_second": median(seconds), "slowest": max(seconds), "fastest": min(seconds)}
    return {"way": way, **{name: round(work.audio / value, 2) for name, value in values.items()}}


def distance(got: np.ndarray, wanted: np.ndarray) -> Row:
    """How far vectors (n, layers, dim) lie from the oracle's."""
    norms = np.linalg.norm(got, axis=2) * np.linalg.norm(wanted, axis=2)
    cosine = float(((got.astype(np.float64) * wanted).sum(2) / norms).min())
    return {"moves": float(f"{np.abs(got - wanted).max():.2g}"), "turns": float(f"{max(1 - cosine, 0.0):.2g}")}


def memory_over_model(way: str, work: Work) -> float | None:
    """GB at the peak, above those with the model loaded, in a process of its own."""
    if work.device != "cpu":
        return _peak(way, work)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak, way, work).result()


def _peak(way: str, work: Work) -> float | None:
    encode, device = WAYS[way](work, precision_of(way)), torch.device(work.device)
    before = restart_peak(device)
    if before is None:
        return None
    encode()
    return round((peak_of(device) - before) / 1000, 2)


def measure_stages(work: Work, precision: str) -> list[Row]:
    """Where the packed engine's time goes, in one run."""
    encoder = engine(work, precision)
    encoder.encode(work.waves, ["layers"])
    with timed(work.device) as spent:
        begin = time.perf_counter()
        encoder.encode(work.waves, ["layers"])
        total = time.perf_counter() - begin
    spent["linear layers and norms"] = spent.pop("blocks") - spent["attention"]
    spent["else"] = total - sum(spent.values())
    return [
        {"precision": precision, "stage": stage, "seconds": round(took, 4), "share": round(took / total, 3)}
        for stage, took in spent.items()
    ]


@contextmanager
def timed(device: str) -> Iterator[dict[str, float]]:
    """Seconds in each of STAGES; on a GPU, with a wait after each call."""
    spent = dict.fromkeys(STAGES, 0.0)
    before = {stage: getattr(owner, method) for stage, (owner, method) in STAGES.items()}

    def wrap(stage: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            begin = time.perf_counter()
            result = finished(before[stage](*arguments), device)
            spent[stage] += time.perf_counter() - begin
            return result

        return call

    for stage, (owner, method) in STAGES.items():
        setattr(owner, method, wrap(stage))
    try:
        yield spent
    finally:
        for stage, (owner, method) in STAGES.items():
            setattr(owner, method, before[stage])


def measure_ends(manifest: Manifest, work: Work, scratch: Path, rounds: int) -> list[Row]:
    """From files to committed shards, against the encoder alone on waveforms in memory, the model loaded for both.

    Both sides take the clips CHUNK by CHUNK, in turns.
    """
    rows, size = [], CHUNK[torch.device(work.device).type]
    for precision in precisions(work.device):
        encoder = engine(work, precision)
        seconds = dict.fromkeys(("encoder alone", "files to shards"), 0.0)
        chunks = [manifest.clips[begin : begin + size] for begin in range(0, len(manifest), size)] * rounds
        audio = 0.0
        for number, clips in enumerate(chunks):
            chunk = Manifest(manifest.dataset, clips)
            packed_waves = _packs_of(chunk, encoder.pack)
            audio += sum(len(wave) for pack in packed_waves for wave in pack) / RATE
            ways = {
                "encoder alone": functools.partial(_alone, encoder, packed_waves),
                "files to shards": functools.partial(_whole, encoder, chunk, scratch),
            }
            turns = dict(list(ways.items())[:: -1 if number % 2 else 1])
            for way, (once,) in interleave(turns, 1, terminal, warm_up=number == 0).items():
                seconds[way] += once
        for way, took in seconds.items():
            row: Row = {"way": f"{way}, {precision}", "clips": sum(map(len, chunks)), "audio_seconds": round(audio)}
            row |= {"seconds": round(took, 2), "audio_per_second": round(audio / took, 2)}
            rows.append(row | {"of_encoder_alone": round(seconds["encoder alone"] / took, 3)})
    return rows


def _packs_of(manifest: Manifest, seconds: float) -> list[list[Waveform]]:
    """As `extract` takes them: each recording once, in its packs."""
    clips = {clip.key: clip for clip in add_keys(manifest).usable}.values()
    return [[read(clip.path, RATE) for clip in pack] for pack in packs(list(clips), seconds)]


def _alone(encoder: Packed, packed_waves: Sequence[Sequence[Waveform]]) -> None:
    """In as many lanes as the encoder has."""
    if encoder.lanes == 1:
        for waves in packed_waves:
            encoder.encode(waves, VIEWS)
        return
    with ThreadPoolExecutor(encoder.lanes) as lanes:
        list(lanes.map(lambda waves: encoder.encode(waves, VIEWS), packed_waves))


def _whole(encoder: Packed, manifest: Manifest, scratch: Path) -> None:
    """Reading, hashing, decoding, encoding, writing, into a cache that is new."""
    cache = Path(tempfile.mkdtemp(dir=scratch))
    extract(add_keys(manifest), encoder, EmbeddingStore.of(cache, encoder.info), progress=silent)


def write(rows: Sequence[Row], about: Row, work: Work, folder: Path) -> None:
    """The results as JSON and as a picture."""
    facts = machine()
    name = "extract" if work.device == "cpu" else "extract-cuda"
    path = save(name, facts, rows, about, folder)
    picture = bars(
        folder / f"{name}-{slug(facts)}.png",
        f"Seconds of audio encoded in a second: wav2vec 2.0, time means of all layers, clips: {about['clips']}",
        [row["way"] for row in rows],
        [row["audio_per_second"] for row in rows],
        "s/s",
        f"{facts['cuda'] or facts['cpu']}, {facts['cores']} cores. Medians of {about['rounds']} runs in turns.",
        [row["way"].startswith("packed") for row in rows],
    )
    typer.echo(f"written: {path}\nwritten: {picture}", err=True)


if __name__ == "__main__":
    run(app)
