"""Benchmark of a whole GPU: is every vector right, how fast is it, what does it survive? Meant to take 8 minutes.

    python -m benchmarks.gpu                              networks with random weights, made-up clips
    python -m benchmarks.gpu --root data/ravdess          clips of RAVDESS from files to shards
    python -m benchmarks.gpu --tiny --device cpu          small networks, and the steps that a CPU can make

The steps:

    check             `ser check` of each network in each precision: every layer against transformers, batches against
                      waveforms alone, two runs; speed of the encoder alone, its share of the limit, and peak memory
    full GPU          a GPU whose memory is too small for a pack: the same vectors as with room, and nothing left behind
    files to shards   `ser extract`; a second time, when all is stored; and again with kills: the same vectors
    fine-tuning       one epoch of `ser finetune`

Exit code 1 if a step fails; the others are made nevertheless. A row of the table has `ok` and the seconds of its step.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
import torch
import typer

from embedcache import Artifacts, EmbeddingStore, SerError, add_keys, datasets, load_encoder
from embedcache.checking.result import EncoderCheck
from embedcache.checking.run import check
from embedcache.checking.steps import MEMORY, SHARE, SPEED
from embedcache.checks import TOLERANCE
from embedcache.encoder import pick_device
from embedcache.errors import first_line
from embedcache.progress import terminal

from ._measure import RESULTS, load, machine, run, save, table

RATE = 16_000
PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "do_stable_layer_norm": True,
}
NETWORKS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "wav2vec2-base": ("Wav2Vec2", {}),
    "wav2vec2-large": ("Wav2Vec2", LARGE),
    "wavlm-base": ("WavLM", {}),
}
TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": (32,) * 7,
    "num_conv_pos_embedding_groups": 4,
}
FIRST = "wav2vec2-base"  # the network of the other steps
KILLS = 3
ROOM = 1.5e9  # bytes that a full GPU has left
FULL_CLIPS = 120  # clips in the pack that does not fit
KEPT_MB = 100  # most memory that may stay in use after a pack that did not fit
COLUMNS = ("step", "ok", "seconds", "audio_per_second", "of_limit", "peak_gb", "clips", "moved", "note")

Row = dict[str, Any]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Place:
    """Where a run finds and puts its files, and on which device it computes."""

    folder: Path
    device: str
    root: Path | None  # of RAVDESS; None for made-up clips
    tiny: bool

    @property
    def clips(self) -> Path:
        """Folder of the clips that are extracted."""
        return self.root or self.folder / "clips"

    @property
    def dataset(self) -> str:
        """Name of the adapter that reads them."""
        return "ravdess" if self.root else "folder"

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that are checked on this kind of device."""
        return PRECISIONS[torch.device(self.device).type]

    def network(self, name: str) -> str:
        """Folder of a checkpoint."""
        return str(self.folder / name)


@app.command()
def main(
    device: Annotated[str, typer.Option(help="Device: cuda, cuda:N or cpu.")] = "cuda",
    root: Annotated[Path | None, typer.Option(help="Folder of RAVDESS.", show_default="made-up clips")] = None,
    tiny: Annotated[bool, typer.Option("--tiny", help="Small networks and few clips: a test of the steps.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the results.", show_default="benchmarks/results")] = RESULTS,
) -> None:
    """Make every step, print a row for each, and end with exit code 1 if one fails."""
    before = load()
    pick_device(device)
    with tempfile.TemporaryDirectory() as scratch:
        place = Place(Path(scratch), device, root, tiny)
        steps = prepare(place)
        with terminal("measuring", total=len(steps), unit="steps") as advance:
            rows = [attempt(name, step, advance) for name, step in steps.items()]
    table(rows, COLUMNS)
    about = {"load_before": before, "device": device, "clips": "RAVDESS" if root else "made up"}
    name = "gpu-tiny" if tiny else "gpu"
    typer.echo(f"written: {save(name, machine(), rows, about, out)}", err=True)
    if failed := [row["step"] for row in rows if not row["ok"]]:
        raise SerError(f"these steps failed: {'; '.join(failed)}. The results have the reasons.")


