"""Files that promise much, read by a process that may take little memory."""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

from helpers.hostile import GIB, sparse
from helpers.places import REPOSITORY
from helpers.sounds import noise, write

# Each line reads one file with no more than 100 MB above what the libraries take, and says what came of it.
LIMITED = """
import resource, sys
from pathlib import Path
import numpy, soundfile, soxr
from classifiers import load_model, load_predictions
from embedcache import KeyMemo, Recording, SerError
place = Path(sys.argv[1])
with open("/proc/self/statm") as file:
    taken = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 100 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
def say(path, read):
    try:
        print(path.name, "|", read(path))
    except Exception as error:
        print(path.name, "|", type(error).__name__, error)
for path in sorted((place / "sound").iterdir()):
    say(path, lambda path: Recording.load(path).waveform(16_000).shape)
say(place / "keys.json", lambda path: KeyMemo(path)._entries)
say(place / "model", load_model)
say(place / "run", load_predictions)
"""


def wav(rate: int = 16_000, channels: int = 1, declared: int = 0, data: bytes = b"") -> bytes:
    """A header that declares so many bytes, and the bytes that there are."""
    frame = 2 * channels
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * frame % 2**32, frame, 16)
    size = declared or len(data)
    return (
        b"RIFF"
        + struct.pack("<I", min(size + 36, 2**32 - 1))
        + b"WAVEfmt "
        + form
        + b"data"
        + struct.pack("<I", size)
        + data
    )


def flac(path: Path, frames: int, rate: int = 48_000, channels: int = 2) -> None:
    """A tenth of a second whose STREAMINFO promises `frames`."""
    import soundfile

    soundfile.write(path, noise(0.1, rate, channels=channels), rate, format="FLAC")
    data = bytearray(path.read_bytes())
    word = int.from_bytes(data[18:26], "big") >> 36 << 36 | frames
    path.write_bytes(data[:18] + word.to_bytes(8, "big") + data[26:])


def ogg(path: Path, frames: int) -> None:
    """A second whose last page promises `frames`."""
    import soundfile

    soundfile.write(path, noise(1.0), 16_000, format="OGG")
    data = bytearray(path.read_bytes())
    at = data.rfind(b"OggS")
    data[at + 6 : at + 14], data[at + 22 : at + 26] = struct.pack("<q", frames), bytes(4)
    sum_ = 0
    for byte in data[at:]:
        sum_ ^= byte << 24
        for _ in range(8):
            sum_ = (sum_ << 1 ^ 0x04C11DB7 if sum_ & 1 << 31 else sum_ << 1) & 0xFFFFFFFF
    data[at + 22 : at + 26] = struct.pack("<I", sum_)
    path.write_bytes(data)


TEN_HOURS, HOUR = 36_000, 3540


def test_nothing_that_promises_much_is_given_memory(models: dict[str, Path], run: Path, tmp_path: Path) -> None:
    place = tmp_path / "sound"
    place.mkdir()
    sparse(place / "10h.wav", 44 + 2 * 16_000 * TEN_HOURS, wav(declared=2 * 16_000 * TEN_HOURS))
    (place / "10h-lie.wav").write_bytes(wav(declared=2 * 16_000 * TEN_HOURS, data=bytes(1000)))
    flac(place / "10h.flac", 48_000 * TEN_HOURS)
    flac(place / "59min-of-8.flac", 192_000 * HOUR, 192_000, 8)
    flac(place / "largest.flac", 2**36 - 1)
    ogg(place / "10h.ogg", 16_000 * TEN_HOURS)
    ogg(place / "largest.ogg", 2**62)
    (place / "1hz.wav").write_bytes(wav(rate=1, data=bytes(6000)))
    (place / "2ghz.wav").write_bytes(wav(rate=2**31 - 1, data=bytes(6000)))
    sparse(place / "100gb.wav", 100 * GIB, b"RIFF")
    (place / "zero.wav").symlink_to("/dev/zero")
    os.mkfifo(place / "pipe.wav")
    write(place / "sound.wav", noise(0.5))
    sparse(tmp_path / "keys.json", GIB)
    sparse(shutil.copytree(models["logreg"], tmp_path / "model") / "model.json", GIB)
    sparse(shutil.copytree(run, tmp_path / "run") / "run.json", GIB)
    there = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True, env=there, timeout=60
    )
    said = dict(line.split(" | ", 1) for line in done.stdout.splitlines())
    wanted = {
        "10h.wav": "lasts 36000 s; wanted at most 3600 s. Cut it into utterances",
        "10h-lie.wav": "is truncated: its header declares 36000.00 s, it holds 0.03 s",
        "10h.flac": "lasts 36000 s",
        "59min-of-8.flac": "has 8 channels of 679,680,000 samples; wanted at most 400,000,000",
        "largest.flac": "lasts 1431656 s",
        "10h.ogg": "lasts 36000 s",
        "largest.ogg": "lasts 288230376151712 s",
        "1hz.wav": "has a sample rate of 1 Hz; wanted 100 to 768,000",
        "2ghz.wav": "has a sample rate of 2,147,483,647 Hz; wanted 100 to 768,000",
        "100gb.wav": "has 107,374,182,400 bytes; wanted at most 1,600,000,000",
        "zero.wav": "it is a folder, a pipe or a device; wanted a file",
        "pipe.wav": "it is a folder, a pipe or a device; wanted a file",
        "sound.wav": "(8000,)",
        "keys.json": "{}",
        "model": "model.json: has 1,073,741,824 bytes; wanted at most 1,048,576",
        "run": "run.json: has 1,073,741,824 bytes; wanted at most 67,108,864",
    }
    assert sorted(said) == sorted(wanted), done.stderr
    for name, words in wanted.items():
        assert words in said[name]
        assert ("Error" in said[name]) == (name not in ("sound.wav", "keys.json"))
        assert "MemoryError" not in said[name]
