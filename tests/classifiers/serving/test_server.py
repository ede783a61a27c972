"""A real server on a socket: what clients do wrong is named and bounded, and the next request works; how it ends."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers.places import REPOSITORY, Ser
from helpers.sounds import noise

from classifiers.inference.model import Model
from classifiers.serving.service import MAX_BYTES, PredictionService
from embedcache import SerError
from embedcache.synthetic import wav_bytes

pytest.importorskip("prometheus_client")

SOUND = wav_bytes(noise(1.3))
TOKEN = "0123456789abcdef-token"


class Server(NamedTuple):
    port: int
    service: PredictionService
    log: list[str]

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers

    def send(self, data: bytes) -> socket.socket:
        """A connection over which these bytes were sent, and nothing more."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(data)
        return connection

    def works(self) -> bool:
        """Whether a request is answered, and no earlier one holds anything."""
        until = time.monotonic() + 30
        while self.service.open_requests and time.monotonic() < until:
            time.sleep(0.01)
        status, _, _ = self.ask("POST", "/api/predict", SOUND)
        return (status, self.service.held) == (200, 0)


@pytest.fixture(scope="module")
def server(served_models: tuple[Model, ...]) -> Iterator[Server]:
    """A server in a thread."""
    from classifiers.serving.access import LOCAL, Access
    from classifiers.serving.server import PATHS, PUBLIC, build_app, listen_on, run_server

    service, log, ready = PredictionService(served_models[:1]), list[str](), threading.Event()
    app = build_app(service, Access(None, LOCAL, PATHS, ("/api/",), PUBLIC), ready.set)
    with listen_on("127.0.0.1", 0) as listening:
        arguments = (app, listening, 1.0, log.append)
        threading.Thread(target=run_server, args=arguments, daemon=True).start()
        assert ready.wait(60)
        yield Server(listening.getsockname()[1], service, log)


def read_all(connection: socket.socket) -> bytes:
    """What a connection receives until it is closed."""
    return b"".join(iter(lambda: connection.recv(10_000), b""))


def logged(server: Server, request_id: str) -> dict[str, Any]:
    """The line of a request."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for line in server.log:
            if json.loads(line)["request_id"] == request_id:
                return json.loads(line)
        time.sleep(0.01)
    raise AssertionError(f"no line of {request_id}")


def test_headers_that_do_not_arrive_end_the_connection(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from classifiers.serving import connections

    monkeypatch.setattr(connections, "HEADER_TIMEOUT", 1.0)
    for begun in (b"", b"POST /api/predict HTTP/1.1\r\nHost: local"):
        assert server.send(begun).recv(100) == b""
    kept = server.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert kept.recv(10_000).startswith(b"HTTP/1.1 200")
    kept.sendall(b"GET /he")
    time.sleep(0.1)
    read_all(kept)
    assert server.works()


def test_a_body_that_does_not_arrive_gets_408(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from classifiers.serving import bodies

    monkeypatch.setattr(bodies, "BODY_TIMEOUT", 0.2)
    form = b"Content-Type: multipart/form-data; boundary=b\r\n"
    for kind in (b"", form):
        head = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n" + kind + b"\r\n--b"
        answer = read_all(server.send(head))
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"did not arrive within" in answer
    assert server.works()


def test_live_sound_that_ceases_ends_the_request(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from classifiers.serving import bodies

    monkeypatch.setattr(bodies, "SILENT_TIMEOUT", 0.2)
    head = b"POST /api/listen?rate=16000 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n1234"
    assert b"no sound arrived for" in read_all(server.send(head))
    assert server.works()


@pytest.mark.parametrize("path", ["predict", "timeline"])
def test_a_request_that_stops_halfway_is_forgotten(path: str, server: Server) -> None:
    head = (
        f"POST /api/{path} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: half-{path}\r\nContent-Length: 9999\r\n\r\nRIFF"
    )
    server.send(head.encode()).close()
    assert logged(server, f"half-{path}")["status"] == 499
    assert server.works()


def test_who_leaves_while_waiting_is_forgotten(server: Server, served_models: tuple[Model, ...]) -> None:
    """The request frees its place at once, and the encoder never gets its sound."""
    go, began, queue = threading.Event(), threading.Semaphore(0), server.service.queue

    def hold(waves: Any, batches: Any) -> Any:
        began.release()
        go.wait(60)
        return np.zeros((len(waves), 1))

    held = replace(served_models[0], encoders=(), proba=hold)
    running = []
    for _ in range(queue.lanes):
        running.append(queue.submit([held], [np.zeros(100, np.float32)], 1.0, False))
        began.acquire(timeout=30)
    head = "POST /api/predict HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: gone\r\n"
    connection = server.send(f"{head}Content-Length: {len(SOUND)}\r\n\r\n".encode() + SOUND)
    try:
        until = time.monotonic() + 30
        while not queue.length and time.monotonic() < until:
            time.sleep(0.01)
        connection.close()
        assert logged(server, "gone")["status"] == 499
        assert (queue.length, server.service.open_requests) == (0, 0)
    finally:
        go.set()
    assert all(one.result(30) for one in running)
    assert server.works()


def test_who_takes_no_response_is_disconnected(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from classifiers.serving import connections

    monkeypatch.setattr(connections, "SEND_TIMEOUT", 0.3)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect(("127.0.0.1", server.port))
        connection.settimeout(60)
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
        time.sleep(2)
        received = b""
        with suppress(ConnectionResetError):
            while part := connection.recv(100_000):
                received += part
    assert received.count(b"HTTP/1.1 200") < 1000
    assert server.works()


def test_idle_connections_keep_nobody_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from classifiers.serving import connections

    idle = [server.send(b"") for _ in range(300)]
    assert server.works()
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 0)
    with suppress(ConnectionResetError):
        assert server.send(b"").recv(10) == b""
    for one in idle:
        one.close()


def test_requests_at_once_are_bounded_but_for_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    from classifiers.serving import request_log

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200})

    async def ask(path: str) -> dict[str, Any]:
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> dict[str, Any]:
            await go.wait()
            return {}

        await log({"type": "http", "method": "GET", "path": path, "headers": []}, receive, send)
        return sent[0]

    async def ask_three() -> list[dict[str, Any]]:
        asked = [asyncio.create_task(ask(path)) for path in ("/api/models", "/api/models", "/health")]
        await asyncio.sleep(0)
        go.set()
        return list(await asyncio.gather(*asked))

    monkeypatch.setattr(request_log, "MAX_REQUESTS", 1)
    go, log = asyncio.Event(), request_log.RequestLog(wait, lambda record: None)
    answers = asyncio.run(ask_three())
    assert [answer["status"] for answer in answers] == [200, 503, 200]
    assert (b"retry-after", b"5") in answers[1]["headers"]


def test_a_port_that_was_taken_meanwhile_is_named() -> None:
    from fastapi import FastAPI

    from classifiers.serving.server import listen_on, run_server

    with listen_on("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with listen_on("127.0.0.1", port) as second:
            first.listen()
            with pytest.raises(SerError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
                run_server(FastAPI(), second, 1.0)


def test_a_response_does_not_wait_for_its_second_part() -> None:
    """With Nagle's algorithm, headers and body of each response were 40 ms apart."""
    from classifiers.serving.server import listen_on

    async def connect(listening: socket.socket) -> bool:
        accepted = asyncio.get_running_loop().create_future()
        async with await asyncio.start_server(lambda _, writer: accepted.set_result(writer), sock=listening):
            _, own = await asyncio.open_connection(*listening.getsockname()[:2])
            writer = await accepted
            delays = not writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            own.close()
            writer.close()
            return delays

    with listen_on("127.0.0.1", 0) as listening:
        assert not asyncio.run(connect(listening))


