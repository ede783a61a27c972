"""The images of `ser serve`: what their files promise, and, where an engine is at hand, a container that keeps it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
import typer
import yaml
from helpers.places import REPOSITORY
from helpers.sounds import noise, write

import cli
from classifiers import Predictor
from classifiers.saved.hub_models import PATTERNS
from classifiers.saved.speaker_files import SPEAKERS
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts

FOLDER = REPOSITORY / "containers"
IMAGES = ("cpu", "cuda")
DIFFER = ("# ", "ARG TORCH_INDEX=", "ENV NVIDIA_")  # beginnings of lines that differ between the two files
TOKEN = "a-token-of-this-test"
LIMITS = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]


@dataclass(frozen=True)
class Step:
    """One instruction of a Dockerfile, with its continuation lines, and the number of its stage."""

    stage: int
    word: str
    rest: str


def steps(name: str) -> list[Step]:
    text = re.sub(r"^#.*\n", "", (FOLDER / f"{name}.Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: list[Step] = []
    for line in text.replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word:
            found.append(Step(sum(step.word == "FROM" for step in found) + (word == "FROM"), word, rest))
    return found


def last(name: str, word: str) -> str:
    """What the last instruction of a kind says in the last stage, which is the image."""
    found = steps(name)
    return [step.rest for step in found if step.word == word and step.stage == found[-1].stage][-1]


@pytest.mark.parametrize("name", IMAGES)
def test_the_user_is_not_root_and_may_write_nothing_of_the_program(name: str) -> None:
    user, _, group = last(name, "USER").partition(":")
    assert int(user) >= 1000
    assert int(group) >= 1000
    copied = [step.rest for step in steps(name) if step.word == "COPY" and step.stage == 2]
    assert copied == ["--from=build /opt/ser /opt/ser", "--from=build /opt/code /opt/code"]  # without --chown: of root


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_copied_exists_and_nothing_else_goes_into_the_build(name: str) -> None:
    sources = {
        source
        for step in steps(name)
        if step.word == "COPY" and not step.rest.startswith("--from")
        for source in step.rest.split()[:-1]
    }
    ignore = (FOLDER / f"{name}.Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert all((REPOSITORY / source).exists() for source in sources)
    assert ignore[1] == "*"
    assert {line[1:] for line in ignore if line.startswith("!")} == sources
    needed = {"cli.py", "embedcache", "classifiers", "pyproject.toml", "LICENSE", "README.md", "constraints.txt"}
    assert needed <= sources


def listed(*extras: str) -> list[str]:
    command = [sys.executable, str(FOLDER / "requirements.py"), *extras]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("name", IMAGES)
def test_every_library_is_pinned(name: str) -> None:
    (installed,) = [step.rest for step in steps(name) if step.word == "RUN" and "requirements.py" in step.rest]
    assert "pip install --constraint constraints.txt" in installed
    extra = re.findall(r"requirements\.py (\w+)", installed)
    names = {re.split(r"[>=<\[]", line)[0].lower().replace("-", "_") for line in listed(*extra)}
    pins = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    pinned = {pin.lower().replace("-", "_") for pin in re.findall(r"^([\w.-]+)==", pins, re.MULTILINE)}
    assert len(names) > len(listed()) > 10
    assert names <= pinned
    (base,) = {step.rest for step in steps(name) if step.word == "ARG" and step.rest.startswith("BASE=")}
    assert re.fullmatch(r"BASE=debian:[a-z]+-slim", base)


@pytest.mark.parametrize("name", IMAGES)
def test_the_command_is_one_of_ser(name: str) -> None:
    assert json.loads(last(name, "ENTRYPOINT")) == ["ser"]
    command, model, *options = json.loads(last(name, "CMD"))
    assert model == "/model"
    serve = typer.main.get_command(cli.app).commands[command]
    known = {text for parameter in serve.params for text in parameter.opts}
    assert set(options[::2]) <= known
    assert dict(zip(options[::2], options[1::2], strict=True))["--port"] == last(name, "EXPOSE")


def test_the_two_images_differ_in_torch_alone() -> None:
    texts = [(FOLDER / f"{name}.Dockerfile").read_text(encoding="utf-8").splitlines() for name in IMAGES]
    cpu, cuda = [[line for line in text if not line.startswith(DIFFER)] for text in texts]
    assert cpu == cuda
    assert "whl/cpu" in "".join(texts[0])
    assert "whl/cpu" not in "".join(texts[1])
    ignored = [(FOLDER / f"{name}.Dockerfile.dockerignore").read_bytes() for name in IMAGES]
    assert ignored[0] == ignored[1]


def test_an_image_with_a_model_has_its_files_and_no_enrolled_speaker() -> None:
    (copied,) = [step.rest.split() for step in steps("with-model") if step.word == "COPY"]
    *patterns, place = copied
    assert place == "/model/"
    for name in (*PATTERNS, "model.safetensors"):
        assert any(fnmatch(name, pattern) for pattern in patterns), name
    assert not any(fnmatch(name, pattern) for name in (SPEAKERS, "onnx", "hub", ".") for pattern in patterns)


class Health(BaseHTTPRequestHandler):
    """Answers /health with the status of the server."""

    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def checked(command: list[str], port: int) -> int:
    words = [word.replace(":8000/", f":{port}/") for word in [sys.executable, *command[1:]]]
    return subprocess.run(words, capture_output=True, timeout=60).returncode


@pytest.mark.parametrize("name", IMAGES)
def test_the_health_check_succeeds_and_fails_as_the_server_does(name: str) -> None:
    command = json.loads(last(name, "HEALTHCHECK").partition(" CMD ")[2])
    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.status = 200
        assert checked(command, server.server_port) == 0
        server.status = 503
        assert checked(command, server.server_port) != 0
        server.shutdown()
    assert checked(command, server.server_port) != 0


def test_compose_limits_its_containers_and_checks_them_as_the_images_do() -> None:
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert set(services) == {"ser", "ser-gpu"}
    for service, name in zip((services["ser"], services["ser-gpu"]), IMAGES, strict=True):
        assert service["build"]["dockerfile"] == f"containers/{name}.Dockerfile"
        assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).exists()
        assert service["read_only"] is True
        assert service["tmpfs"][0].startswith("/tmp")
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["ports"][0].startswith("127.0.0.1:")
        assert service["healthcheck"]["test"] == ["CMD", *json.loads(last(name, "HEALTHCHECK").partition(" CMD ")[2])]
    assert "deploy" not in services["ser"]
    (device,) = services["ser-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (services["ser-gpu"]["profiles"], device["capabilities"]) == (["gpu"], ["gpu"])


def run(*command: object, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=seconds)


@pytest.fixture(scope="session")
def engine() -> list[str]:
    """The command of an engine that is at hand; SER_ENGINE may name another, with its options."""
    for command in filter(None, [os.environ.get("SER_ENGINE", "").split(), ["docker"], ["podman"]]):
        if shutil.which(command[0]) and run(*command, "info").returncode == 0:
            return command
    pytest.skip("neither docker nor podman answers here")


@pytest.fixture(scope="session")
def image(engine: list[str]) -> str:
    """The image of the CPU, built if SER_IMAGE does not name one that is there."""
    if named := os.environ.get("SER_IMAGE"):
        return named
    base = "debian:bookworm-slim"
    if run(*engine, "image", "inspect", base).returncode and run(*engine, "pull", base, seconds=600).returncode:
        pytest.skip(f"{base} can be neither found nor pulled here")
    if run(*engine, "run", "--rm", base, "true").returncode:
        pytest.skip(f"{engine[0]} starts no container here")
    tag = "ser-of-this-test"
    built = run(*engine, "build", "--file", FOLDER / "cpu.Dockerfile", "--tag", tag, REPOSITORY, seconds=3600)
    assert built.returncode == 0, built.stderr[-4000:]
    return tag


@pytest.fixture
def model(artifacts: Artifacts) -> Path:
    """A model that everybody may read."""
    folder, _, _ = fit_model(artifacts, ComparisonConfig(heads=("logreg",), folds=2), jobs=1)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    return folder


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@contextlib.contextmanager
def container(engine: list[str], image: str, model: Path, port: int) -> Iterator[str]:
    """The id of a container that serves a model with the limits of the page, in this machine's network."""
    mount = ["--volume", f"{model}:/model:ro", "--network", "host", "--env", f"SER_TOKEN={TOKEN}"]
    serve = ["serve", "/model", "--host", "127.0.0.1", "--port", port]
    started = run(*engine, "run", "--detach", *LIMITS, *mount, image, *serve)
    assert started.returncode == 0, started.stderr
    name = started.stdout.strip().splitlines()[-1]
    try:
        yield name
    finally:
        run(*engine, "rm", "--force", name)