def prepare(place: Place) -> dict[str, Callable[[], Row]]:
    """Write checkpoints and clips, and return the steps by name."""
    for name, (family, config) in NETWORKS.items():
        write_checkpoint(place.network(name), family, {**config, **(TINY if place.tiny else {})})
    write_clips(place.folder / "few", 16 if place.tiny else 64)
    if not place.root:
        write_clips(place.clips, 8 if place.tiny else 1440)
    return dict(list_steps(place))


def list_steps(place: Place) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Yield the name and the function of each step that the device can make."""
    for network in NETWORKS:
        for precision in place.precisions:
            yield f"check, {network}, {precision}", partial(checked, place, network, precision)
    if torch.device(place.device).type == "cuda":
        yield "full GPU", partial(full, place)
    for precision in place.precisions[:2]:
        yield f"files to shards, {precision}", partial(extracted, place, precision)
    yield "files to shards, fp32, killed", partial(killed, place)
    for precision in place.precisions[:2]:
        yield f"fine-tuning, {precision}", partial(finetuned, place, precision)


def attempt(name: str, step: Callable[[], Row], advance: Callable[[float], None]) -> Row:
    """Make a step, and return its row; an error is a row, too."""
    begin = time.perf_counter()
    try:
        row = step()
    except Exception as error:  # of a driver, or of a library: the other steps are made nevertheless
        row = {"ok": False, "note": f"{type(error).__name__}: {first_line(error)}"}
    advance(1)
    return {"step": name, **row, "seconds": round(time.perf_counter() - begin, 2)}


def checked(place: Place, network: str, precision: str) -> Row:
    """`ser check` of one network."""
    result: EncoderCheck = check(place.network(network), place.device, precision)
    found = {one.name: one.measured for one in result.checks}
    layers = [value for name, value in found.items() if name.startswith("layer ") and value is not None]
    return {
        "ok": not result.broken,
        "audio_per_second": found.get(SPEED),
        "of_limit": found.get(SHARE),
        "peak_gb": found.get(MEMORY),
        "moved": max(layers, default=None),
        "note": "; ".join(result.broken),
        "checks": result.to_dict()["checks"],
    }


def full(place: Place) -> Row:
    """A GPU with room for a part of a pack: packs are halved, and rows and memory are as before."""
    encoder, rng = load_encoder(place.network(FIRST), place.device), np.random.default_rng(0)
    waves = [noise(rng) for _ in range(12 if place.tiny else FULL_CLIPS)]
    with torch.cuda.device(place.device):
        wanted = np.asarray(encoder.encode(waves, ("layers",))["layers"])
        torch.cuda.empty_cache()
        held, failed = torch.cuda.memory_allocated(), torch.cuda.memory_stats()["num_ooms"]
        with little_room():
            got = np.asarray(encoder.encode(waves, ("layers",))["layers"])
        halvings = torch.cuda.memory_stats()["num_ooms"] - failed
        kept = (torch.cuda.memory_allocated() - held) / 1e6
    moved = float(np.abs(got - wanted).max())
    note = f"{halvings} times out of memory; {kept:.0f} MB kept"
    return {"ok": halvings > 0 and kept < KEPT_MB and moved <= TOLERANCE, "moved": moved, "note": note}


@contextmanager
def little_room() -> Iterator[None]:
    """Let torch have ROOM more bytes of the current GPU than it has reserved, and no more."""
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + ROOM) / total)
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def extracted(place: Place, precision: str) -> Row:
    """`ser extract` of all clips into an empty cache, and once more into the same."""
    words, artifacts = extract_words(place, precision), place.folder / precision
    seconds = [ser(*words, "--artifacts", artifacts) for _ in range(2)]
    vectors = stored(place, precision, artifacts)
    audio = sum(soundfile.info(path).duration for path in sorted(place.clips.rglob("*.wav")))
    note = f"command {seconds[0]:.1f} s, with the start of Python; again {seconds[1]:.1f} s"
    ok = bool(np.isfinite(vectors).all())
    return {"ok": ok, "clips": len(vectors), "audio_per_second": audio / seconds[0], "note": note}


def killed(place: Place) -> Row:
    """`ser extract`, killed several times before it may end: the vectors are those of a run without kills."""
    words, artifacts = extract_words(place, "fp32"), place.folder / "killed"
    took = ser(*words, "--artifacts", place.folder / "unkilled")
    for number in range(KILLS):
        ser(*words, "--artifacts", artifacts, kill_after=took * random.Random(number).uniform(0.3, 0.9))
    ser(*words, "--artifacts", artifacts)
    ser("cache", "verify", "--artifacts", artifacts)
    vectors = stored(place, "fp32", artifacts)
    moved = float(np.abs(vectors - stored(place, "fp32", place.folder / "unkilled")).max())
    return {"ok": moved <= TOLERANCE, "clips": len(vectors), "moved": moved, "note": f"{KILLS} kills"}


def finetuned(place: Place, precision: str) -> Row:
    """One epoch of `ser finetune` over few clips."""
    where = ("--root", place.folder / "few", "--artifacts", place.folder / "tuned", "--device", place.device)
    settings = ("--precision", precision, "--epochs", 1, "--patience", 1, "--seconds", 2)
    out = place.folder / f"tuned-{precision}"
    seconds = ser("finetune", "--dataset", "folder", "--encoder", place.network(FIRST), *where, *settings, "--out", out)
    written = (out / "model.safetensors").exists()
    return {"ok": written, "clips": 16 if place.tiny else 64, "note": f"command {seconds:.1f} s"}


def extract_words(place: Place, precision: str) -> tuple[object, ...]:
    """Return the words of `ser extract` but for --artifacts."""
    where = ("--dataset", place.dataset, "--root", place.clips, "--device", place.device)
    return ("extract", *where, "--encoder", place.network(FIRST), "--precision", precision)


def stored(place: Place, precision: str, artifacts: Path) -> np.ndarray:
    """Return the layers of all clips in a cache, (n, layers, dim)."""
    keys = [clip.key for clip in add_keys(datasets.get(place.dataset).manifest(place.clips)).usable]
    info = load_encoder(place.network(FIRST), place.device, precision).info
    return np.asarray(EmbeddingStore.of(Artifacts(artifacts).cache, info).read(keys, "layers"))


def ser(*words: object, kill_after: float | None = None) -> float:
    """Run `ser` in a process of its own, and return its seconds. With `kill_after`, kill it after so many seconds.

    Raises SerError if it ends with an error.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said = process.communicate(timeout=kill_after)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return time.perf_counter() - begin
    if process.returncode:
        raise SerError(f"`ser {words[0]}` ended with exit code {process.returncode}: {said[-2000:]}")
    return time.perf_counter() - begin


def write_checkpoint(folder: str, family: str, config: Mapping[str, Any]) -> None:
    """Write a network with random weights from a fixed seed, as transformers saves it."""
    import transformers

    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}Model")(getattr(transformers, f"{family}Config")(**config))
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)


def write_clips(root: Path, count: int) -> None:
    """Write clips of noise, of four labels and eight speakers, as `--dataset folder` reads them."""
    rng = np.random.default_rng(1)
    for number in range(count):
        path = root / f"label{number % 4}" / f"s{number // 4 % 8}_{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(rng), RATE)


def noise(rng: np.random.Generator) -> np.ndarray:
    """Return 3 s to 4.5 s of noise, (samples,) float32."""
    return (0.1 * rng.standard_normal(int(RATE * rng.uniform(3, 4.5)))).astype(np.float32)


if __name__ == "__main__":
    run(app)