def test_who_leaves_a_long_recording_ends_it(server: Server) -> None:
    body = wav_bytes(np.tile(noise(30.0), 9).astype(np.float32))
    head = f"POST /api/timeline?hop=0.1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    connection = server.send(head.encode() + body)
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    connection.close()
    assert server.works()


def test_200_megabytes_are_refused_at_once(server: Server) -> None:
    head = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000000\r\n\r\n"
    answer = read_all(server.send(head + bytes(1000)))
    assert answer.startswith(b"HTTP/1.1 413")
    assert f"got more than {MAX_BYTES:,} bytes".encode() in answer
    assert server.works()


def test_64_clients_at_once_get_an_answer_each(server: Server) -> None:
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: server.ask("POST", "/api/predict", SOUND), range(64)))
    statuses = {status for status, _, _ in answers}
    assert 200 in statuses <= {200, 503}
    for status, body, headers in answers:
        if status == 503:
            assert "requests are running or waiting" in json.loads(body)["error"]
            assert 1 <= int(headers["retry-after"]) <= 120
    said = [json.loads(body)["predictions"][0]["probabilities"] for status, body, _ in answers if status == 200]
    # the same vectors; the head computes one or several at once, which adds in another order
    assert all(probabilities == pytest.approx(said[0], rel=1e-9, abs=1e-9) for probabilities in said)
    assert server.works()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /api/../../../etc/passwd", 404),
        ("GET /docs/..%2f..%2fetc/passwd", 404),
        ("GET //etc/passwd", 404),
        ("GET /", 404),
        ("POST /api/predict?name=../../etc/passwd", 422),
        ("GET /api/predict", 405),
        ("TRACE /api/predict", 405),
        ("nonsense", 400),
    ],
)
def test_paths_lead_nowhere_else(line: str, status: int, server: Server) -> None:
    version = "" if line == "nonsense" else " HTTP/1.1"
    answer = server.send(f"{line}{version}\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()).recv(10_000)
    assert answer.startswith(f"HTTP/1.1 {status}".encode()), answer
    assert b"root:" not in answer


def test_other_hosts_and_pages_are_refused(server: Server) -> None:
    assert server.ask("GET", "/api/models", headers={"Host": "evil.example"})[0] == 421
    assert server.ask("POST", "/api/predict", SOUND, {"Origin": "https://evil.example"})[0] == 403
    assert server.ask("GET", "/health", headers={"Host": "10.0.0.7:8000"})[0] == 200


@pytest.mark.parametrize(("sent", "kept"), [("my.id-7", True), ("x" * 65, False), ('a"b', False), ("", False)])
def test_a_sane_request_id_is_kept(sent: str, kept: bool, server: Server) -> None:
    status, _, headers = server.ask("GET", "/api/models", headers={"X-Request-ID": sent} if sent else {})
    assert (headers["x-request-id"] == sent) == kept
    line = logged(server, headers["x-request-id"])
    assert (line["status"], line["path"], line["level"]) == (status, "/api/models", "info")


def test_an_unexpected_error_is_logged_with_its_request(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of a test")

    monkeypatch.setattr(server.service, "read", broken)
    status, body, headers = server.ask("POST", "/api/predict", SOUND)
    assert (status, json.loads(body)["error"].startswith("an unexpected error")) == (500, True)
    assert b"test" not in body
    line = logged(server, headers["x-request-id"])
    assert (line["level"], "ZeroDivisionError: of a test" in line["error"]) == ("error", True)
    monkeypatch.undo()
    assert server.works()


@pytest.mark.long
def test_the_command_logs_in_json_and_ends_gracefully(served_models: tuple[Model, ...], tmp_path: Path) -> None:
    """The token comes from a file; a request that runs at SIGTERM is answered; the exit code is 0."""
    (tmp_path / "token").write_text(TOKEN + "\n")
    options = ["serve", str(served_models[0].folder), "--port", "0", "--auth", f"@{tmp_path / 'token'}"]
    command = [sys.executable, "-m", "cli", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as process:
        address = process.stdout.readline().split()[0]
        server = Server(int(address.rpartition(":")[2]), PredictionService(served_models[:1]), [])
        known = {"Authorization": f"Bearer {TOKEN}"}
        for headers, status in (({}, 401), ({"Authorization": "Bearer x"}, 401), (known, 200)):
            assert server.ask("GET", "/metrics", headers=headers)[0] == status
        assert server.ask("GET", "/health")[0] == 200
        head = f"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        running = server.send(f"{head}Content-Length: {len(SOUND)}\r\n\r\n".encode() + SOUND[:1000])
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        running.sendall(SOUND[1000:])
        assert running.recv(10_000).startswith(b"HTTP/1.1 200")
        assert process.wait(60) == 0
        lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    assert [line["status"] for line in lines] == [401, 401, 200, 200]
    assert not any(TOKEN in json.dumps(line) for line in lines)


SERVE_SLOWLY = """
import os
import time
from dataclasses import replace
from classifiers.inference.model import load_models
from classifiers.serving.access import Access
from classifiers.serving.server import build_app, end, listen_on, run_server
from classifiers.serving.service import PredictionService

(model,) = load_models([{folder!r}])
service = PredictionService([replace(model, proba=lambda *_: os.write(1, b"began\\n") and time.sleep(600))])
with listen_on("127.0.0.1", 0) as listening:
    ready = lambda: print(listening.getsockname()[1], flush=True)
    run_server(build_app(service, Access(prefixes=("/api/",)), ready), listening, 1)
    end(service)
"""


@pytest.mark.long
def test_what_computes_for_ever_does_not_keep_the_server(served_models: tuple[Model, ...]) -> None:
    """Nor does a second SIGTERM change the exit code."""
    command = [sys.executable, "-c", SERVE_SLOWLY.format(folder=str(served_models[0].folder))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        server = Server(int(process.stdout.readline()), PredictionService(served_models[:1]), [])
        head = f"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(SOUND)}\r\n\r\n"
        waiting = [server.send(head.encode() + SOUND) for _ in range(5)]
        try:
            assert process.stdout.readline() == "began\n"
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
            for answer in map(read_all, waiting):
                assert answer.startswith(b"HTTP/1.1 503")
                assert b"retry-after: 5" in answer
                assert b"the server ends" in answer
        finally:
            process.kill()


@pytest.mark.long
def test_the_command_says_what_is_wrong(served_models: tuple[Model, ...], ser: Ser, tmp_path: Path) -> None:
    """Other machines without a token, tokens that are none, a port in use, a model of another version."""
    model = served_models[0].folder
    newer = Path(shutil.copytree(model, tmp_path / "newer"))
    card = json.loads((newer / "model.json").read_text())
    (newer / "model.json").write_text(json.dumps({**card, "format_version": 99, "version": "9.9"}))
    (tmp_path / "empty").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments, said in {
            (model, "--host", "0.0.0.0"): "--host 0.0.0.0 admits other machines; wanted a token. Set SER_TOKEN",
            (model, "--auth", "short"): "the token has 5 characters; wanted at least 16",
            (model, "--auth", f"@{tmp_path / 'empty'}"): "is empty; wanted a token",
            (model, "--auth", f"@{tmp_path / 'none'}"): "cannot be read: No such file",
            (model, "--port", port): f"cannot listen on 127.0.0.1:{port}: Address already in use. Choose another",
            (tmp_path,): "no model found (model.json is missing)",
            (newer,): "got the model format 99, written by ser 9.9",
        }.items():
            done = ser("serve", *arguments)
            assert (done.returncode, said in done.stderr) == (1, True), done.stderr
