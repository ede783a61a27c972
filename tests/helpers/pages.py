"""The pages of the documentation: their fenced blocks, and a world in which their commands and snippets run.

They run as they stand, in the order in which they stand; only the places that they leave open are filled in.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from helpers.checkpoints import save_checkpoint
from helpers.places import REPOSITORY, Ser
from helpers.sounds import noise, write
from helpers.trees import TREES

FENCED = re.compile(r'^```(\w+)(?: title="([\w.]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
# Where `ser demo` and `ser serve` listen; here, on any port that is free.
SERVERS = {"demo": "http://127.0.0.1:7860", "serve": "http://127.0.0.1:8000"}
SITE = "site"  # below the world's folder: where `pip install .` puts what a page writes


class Block(NamedTuple):
    """One fenced block; one with a title is a file."""

    language: str
    title: str
    text: str


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page."""
    return [Block(*found) for found in FENCED.findall(text)]


def make_world(root: Path) -> dict[str, str]:
    """Recordings under the names that pages use, a tiny network in the cache's place of wav2vec2-base; the environment.

    24 actors of noise, a folder of one's own, a corpus of one's own.
    """
    for actor in range(1, 25):
        for emotion in (1, 3, 5):
            name = f"03-01-{emotion:02d}-01-01-01-{actor:02d}.wav"
            write(root / "DIR" / f"Actor_{actor:02d}" / name, noise(0.1, seed=100 * actor + emotion))
    for speaker, label in itertools.product(("ann", "bob", "eve"), ("sad", "glad")):
        write(root / "MINE" / label / f"{speaker}_1.wav", noise(0.3, seed=1000 * len(label) + ord(speaker[0])))
    corpus = itertools.product(("f01", "f02", "m01", "m02"), ("ang", "neu", "sad"), ("1", "2"))
    for seed, names in enumerate(corpus, start=20_000):
        write(root / "CORPUS" / f"{'-'.join(names)}.wav", noise(0.3, seed=seed))
    TREES["tess"].make(root / "TESS", seed=9000)
    write(root / "CLIP.wav", noise(0.3))
    place = root / "hf" / "hub" / "models--facebook--wav2vec2-base"
    save_checkpoint(place / "snapshots" / ("a" * 40))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("a" * 40)
    hub = {"HF_HOME": str(root / "hf"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    return {**hub, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{root / SITE}"}


def run_page(text: str, ser: Ser, world: dict[str, str], place: Path) -> list[subprocess.CompletedProcess]:
    """As `_run_page`; a `ser demo` that it starts is ended with it."""
    with contextlib.ExitStack() as running:
        return _run_page(text, ser, world, place, running)


def _run_page(
    text: str, ser: Ser, world: dict[str, str], place: Path, running: contextlib.ExitStack
) -> list[subprocess.CompletedProcess]:
    """Write its files, run its commands and snippets, each of which must succeed; what they said.

    What a page says that they say, in blocks of `output`, is said, line by line, but for the numbers.
    """
    done = []
    for block in blocks(text):
        if block.title:
            (place / block.title).write_text(block.text)
        elif block.language == "sh":
            done += [_succeeded(line, run(line, ser, world, place, running)) for line in block.text.splitlines()]
        elif block.language == "python":
            done.append(_succeeded(block.text, _python(["-c", _with_ports(block.text, world)], world, place)))
        elif block.language == "output":
            said = "".join(one.stdout for one in done)
            unsaid = _lines(block.text) - {"…"} - _lines(said)
            assert not unsaid, f"not said: {unsaid}; said: {said[-4000:]}"
    return done


def _lines(said: str) -> set[str]:
    return {re.sub(r"[\d.–]+", "0", " ".join(line.split())) for line in said.splitlines()}


def run(
    command: str, ser: Ser, world: dict[str, str], place: Path, running: contextlib.ExitStack
) -> subprocess.CompletedProcess:
    """A `ser` command, curl, an installation; or a make target without its work: making is what calls this test."""
    program, *arguments = shlex.split(_with_ports(command, world))
    if program == "curl":
        return subprocess.run(["curl", "--fail", *arguments], capture_output=True, text=True, cwd=place)
    if arguments[0] in SERVERS:
        world[SERVERS[arguments[0]]] = running.enter_context(server(arguments, world, place))
        return subprocess.CompletedProcess(arguments, 0, "", "")
    if program == "make":
        return subprocess.run(["make", "-n", *arguments], capture_output=True, text=True, cwd=REPOSITORY)
    if program == "pip":
        return _install(arguments, world, place)
    assert program == "ser"
    return ser(*arguments, env=world)


def _with_ports(text: str, world: dict[str, str]) -> str:
    """A text with the addresses at which servers listen here."""
    for address in SERVERS.values():
        text = text.replace(address, world.get(address, address))
    return text


@contextlib.contextmanager
def server(arguments: list[str], world: dict[str, str], place: Path) -> Iterator[str]:
    """`ser demo` or `ser serve` on a free port; its address."""
    command = [sys.executable, str(REPOSITORY / "cli.py"), *arguments, "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=place, env={**os.environ, **world}
    ) as process:
        try:
            yield process.stdout.readline().split()[0]
        finally:
            process.terminate()


def _install(arguments: list[str], world: dict[str, str], place: Path) -> subprocess.CompletedProcess:
    """`pip install .`, without a network."""
    install, what = arguments
    assert install == "install"
    alone = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(place / SITE)]
    return _python(["-m", "pip", "install", *alone, what], world, place)


def _python(arguments: list[str], world: dict[str, str], place: Path) -> subprocess.CompletedProcess:
    there = {**os.environ, **world}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=place, env=there)


def _succeeded(what: str, done: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    assert done.returncode == 0, (what, done.stdout, done.stderr)
    return done
