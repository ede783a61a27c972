"""A server on this machine that answers whatever a test wants, and what a download from it should leave behind."""

import hashlib
import io
import random
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from embedcache import Dataset, datasets
from embedcache.dataset import Remote
from embedcache.download.dataset import Download, download
from embedcache.download.http import ConnectionConfig

QUICK = ConnectionConfig(timeout=0.3, tries=3, pause=0.01)
BODY = random.Random(0).randbytes(300_000)
CLIPS = {f"Actor_01/03-01-0{n}-01-01-01-01.wav": BODY[: 1000 * n] for n in range(1, 5)}

Route = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class World:
    """A server on this machine: what it answers, and what it was asked (path, Range)."""

    url: str = ""
    routes: dict[str, Route] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def ranges(self, path: str) -> list[str | None]:
        return [wanted for asked, wanted in self.asked if asked == path]


def serves(
    body: bytes,
    cuts: list[int] | None = None,  # after how many bytes the first connections are cut
    ranges: bool = True,
    tags: list[str] | None = None,  # the ETag of each answer; the last one stays
    length: int | None = None,  # what the header says, in place of the truth
    heeds_if_range: bool = True,
    kind: str = "audio/x-wav",
    pause: float = 0.0,  # seconds after each 10 kB
) -> Route:
    cuts, tags = cuts or [], tags or ['"v1"']

    def route(h: BaseHTTPRequestHandler) -> None:
        tag = tags.pop(0) if len(tags) > 1 else tags[0]
        wanted = h.headers["Range"] if ranges else None
        if wanted and heeds_if_range and h.headers["If-Range"] not in (None, tag):
            wanted = None
        start = int(wanted[6:-1]) if wanted else 0
        if start >= len(body) and wanted:
            h.send_response(416)
            h.send_header("Content-Range", f"bytes */{len(body)}")
            h.send_header("Content-Length", "0")
            h.end_headers()
            return
        h.send_response(206 if wanted else 200)
        if wanted:
            h.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if tag:
            h.send_header("ETag", tag)
        h.send_header("Content-Type", kind)
        h.send_header("Content-Length", str(len(body) - start if length is None else length))
        h.end_headers()
        end = start + cuts.pop(0) if cuts else len(body)
        for at in range(start, min(end, len(body)), 10_000):
            h.wfile.write(body[at : min(at + 10_000, end)])
            time.sleep(pause)

    return route


def status(code: int, times: int = 1 << 30, then: Route | None = None, **headers: str) -> Route:
    left = [times]

    def route(h: BaseHTTPRequestHandler) -> None:
        left[0] -= 1
        if left[0] < 0 and then:
            then(h)
            return
        h.send_response(code)
        for name, value in headers.items():
            h.send_header(name.replace("_", "-"), value)
        h.send_header("Content-Length", "0")
        h.end_headers()

    return route


def md5(body: bytes) -> str:
    return "md5:" + hashlib.md5(body).hexdigest()


def spec(*remotes: Remote) -> Dataset:
    return replace(datasets.get("ravdess"), remotes=lambda get: remotes)


def one(world: World, body: bytes = BODY, path: str = "a/x.wav", **changes: object) -> Dataset:
    """A dataset of one file, of known size and checksum unless they are changed."""
    known = {"size": len(body), "checksum": md5(body), **changes}
    return spec(Remote(f"{world.url}/x", path, **known))


def fetched(world: World, root: Path, what: Dataset | None = None) -> Download:
    return download(what or one(world), root, config=QUICK)


def under(root: Path) -> dict[str, bytes]:
    """The files that are not hidden, by path."""
    paths = [path for path in root.rglob("*") if not path.is_dir() and "/." not in f"/{path.relative_to(root)}"]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def parts(root: Path) -> dict[str, int]:
    """What is half-done, by name, with the sizes in bytes."""
    hidden = [path for path in root.rglob(".*") if path.name not in (".download.json", ".download.lock")]
    return {path.name: path.stat().st_size for path in hidden if not path.name.endswith(".part.json")}


def complete(root: Path, wanted: dict[str, bytes]) -> None:
    """All that is wanted is there, and nothing else but our list and lock."""
    assert under(root) == wanted
    assert {path.name for path in root.rglob(".*")} <= {".download.json", ".download.lock"}


def zipped(members: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] = lambda info: None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, zipfile.ZIP_DEFLATED
            change(info)
            archive.writestr(info, content)
    return buffer.getvalue()


def central(packed: bytes, offset: int, value: bytes) -> bytes:
    """An archive whose first central record is changed."""
    at = packed.index(b"PK\1\2") + offset
    return packed[:at] + value + packed[at + len(value) :]


def archived(world: World, packed: bytes, **changes: object) -> Dataset:
    world.routes["/x"] = serves(packed)
    return one(world, packed, path="clips.zip", **changes)


@contextmanager
def running_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A server on this machine that answers what a test says."""
    monkeypatch.setenv("no_proxy", "*")
    here = World()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            here.asked.append((self.path, self.headers["Range"]))
            here.routes.get(self.path, status(404))(self)

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, address: object) -> None:
            pass  # the other side may be killed

    server = Server(("127.0.0.1", 0), Handler)
    here.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield here
    server.shutdown()
    thread.join()
    server.server_close()
