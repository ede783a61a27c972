"""Decoding with FFmpeg (PyAV), for what libsndfile does not decode exactly: MP3, AAC, Opus, Vorbis, GSM, ADPCM.

FFmpeg runs in processes of its own, see `_ffmpeg_process.py`: a file that crashes FFmpeg, or that it never finishes,
costs this file and nothing else. A process decodes one file after the other, so that its start counts once.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioError
from .formats import EBML

# Offset and first bytes of containers, for messages.
CONTAINERS = ((4, b"ftyp", "MP4 or QuickTime"), (0, EBML, "Matroska or WebM"), (8, b"AVI ", "an AVI video"))
Answer = tuple[dict[str, Any], NDArray[np.float32]]  # what the process says, and samples
TIMEOUT = 300.0  # seconds after which a file counts as one that FFmpeg cannot finish; an hour of AAC takes about 10 s


@functools.cache
def decoder() -> str:
    """Return the name and version of the decoder; they are part of the key of what it decodes."""
    return f"PyAV {version('av')}"


def decode(path: Path, data: bytes, max_samples: int, max_seconds: float) -> tuple[NDArray[np.float32], int]:
    """Return the samples (n, channels) of the first sound of a file, and its sample rate in Hz.

    Raises AudioError, which names the file, if it has no sound, cannot be decoded as a whole, or exceeds the limits.
    """
    process = _take(max_samples, max_seconds)
    answer = process.ask(data, TIMEOUT)
    if answer is not None:
        _idle().append(process)
    head, samples = _checked(path, data, answer)
    return samples, int(head["rate"])


def decode_blocks(
    path: Path, data: bytes, block_seconds: float, block_samples: int, max_seconds: float
) -> Iterator[tuple[NDArray[np.float32], int, float]]:
    """Yield blocks of samples (n, channels) of a file, its sample rate in Hz, and its declared duration, 0 for none.

    A block is about `block_seconds` long, and has about `block_samples` samples of all channels at most.

    Raises AudioError as `decode` does, after the blocks that could be decoded.
    """
    process = _Process(block_samples, max_seconds, block_seconds)
    try:
        answer = process.ask(data, TIMEOUT)
        while True:
            head, samples = _checked(path, data, answer)
            if "end" in head:
                return
            yield samples, int(head["rate"]), float(head["declared"])
            answer = process.read(TIMEOUT)
    finally:
        process.close()


def _checked(path: Path, data: bytes, answer: Answer | None) -> Answer:
    """Return an answer with its samples as (n, channels). Raises AudioError for one that says what is wrong."""
    if answer is None:
        raise AudioError(f"{path}: FFmpeg crashes on it, or does not finish. Convert it to WAV, or remove it.")
    head, samples = answer
    if "refused" in head:
        raise AudioError(f"{path}: {head['refused']}.")
    if "error" in head:
        kind = next((f"is {kind}, and " for at, start, kind in CONTAINERS if data.startswith(start, at)), "")
        raise AudioError(f"{path}: {kind}cannot be decoded ({_reason(head['error'])}). Replace or remove the file.")
    return head, samples.reshape(head.get("samples", 0), head.get("channels", 1))


class _Process:
    """A process that decodes, from the outside."""

    def __init__(self, max_samples: int, max_seconds: float, block_seconds: float = 0.0) -> None:
        self.limits = (max_samples, max_seconds)
        limits = [max_samples, max_seconds, block_seconds]
        command = [sys.executable, "-m", "embedcache.audio._ffmpeg_process", *map(str, limits)]
        root = str(Path(__file__).parents[2])
        paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH", "")])])
        self.popen = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
        )

    def ask(self, data: bytes, timeout: float) -> Answer | None:
        """Return the answer for the bytes of a file; None if the process died or took too long, and is now ended."""
        return self.read(timeout, len(data).to_bytes(8, "little") + data)

    def read(self, timeout: float, request: bytes = b"") -> Answer | None:
        """Return the next answer, after a request if there is one; None as `ask` does."""
        timer = threading.Timer(timeout, self.popen.kill)
        timer.start()
        try:
            self.popen.stdin.write(request)  # type: ignore[union-attr]
            self.popen.stdin.flush()  # type: ignore[union-attr]
            head = json.loads(self.popen.stdout.readline())  # type: ignore[union-attr]
            size = 4 * head.get("samples", 0) * head.get("channels", 0)
            samples = self.popen.stdout.read(size)  # type: ignore[union-attr]
        except (OSError, ValueError):  # the pipe is broken, or the line is empty
            self.close()
            return None
        finally:
            timer.cancel()
        if len(samples) < size:
            self.close()
            return None
        return head, np.frombuffer(samples, np.float32)

    def close(self) -> None:
        """End the process."""
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            with contextlib.suppress(OSError):  # what was not written yet cannot be written any more
                pipe.close()  # type: ignore[union-attr]


_IDLE: dict[int, list[_Process]] = {}  # by the process that started them: after a fork, they are the parent's


def _idle() -> list[_Process]:
    return _IDLE.setdefault(os.getpid(), [])


def _take(max_samples: int, max_seconds: float) -> _Process:
    """Return an idle process, or start one."""
    try:
        process = _idle().pop()
    except IndexError:
        return _Process(max_samples, max_seconds)
    if process.limits == (max_samples, max_seconds) and process.popen.poll() is None:
        return process
    process.close()
    return _take(max_samples, max_seconds)


@atexit.register
def _close_all() -> None:
    for process in _idle():
        process.close()


def _reason(text: str) -> str:
    """Return FFmpeg's message without the number of the error: `Invalid data found when processing input`."""
    if "Format not on whitelist" in text:  # what follows is the whitelist
        return "its format is not one of those that are read"
    return text.partition("] ")[2].partition(":")[0] or text
