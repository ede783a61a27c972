"""Benchmark of live use: the time from the end of three seconds of speech to their probabilities, alone and under load.

    python -m benchmarks.live                        wav2vec2-base's size with random weights, and mfcc
    python -m benchmarks.live --seconds 60           60 s of load for each number of clients

Weights do not affect the time, so random ones are used. The benchmark has three parts:

    alone    one clip at a time in this process, in turns: `Predictor`, and what toolkits do, which is transformers'
             forward pass and then the same head
    load     requests over HTTP, as `curl` sends them, to a `ser demo` in a process of its own
    cold     the time from the start of `ser demo`, and of `ser predict`, to the first prediction

The memory is that of the `ser demo` process, after the first requests and after 1,000 more.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from classifiers import Predictor
from classifiers.saved.model_folder import load_model
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from classifiers.workflows.quickstart import NAME, sample
from embedcache import Artifacts, EmbeddingStore, SerError, extract, load_encoder
from embedcache.checking.timing import interleave
from embedcache.encoders import UNTRAINED
from embedcache.progress import terminal
from embedcache.synthetic import RATE, voice, wav_bytes

from ._measure import RESULTS, load, machine, run, save, table

CLIP = 3.0  # seconds
CLIENTS = (1, 4, 16)
REQUESTS = 1000  # that memory must not grow over
WAYS = {"mfcc": ("mfcc", "fp32"), "fp32": (UNTRAINED, "fp32"), "bf16": (UNTRAINED, "bf16")}
PLAIN = "transformers, fp32"
ALONE = ("way", "median_s", "p99_s", "times_as_fast", "answers")
LOAD = ("way", "clients", "answers_per_s", "median_s", "p99_s", "busy", "memory_mb")
COLD = ("way", "predict_s", "demo_s", "memory_mb", "after_1000_mb")

Row = dict[str, Any]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    seconds: Annotated[float, typer.Option(min=0.1, help="Seconds of load for each number of clients.")] = 60.0,
    rounds: Annotated[int, typer.Option(min=1, help="Number of clips that each way predicts alone.")] = 100,
    requests: Annotated[
        int, typer.Option(min=1, help="Number of requests between the two measurements of memory.")
    ] = REQUESTS,
    ways: Annotated[str, typer.Option(help="Ways, separated by commas: mfcc, fp32, bf16.")] = ",".join(WAYS),
    out: Annotated[Path, typer.Option(help="Folder of the results.", show_default="benchmarks/results")] = RESULTS,
) -> None:
    """Measure single predictions, the server under load, and cold starts."""
    before = load()
    chosen = {name: WAYS[name] for name in ways.split(",")}
    with tempfile.TemporaryDirectory() as scratch:
        place = Artifacts(Path(scratch))
        folders = {name: fitted(place, name, *way) for name, way in chosen.items()}
        clip = speech(CLIP)
        alone = measure_alone(folders, clip, rounds)
        table(alone, ALONE)
        cold, loaded = [], []
        for name, folder in folders.items():
            with demo(folder) as (port, process, took):
                cold.append(started(name, folder, clip, took, port, process, requests))
                loaded += [under_load(name, port, process, clip, count, seconds) for count in CLIENTS]
        table(cold, COLD)
        table(loaded, LOAD)
    facts = machine()
    name = "live" if seconds >= 60 and requests >= REQUESTS else "live-quick"
    save(name, facts, alone, {"load_before": before, "clip_seconds": CLIP, "cold": cold, "load": loaded}, out)


def fitted(place: Artifacts, name: str, encoder: str, precision: str) -> Path:
    """A model of the synthetic sample, over one encoder."""
    loaded = load_encoder(encoder, "cpu", precision)
    mine = Artifacts(place.root / name)
    manifest, _ = extract(sample(mine), loaded, EmbeddingStore.of(mine.cache, loaded.info), progress=terminal)
    manifest.to_csv(mine.manifest(NAME))
    return fit_model(mine, ComparisonConfig((NAME,), heads=("logreg",), folds=4), jobs=1)[0]


def speech(seconds: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Made-up speech."""
    parts = [voice(1 + take % 8, "happy", "01", take) for take in range(12)]
    return np.concatenate(parts)[: round(seconds * RATE)].astype(np.float32)


