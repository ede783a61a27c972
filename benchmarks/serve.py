"""Benchmark of `ser serve` under load: requests joined into packs against requests that run one by one.

    python -m benchmarks.serve                          functionals and wav2vec2-base's size, 1, 4, 16 and 64 clients
    python -m benchmarks.serve --ways functionals --seconds 1

Both servers hold the same model and run in processes of their own; they are asked in turns, on the same clips. A client
sends its next request as soon as it has a response. Weights do not affect the time, so random ones are used.

The ratio is that of the responses per second. The processor time of a response, of the server alone, does not depend on
other programs on the machine, which the responses per second do.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from classifiers.inference.model import load_models
from classifiers.serving.server import listen_on, serve
from classifiers.serving.service import PredictionService
from embedcache import Artifacts, SerError
from embedcache.encoders import UNTRAINED
from embedcache.progress import terminal
from embedcache.synthetic import wav_bytes

from ._measure import RESULTS, load, machine, run, save, table
from .live import fitted, speech

CLIENTS = (1, 4, 16, 64)
WAYS = {"functionals": "functionals", "network": UNTRAINED}
SIDES = ("one by one", "joined")
COLUMNS = ("way", "clip_s", "clients", "side", "answers_per_s", "median_s", "p95_s", "busy", "cpu_s", "times_as_fast")

Row = dict[str, Any]
Answer = tuple[int, float]  # status, seconds
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of the clips, in seconds.")] = 3.0,
    requests: Annotated[int, typer.Option(min=1, help="Requests of one turn; at least one for each client.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each server.")] = 3,
    ways: Annotated[str, typer.Option(help="Ways, separated by commas: functionals, network.")] = ",".join(WAYS),
    clients: Annotated[str, typer.Option(help="Numbers of clients.")] = ",".join(map(str, CLIENTS)),
    out: Annotated[Path, typer.Option(help="Folder of the results.", show_default="benchmarks/results")] = RESULTS,
) -> None:
    """Measure both servers for each model and each number of clients."""
    before, rows = load(), list[Row]()
    with tempfile.TemporaryDirectory() as scratch:
        for name in ways.split(","):
            folder = fitted(Artifacts(Path(scratch)), name, WAYS[name], "fp32")
            numbers = [int(text) for text in clients.split(",")]
            rows += measured(name, folder, seconds, numbers, requests, rounds)
    table(rows, COLUMNS)
    extra = {"load_before": before, "requests": requests, "rounds": rounds, "clip_seconds": seconds}
    save(f"serve-{seconds:g}s", machine(), rows, extra, out)


def measured(
    name: str, folder: Path, seconds: float, numbers: Sequence[int], requests: int, rounds: int
) -> Iterator[Row]:
    """Yield a row for each number of clients and each server, which are asked in turns."""
    bodies = [clip(seconds, number) for number in range(8)]
    with ExitStack() as stack:
        servers = {side: stack.enter_context(server(folder, side)) for side in SIDES}
        for port, _ in servers.values():
            asyncio.run(turn(port, bodies, 2, 4))  # what only the first requests pay
        for clients in numbers:
            yield from _rows(name, seconds, clients, servers, bodies, max(requests, clients), rounds)


def _rows(
    name: str,
    seconds: float,
    clients: int,
    servers: dict[str, tuple[int, int]],
    bodies: Sequence[bytes],
    requests: int,
    rounds: int,
) -> list[Row]:
    turns: dict[str, list[Row]] = {side: [] for side in SIDES}
    with terminal(f"{name}, {clients} clients", total=2 * rounds, unit="turns") as advance:
        for number in range(rounds):
            for side in SIDES if number % 2 else reversed(SIDES):
                port, pid = servers[side]
                turns[side].append(measured_turn(port, pid, bodies, clients, requests))
                advance(1)
    base = [one["answers_per_s"] for one in turns[SIDES[0]]]
    found = []
    for side, rows in turns.items():
        ratios = [row["answers_per_s"] / first for row, first in zip(rows, base, strict=True)]
        middle = {key: median(row[key] for row in rows) for key in rows[0]}
        about = {"way": name, "clip_s": seconds, "clients": clients, "side": side}
        found.append({**about, **middle, "times_as_fast": median(ratios), "ratios": ratios})
    return found


def clip(seconds: float, seed: int) -> bytes:
    """Made-up speech, a little different for each seed."""
    wave = speech(seconds)
    hiss = np.random.default_rng(seed).standard_normal(len(wave)).astype(np.float32)
    return wav_bytes(wave + np.float32(1e-3) * hiss)


@contextmanager
def server(folder: Path, side: str) -> Iterator[tuple[int, int]]:
    """A server of one model in a process of its own: its port and the number of the process."""
    code = f"from benchmarks.serve import serve_model; serve_model({str(folder)!r}, {side == SIDES[1]})"
    root = Path(__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=root, text=True
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise SerError("the server did not start.")
        yield int(line.split()[0].rpartition(":")[2]), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def serve_model(folder: str, join: bool) -> None:
    """Serve a model on a free port, which the first line says."""
    with listen_on("127.0.0.1", 0) as listening:
        service = PredictionService(load_models([folder], "cpu"), max_waiting=64, join=join)
        serve(service, listening, log=lambda line: print(line, flush=True))  # noqa: T201


def measured_turn(port: int, pid: int, bodies: Sequence[bytes], clients: int, requests: int) -> Row:
    """What one turn took."""
    begin, used = time.perf_counter(), cpu_seconds(pid)
    answers = asyncio.run(turn(port, bodies, clients, requests))
    took, used = time.perf_counter() - begin, cpu_seconds(pid) - used
    good = [seconds for status, seconds in answers if status == 200]
    if wrong := {status for status, _ in answers} - {200, 503}:
        raise SerError(f"got the statuses {sorted(wrong)} under load.")
    return {
        "answers_per_s": len(good) / took,
        "median_s": float(np.median(good)),
        "p95_s": float(np.percentile(good, 95)),
        "busy": len(answers) - len(good),
        "cpu_s": used / len(good),
    }


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and of all its threads, in seconds. Linux alone says."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def turn(port: int, bodies: Sequence[bytes], clients: int, requests: int) -> list[Answer]:
    """Send so many requests from so many clients, each over a connection of its own."""
    numbers, answers = iter(range(requests)), list[Answer]()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            begin = time.perf_counter()
            status = await ask(reader, writer, bodies[number % len(bodies)])
            answers.append((status, time.perf_counter() - begin))
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> int:
    """Send a clip, and return the status of the response."""
    head = f"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    (length,) = (int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
    await reader.readexactly(length)
    return int(lines[0].split()[1])


if __name__ == "__main__":
    run(app)