def wait_for(address: str, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(URLError, OSError), urlopen(address, timeout=5):
            return
        time.sleep(0.5)
    raise AssertionError(f"no answer from {address} within {seconds:.0f} s")


@pytest.mark.long
def test_a_container_serves_a_model(engine: list[str], image: str, model: Path, tmp_path: Path) -> None:
    """Not as root, on a root file system that cannot be written; it predicts as here, and ends when asked to."""
    port, clip = free_port(), write(tmp_path / "clip.wav", noise(1.0))
    with container(engine, image, model, port) as name:
        wait_for(f"http://127.0.0.1:{port}/health")
        inside = [*engine, "exec", name]
        assert run(*inside, "id", "-u").stdout.strip() == "10001"
        assert run(*inside, "touch", "/opt/code/x").returncode != 0
        assert run(*inside, "touch", "/tmp/x").returncode == 0
        status = run(*inside, "cat", "/proc/1/status").stdout
        assert re.search(r"CapEff:\s+0+$", status, re.MULTILINE)
        assert re.search(r"NoNewPrivs:\s+1", status)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        request = Request(f"http://127.0.0.1:{port}/api/predict", data=clip.read_bytes(), headers=headers)
        (answer,) = json.load(urlopen(request, timeout=60))["predictions"]
        (wanted,) = Predictor.load(model).predict([clip])
        assert answer["probabilities"] == pytest.approx(wanted.probabilities, abs=1e-4)
        assert run(*engine, "stop", "--time", "15", name).returncode == 0
        assert run(*engine, "inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip() == "0"