def measure_alone(folders: dict[str, Path], clip: Any, rounds: int) -> list[Row]:
    """One clip at a time, the ways in turns."""
    predictors = {name: Predictor.load(folder, device="cpu") for name, folder in folders.items()}
    sides: dict[str, Callable[[], object]] = {
        name: partial(predictor.predict_waves, [clip], RATE) for name, predictor in predictors.items()
    }
    if "fp32" in folders:
        sides[PLAIN] = plain(folders["fp32"], clip)
    took = interleave(sides, rounds, terminal)
    base = median(took[PLAIN]) if PLAIN in took else None
    return [
        {**spread(name, values), "times_as_fast": base / median(values) if base else None}
        for name, values in took.items()
    ]


def plain(folder: Path, clip: Any) -> Callable[[], object]:
    """Transformers' forward of one clip, the mean over time, then the same head."""
    import torch

    from embedcache.encoders.checkpoint import untrained

    estimator, _ = load_model(folder)
    checkpoint = untrained("fp32")
    model, features = checkpoint.model.eval(), checkpoint.features

    def answer() -> object:
        inputs = features(clip, sampling_rate=RATE, return_tensors="pt")
        with torch.inference_mode():
            states = model(**inputs).last_hidden_state.mean(1)
        return estimator.predict_proba(states.numpy())

    return answer


def spread(name: str, values: Sequence[float]) -> Row:
    """Median and 99th percentile of seconds."""
    return {
        "way": name,
        "answers": len(values),
        "median_s": float(np.median(values)),
        "p99_s": float(np.percentile(values, 99)),
    }


@contextmanager
def demo(folder: Path) -> Iterator[tuple[int, subprocess.Popen[bytes], float]]:
    """A `ser demo` of one model: its port, its process, and the seconds until it listened."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begin = time.perf_counter()
    command = [sys.executable, "-m", "cli", "demo", str(folder), "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
    try:
        while ask(port, "GET", "/api/models")[0] != 200:
            if process.poll() is not None:
                raise SerError("ser demo did not start; its message is above.")
            time.sleep(0.02)
        yield port, process, time.perf_counter() - begin
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    """Status and JSON of one request; 0 where nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except ConnectionError:
        return 0, None
    finally:
        connection.close()


def started(
    name: str, folder: Path, clip: Any, took: float, port: int, process: subprocess.Popen[bytes], requests: int
) -> Row:
    """Cold starts, and memory over many requests."""
    data = wav_bytes(clip)
    begin = time.perf_counter()
    ask(port, "POST", "/api/predict", data)
    first = took + time.perf_counter() - begin
    path = folder.parent / "clip.wav"
    path.write_bytes(data)
    command = [sys.executable, "-m", "cli", "predict", str(folder), str(path), "--device", "cpu"]
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
    cold = time.perf_counter() - begin
    for _ in range(20):
        ask(port, "POST", "/api/predict", data)
    before = memory(process.pid)
    with terminal(f"{name}: {requests} requests", total=requests, unit="responses") as advance:
        for _ in range(requests):
            ask(port, "POST", "/api/predict", data)
            advance(1)
    return {
        "way": name,
        "predict_s": cold,
        "demo_s": first,
        "memory_mb": before,
        "after_1000_mb": memory(process.pid),
        "requests": requests,
    }


def under_load(name: str, port: int, process: subprocess.Popen[bytes], clip: Any, clients: int, seconds: float) -> Row:
    """So many clients that ask again as soon as they are answered."""
    data, until = wav_bytes(clip), time.monotonic() + seconds
    took: list[float] = []
    busy = 0
    lock = threading.Lock()

    def client(number: int) -> None:
        nonlocal busy
        while time.monotonic() < until:
            begin = time.perf_counter()
            status, content = ask(port, "POST", "/api/predict", data)
            with lock:
                busy += status == 503
                if status == 200:
                    took.append(time.perf_counter() - begin)
                elif status != 503:
                    raise SerError(f"got status {status} under load: {content}")

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    return {
        **spread(name, took),
        "clients": clients,
        "answers_per_s": len(took) / seconds,
        "busy": busy,
        "memory_mb": memory(process.pid),
    }


def memory(pid: int) -> float:
    """MB of a process that are in memory. Linux alone says."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    run(app)
