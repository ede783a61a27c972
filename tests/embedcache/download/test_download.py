"""Downloads from a server that misbehaves: what stands under a name is complete and right, whatever happens."""

import hashlib
import io
import json
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers.places import REPOSITORY

import cli
from embedcache import DataError, Dataset, datasets
from embedcache.dataset import Remote
from embedcache.datasets import _remotes
from embedcache.download import unzip as unpack
from embedcache.download.dataset import Download, download, home_of
from embedcache.download.http import Patience, Redirects

QUICK = Patience(timeout=0.3, tries=3, pause=0.01)
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


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
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
    return download(what or one(world), root, patience=QUICK)


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


# What a server does


def test_a_file_is_fetched_once(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY)
    assert fetched(world, tmp_path) == Download(tmp_path, fetched=1, found=0, unpacked=0)
    complete(tmp_path, {"a/x.wav": BODY})
    assert fetched(world, tmp_path) == Download(tmp_path, fetched=0, found=1, unpacked=0)
    assert len(world.asked) == 1


def test_what_is_there_is_known_by_content_where_the_list_is_lost(world: World, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.wav").write_bytes(BODY)
    for broken in (None, b"{", b"[]", b'{"finished": 3}', f'{{"finished": {{"{world.url}/x": 3}}}}'.encode()):
        if broken:
            (tmp_path / ".download.json").write_bytes(broken)
        assert fetched(world, tmp_path).found == 1
    assert world.asked == []


def test_a_file_with_another_content_is_told_and_stays(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.wav").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"another content: got 43 bytes, wanted 300,000\. Remove it"):
        fetched(world, tmp_path)
    assert under(tmp_path)["a/x.wav"].startswith(b"version")
    assert world.asked == []


def test_a_removed_file_is_fetched_again(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY)
    fetched(world, tmp_path)
    (tmp_path / "a" / "x.wav").unlink()
    assert fetched(world, tmp_path).fetched == 1


def test_cut_connections_go_on_where_they_ended(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY, cuts=[100_000, 50_000])
    assert fetched(world, tmp_path).fetched == 1
    assert under(tmp_path) == {"a/x.wav": BODY}
    assert world.ranges("/x") == [None, "bytes=100000-", "bytes=150000-"]


def test_after_too_many_cuts_the_part_stays_for_the_next_run(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY, cuts=[40_000] * 3)
    with pytest.raises(DataError, match=r"cut 180,000 bytes before the end, 3 times in a row\. The same command goes"):
        fetched(world, tmp_path)
    assert (under(tmp_path), parts(tmp_path)) == ({}, {".x.wav.part": 120_000})
    fetched(world, tmp_path)
    assert world.ranges("/x")[-1] == "bytes=120000-"
    complete(tmp_path, {"a/x.wav": BODY})


def test_many_cuts_are_borne_while_it_comes_along(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedcache.download.http.STEP", 10_000)
    world.routes["/x"] = serves(BODY, cuts=[20_000] * 12)
    fetched(world, tmp_path)
    assert under(tmp_path) == {"a/x.wav": BODY}
    assert len(world.asked) == 13


def test_a_server_that_ignores_ranges_starts_anew(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY, cuts=[100_000, 200_000], ranges=False)
    fetched(world, tmp_path)
    assert under(tmp_path) == {"a/x.wav": BODY}
    world.routes["/x"] = serves(BODY, cuts=[100_000] * 9, ranges=False)
    with pytest.raises(DataError, match="3 times in a row"):  # that it begins anew each time is no progress
        fetched(world, tmp_path / "other")


@pytest.mark.parametrize("heeds", [True, False])
@pytest.mark.parametrize("known", [{}, {"checksum": ""}])
def test_a_file_that_changes_between_two_parts_starts_anew(
    world: World, tmp_path: Path, heeds: bool, known: dict[str, str]
) -> None:
    world.routes["/x"] = serves(bytes(300_000), cuts=[100_000] * 3, tags=['"old"'])
    with pytest.raises(DataError):
        download(one(world, **known), tmp_path, patience=replace(QUICK, tries=1))
    world.routes["/x"] = serves(BODY, tags=['"new"'], heeds_if_range=heeds)
    fetched(world, tmp_path, one(world, **known))
    assert under(tmp_path) == {"a/x.wav": BODY}
    assert world.ranges("/x")[1:] == ["bytes=100000-"] + ([] if heeds else [None])


def test_without_version_and_checksum_nothing_is_resumed(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY, cuts=[100_000], tags=[""])
    fetched(world, tmp_path, one(world, checksum=""))
    assert world.ranges("/x") == [None, None]
    world.routes["/x"] = serves(BODY, cuts=[100_000], tags=['W/"weak"'])
    fetched(world, tmp_path / "checked")  # a checksum tells whether the halves belong together
    assert world.ranges("/x")[2:] == [None, "bytes=100000-"]


@pytest.mark.parametrize("note", [b"{", b"[]", b'{"url": 1}', b'{"url": "http://elsewhere/x", "validator": "v"}'])
def test_a_part_of_unknown_origin_is_not_gone_on_from(world: World, tmp_path: Path, note: bytes) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".x.wav.part").write_bytes(b"junk" * 100)
    (tmp_path / "a" / ".x.wav.part.json").write_bytes(note)
    world.routes["/x"] = serves(BODY)
    fetched(world, tmp_path)
    assert world.ranges("/x") == [None]
    complete(tmp_path, {"a/x.wav": BODY})


def note_of(world: World, root: Path, part: bytes) -> None:
    """A part as a killed run leaves it."""
    (root / "a").mkdir(parents=True)
    (root / "a" / ".x.wav.part").write_bytes(part)
    (root / "a" / ".x.wav.part.json").write_text(json.dumps({"url": f"{world.url}/x", "validator": '"v1"'}))


def test_a_complete_part_only_gets_its_name(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY)
    note_of(world, tmp_path / "1", BODY)
    fetched(world, tmp_path / "1")
    assert world.asked == []
    note_of(world, tmp_path / "2", BODY)
    fetched(world, tmp_path / "2", one(world, size=None, checksum=""))  # nobody knew: the server says 416
    assert world.ranges("/x") == [f"bytes={len(BODY)}-"]
    assert under(tmp_path / "1") == under(tmp_path / "2") == {"a/x.wav": BODY}


def test_a_part_longer_than_the_file_is_dropped(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY)
    note_of(world, tmp_path, BODY + b"more")
    fetched(world, tmp_path)
    complete(tmp_path, {"a/x.wav": BODY})


def test_another_piece_than_was_asked_for_is_not_taken(world: World, tmp_path: Path) -> None:
    def shifted(h: BaseHTTPRequestHandler) -> None:
        if not h.headers["Range"]:
            serves(BODY)(h)
            return
        h.send_response(206)
        h.send_header("Content-Range", f"bytes 7-{len(BODY) - 1}/{len(BODY)}")
        h.send_header("Content-Length", str(len(BODY) - 7))
        h.end_headers()
        h.wfile.write(BODY[7:])

    world.routes["/x"] = shifted
    note_of(world, tmp_path, BODY[:100_000])
    fetched(world, tmp_path, one(world, checksum=""))
    assert under(tmp_path) == {"a/x.wav": BODY}


def test_a_length_that_lies_leads_to_no_wrong_file(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY, length=400_000)
    with pytest.raises(DataError, match=r"the server offers 400,000 bytes \(audio/x-wav\), wanted 300,000"):
        fetched(world, tmp_path)
    fetched(world, tmp_path / "long", one(world, size=None))  # asked for the rest, the server tells the truth
    assert under(tmp_path / "long") == {"a/x.wav": BODY}
    world.routes["/x"] = serves(BODY, length=400_000, ranges=False)
    with pytest.raises(DataError, match="cut 100,000 bytes before the end, 3 times"):
        fetched(world, tmp_path / "none", one(world, size=None))
    world.routes["/x"] = serves(BODY, length=200_000)
    with pytest.raises(DataError, match="got the md5 .*, wanted"):
        fetched(world, tmp_path / "short", one(world, size=None))
    assert under(tmp_path / "none") == under(tmp_path / "short") == {}
    assert parts(tmp_path / "short") == {}


def chunked(body: bytes, ends: bool = True) -> Route:
    def route(h: BaseHTTPRequestHandler) -> None:
        h.send_response(200)
        h.send_header("Transfer-Encoding", "chunked")
        h.end_headers()
        for at in range(0, len(body), 50_000):
            piece = body[at : at + 50_000]
            h.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        h.wfile.write(b"0\r\n\r\n" if ends else b"ff\r\nab")

    return route


def test_a_body_without_a_length(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.routes["/x"] = chunked(BODY)
    fetched(world, tmp_path / "known")
    fetched(world, tmp_path / "unknown", one(world, size=None, checksum=""))
    assert under(tmp_path / "known") == under(tmp_path / "unknown") == {"a/x.wav": BODY}
    world.routes["/x"] = chunked(BODY, ends=False)
    with pytest.raises(DataError, match="cut"):
        fetched(world, tmp_path / "cut", one(world, size=None, checksum=""))
    world.routes["/x"] = chunked(BODY + b"!")
    with pytest.raises(DataError, match="sends more than 300,000 bytes"):
        fetched(world, tmp_path / "more")
    monkeypatch.setattr("embedcache.download.http.LARGEST", 200_000)
    with pytest.raises(DataError, match="sends more than 200,000 bytes"):
        fetched(world, tmp_path / "endless", one(world, size=None, checksum=""))
    for name in ("cut", "more", "endless"):
        assert under(tmp_path / name) == {}
    assert parts(tmp_path / "more") == parts(tmp_path / "endless") == {}


def test_a_file_of_unknown_size_is_bounded(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY, length=1 << 40)
    with pytest.raises(DataError, match="at most 4,294,967,296 are fetched"):
        fetched(world, tmp_path, one(world, size=None))

    def endless(h: BaseHTTPRequestHandler) -> None:
        h.send_response(200)
        h.end_headers()
        h.wfile.write(BODY)

    world.routes["/x"] = endless
    with pytest.raises(DataError, match="a cut would not be seen"):
        fetched(world, tmp_path, one(world, size=None, checksum=""))
    assert (under(tmp_path), parts(tmp_path)) == ({}, {})


def test_a_wrong_checksum_leaves_nothing(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY[::-1])
    with pytest.raises(DataError, match=rf"/x: got the md5 [0-9a-f]+, wanted {md5(BODY)[4:]}\. It was removed"):
        fetched(world, tmp_path)
    assert (under(tmp_path), parts(tmp_path)) == ({}, {})
    world.routes["/x"] = serves(BODY)
    sha256 = "sha256:" + hashlib.sha256(BODY).hexdigest().upper()
    fetched(world, tmp_path, one(world, checksum=sha256))
    assert under(tmp_path) == {"a/x.wav": BODY}


@pytest.mark.parametrize(("code", "tries"), [(404, 1), (403, 1), (500, 3), (503, 3), (204, 1), (202, 3), (304, 1)])
def test_answers_without_a_file(world: World, tmp_path: Path, code: int, tries: int) -> None:
    world.routes["/x"] = status(code)
    with pytest.raises(DataError, match=f"/x: the server answers {code}"):
        fetched(world, tmp_path)
    assert len(world.asked) == tries
    assert (under(tmp_path), parts(tmp_path)) == ({}, {})


def test_a_server_that_is_busy_is_asked_again_when_it_says(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = status(503, times=2, then=serves(BODY))
    fetched(world, tmp_path / "1")
    world.routes["/x"] = status(429, times=1, then=serves(BODY), Retry_After="1")
    begin = time.monotonic()
    fetched(world, tmp_path / "2")
    assert 1 <= time.monotonic() - begin < 2
    assert under(tmp_path / "1") == under(tmp_path / "2") == {"a/x.wav": BODY}


def test_a_server_that_stalls_counts_as_cut(world: World, tmp_path: Path) -> None:
    answers = [100_000, 150_000]

    def stalls(h: BaseHTTPRequestHandler) -> None:
        start = int(h.headers["Range"][6:-1]) if h.headers["Range"] else 0
        end = start + answers.pop(0) if answers else len(BODY)
        h.send_response(206 if start else 200)
        h.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        h.send_header("Content-Length", str(len(BODY) - start))
        h.end_headers()
        h.wfile.write(BODY[start:end])
        h.wfile.flush()
        if end < len(BODY):
            time.sleep(0.5)

    world.routes["/x"] = stalls
    fetched(world, tmp_path)
    assert under(tmp_path) == {"a/x.wav": BODY}
    assert world.ranges("/x") == [None, "bytes=100000-", "bytes=250000-"]


def test_no_server_is_one_message(tmp_path: Path) -> None:
    nobody = spec(Remote("http://127.0.0.1:9/x", "x.wav", 3, md5(b"abc")))
    with pytest.raises(DataError, match=r"127.0.0.1:9/x: .*refused, 3 times in a row\. The same command"):
        download(nobody, tmp_path, patience=QUICK)


def test_redirects(world: World, tmp_path: Path) -> None:
    for n in range(12):
        world.routes[f"/{n}"] = status(302, Location=f"/{n + 1}")
    world.routes["/8"] = serves(BODY, cuts=[100_000])
    world.routes["/x"] = status(303, Location="/0")
    fetched(world, tmp_path)
    assert under(tmp_path) == {"a/x.wav": BODY}
    assert world.ranges("/8") == [None, "bytes=100000-"]
    world.routes["/8"] = status(302, Location="/9")
    for location, said in {
        "/x": "answers 302",  # a loop
        "/0": "answers 302",  # too many
        "file:///etc/passwd": "answers 302",
        "ftp://127.0.0.1/x": "leads to ftp://",
    }.items():
        world.asked.clear()
        world.routes["/x"] = status(302, Location=location)
        with pytest.raises(DataError, match=said):
            fetched(world, tmp_path / "none")
        assert len(world.asked) <= 11
    assert under(tmp_path / "none") == {}


STRANGE = [
    (302, {"Location": "http://[::1"}),
    (302, {"Location": "http://127.0.0.1:port/x"}),
    (302, {"Location": "//"}),
    (302, {"Location": "http:\x1b[31m"}),
    (302, {}),
    (200, {"Content-Length": "9" * 5000}),
    (200, {"Content-Length": "-1"}),
    (200, {"Content-Length": "x", "Content-Type": "\x1b[31m/\x1b[31m"}),
    (200, {"Transfer-Encoding": "chunked"}),
    (206, {"Content-Range": "bytes 0-1/" + "9" * 5000}),
    (206, {"Content-Range": "bytes " + "9" * 5000 + "-1/3"}),
    (206, {"Content-Range": "bytes 0-299999/300000", "Content-Length": "300000"}),
    (416, {"Content-Range": "bytes */" + "9" * 5000}),
    (429, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}),
    (503, {"Retry-After": "-1"}),
]


@pytest.mark.parametrize(("code", "headers"), STRANGE)
@pytest.mark.parametrize("begun", [True, False])
def test_strange_headers_are_one_message(
    world: World, tmp_path: Path, code: int, headers: dict[str, str], begun: bool
) -> None:
    def route(h: BaseHTTPRequestHandler) -> None:
        h.send_response(code, "\x1b[31mred")
        for name, value in headers.items():
            h.send_header(name, value)
        h.end_headers()
        h.wfile.write(BODY[:-1])

    world.routes["/x"] = route
    if begun:
        note_of(world, tmp_path, BODY[:1000])
    with pytest.raises(DataError) as error:
        fetched(world, tmp_path)
    assert "\x1b" not in str(error.value)
    assert under(tmp_path) == {}


def test_a_folder_that_is_a_file_is_one_message(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot write .*file"):
        fetched(world, tmp_path / "file")


def test_encryption_is_not_lost_on_the_way() -> None:
    secure = urllib.request.Request("https://example.org/x")
    follow = Redirects().redirect_request
    assert follow(secure, io.BytesIO(), 302, "", {}, "https://example.com/x").full_url == "https://example.com/x"
    with pytest.raises(DataError, match="leads to http://example.com/x; wanted https"):
        follow(secure, io.BytesIO(), 302, "", {}, "http://example.com/x")
    plain = urllib.request.Request("http://example.org/x")
    assert follow(plain, io.BytesIO(), 302, "", {}, "https://example.org/x").full_url == "https://example.org/x"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/x", "/etc/passwd", "data:,x"])
def test_other_addresses_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError, match="wanted an address with http or https"):
        download(spec(Remote(url, "x.wav")), tmp_path, patience=QUICK)
    assert under(tmp_path) == {}


# Many files


def many(world: World, count: int) -> Dataset:
    for n in range(count):
        world.routes[f"/{n}"] = serves(BODY[: n + 1])
    return spec(*(Remote(f"{world.url}/{n}", f"d/{n}.wav", n + 1, md5(BODY[: n + 1])) for n in range(count)))


def test_files_that_cannot_be_had_do_not_stop_the_others(world: World, tmp_path: Path) -> None:
    what = many(world, 30)
    world.routes["/3"] = world.routes["/7"] = status(404)
    with pytest.raises(DataError, match="2 files could not be had") as error:
        fetched(world, tmp_path, what)
    assert "/3: the server answers 404" in str(error.value)
    assert len(under(tmp_path)) == 28
    world.routes["/3"], world.routes["/7"] = serves(BODY[:4]), serves(BODY[:8])
    world.asked.clear()
    assert fetched(world, tmp_path, what) == Download(tmp_path, fetched=2, found=28, unpacked=0)
    assert len(world.asked) == 2


def test_a_server_that_has_nothing_is_soon_left_alone(world: World, tmp_path: Path) -> None:
    what = many(world, 200)
    world.routes.clear()
    with pytest.raises(DataError, match="5 files could not be had"):
        fetched(world, tmp_path, what)
    assert len(world.asked) < 60
    assert under(tmp_path) == {}


def test_progress_counts_megabytes_or_files(world: World, tmp_path: Path) -> None:
    from contextlib import contextmanager

    seen: list[tuple[str, float, str, float]] = []

    @contextmanager
    def progress(what: str, total: float, unit: str) -> Iterator[Callable[[float], None]]:
        steps: list[float] = []
        yield steps.append
        seen.append((what, total, unit, round(sum(steps), 9)))

    world.routes["/x"] = serves(BODY, cuts=[100_000, 200_000], ranges=False)
    download(one(world), tmp_path, progress, QUICK)
    download(one(world), tmp_path, progress, QUICK)
    download(one(world, size=None), tmp_path / "unknown", progress, QUICK)
    in_bytes = ("downloading ravdess", 0.3, "MB", 0.3)
    assert seen == [in_bytes, in_bytes, ("downloading ravdess", 1, "files", 1)]


def test_ctrl_c_keeps_what_is_complete(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    what = many(world, 200)
    calm = serves(BODY[:101])

    def interrupts(h: BaseHTTPRequestHandler) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        calm(h)

    world.routes["/100"] = interrupts
    monkeypatch.setattr(datasets, "get", lambda name: what)
    monkeypatch.setattr(sys, "argv", ["ser", "download", "ravdess", "--root", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert "error: stopped: what is complete stays. The same command goes on" in capsys.readouterr().err
    kept = under(tmp_path)
    assert 50 < len(kept) < 200
    assert all(content == BODY[: len(content)] for content in kept.values())
    world.routes["/100"] = calm
    got = fetched(world, tmp_path, what)
    assert (got.found, got.fetched) == (len(kept), 200 - len(kept))


def test_ctrl_c_ends_a_long_file_soon(world: World, tmp_path: Path) -> None:
    slowly = serves(BODY, pause=0.1)

    def interrupts(h: BaseHTTPRequestHandler) -> None:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        slowly(h)

    world.routes["/x"] = interrupts
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetched(world, tmp_path)
    assert time.monotonic() - begin < 2  # all of it takes 3
    assert under(tmp_path) == {}
    assert 0 < parts(tmp_path)[".x.wav.part"] < 300_000


def test_two_at_once_in_a_folder_are_told_apart(world: World, tmp_path: Path) -> None:
    held, go_on = threading.Event(), threading.Event()

    def waits(h: BaseHTTPRequestHandler) -> None:
        held.set()
        go_on.wait(5)
        serves(BODY)(h)

    world.routes["/x"] = waits
    first = threading.Thread(target=download, args=(one(world), tmp_path))
    first.start()
    held.wait(5)
    with pytest.raises(DataError, match="another `ser download` is at work here"):
        fetched(world, tmp_path)
    go_on.set()
    first.join()
    assert under(tmp_path) == {"a/x.wav": BODY}


@pytest.mark.parametrize(
    "path",
    [
        *(
            "../x.wav",
            "/x.wav",
            "a/../../x.wav",
            "C:\\x.wav",
            "C:/x.wav",
            "a\\..\\..\\x",
            "a\0b",
            "",
            ".",
            "a//b",
            "a/",
        ),
        *(".download.json", "a/.x.part", "link/x.wav", "a\nb", "a /b", "\ud800"),
    ],
)
def test_a_listing_cannot_name_a_place_outside(world: World, tmp_path: Path, path: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    with pytest.raises(DataError, match="what the server lists is no dataset"):
        fetched(world, root, spec(Remote(f"{world.url}/ok", "ok.wav"), Remote(f"{world.url}/x", path)))
    assert world.asked == []
    assert under(root) == {}
    assert sorted(tmp_path.rglob("x*")) == []


def test_a_listing_names_each_file_once_and_at_least_one(world: World, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'A.wav': stands there more than once"):
        fetched(world, tmp_path, spec(Remote(world.url, "a.wav"), Remote(world.url, "A.wav")))
    with pytest.raises(DataError, match="no file"):
        fetched(world, tmp_path, spec())


# Archives


def archived(world: World, packed: bytes, **changes: object) -> Dataset:
    world.routes["/x"] = serves(packed)
    return one(world, packed, path="clips.zip", **changes)


def test_an_archive_is_unpacked_and_removed(world: World, tmp_path: Path) -> None:
    extra = {"__MACOSX/Actor_01/._x.wav": b"mac", ".DS_Store": b"mac", "Actor_01/": b""}
    what = archived(world, zipped(CLIPS | extra))
    assert fetched(world, tmp_path, what) == Download(tmp_path, fetched=1, found=0, unpacked=4)
    complete(tmp_path, CLIPS)
    assert fetched(world, tmp_path, what) == Download(tmp_path, fetched=0, found=1, unpacked=0)
    assert len(world.asked) == 1
    next(tmp_path.rglob("*.wav")).unlink()  # what is lost is fetched again, what is there is left
    assert fetched(world, tmp_path, what).fetched == 1
    assert under(tmp_path) == CLIPS


def test_an_archive_that_is_there_is_not_fetched_and_stays(world: World, tmp_path: Path) -> None:
    packed = zipped(CLIPS)
    what = archived(world, packed)
    (tmp_path / "clips.zip").write_bytes(packed)
    assert fetched(world, tmp_path, what) == Download(tmp_path, fetched=0, found=1, unpacked=4)
    assert under(tmp_path) == CLIPS | {"clips.zip": packed}
    assert world.asked == []
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "clips.zip").write_bytes(packed[:-10])
    assert fetched(world, tmp_path / "other", what).fetched == 1


def test_files_of_ones_own_are_not_overwritten(world: World, tmp_path: Path) -> None:
    name = next(iter(CLIPS))
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(b"mine")
    what = archived(world, zipped(CLIPS))
    with pytest.raises(DataError, match=r"another content are there:\n  Actor_01/.*\nNothing was unpacked"):
        fetched(world, tmp_path, what)
    assert under(tmp_path) == {name: b"mine"}
    (tmp_path / name).write_bytes(CLIPS[name])
    assert fetched(world, tmp_path, what).fetched == 0  # the archive waits
    complete(tmp_path, CLIPS)


def linked(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


HOSTILE = {
    "up": (zipped({"ok.wav": b"x", "../x": b"x"}), "plain path below"),
    "deep up": (zipped({"a/../../x": b"x"}), "plain path below"),
    "absolute": (zipped({"/x": b"x"}), "plain path below"),
    "drive": (zipped({"C:\\x": b"x"}), "characters that no name has"),
    "backslash": (zipped({"..\\x": b"x"}), "characters that no name has"),
    "nul": (zipped({"x\0.wav": b"x"}), "characters that no name has"),
    "link": (zipped({"x": b"/etc/passwd"}, linked), "link or a device"),
    "twice": (zipped({"x.wav": b"x", "X.wav": b"y"}), "more than once"),
    "encrypted": (central(zipped({"x.wav": b"x"}), 8, b"\1\0"), "holds what a dataset does not.*is encrypted"),
    "method": (central(zipped({"x.wav": b"x"}), 10, b"\x0e\0"), "packed by method 14"),
    "bomb": (zipped({"x.wav": bytes(1 << 20)}), "1,048,576 bytes when unpacked"),
    "declared bomb": (central(zipped({"x.wav": b"x"}), 24, b"\xf0\xff\xff\xff"), "4,294,967,280 bytes when"),
    "more than declared": (central(zipped({"x.wav": bytes(9000)}), 24, b"\x05\0\0\0"), "Bad CRC-32"),
    "less than declared": (central(zipped({"x.wav": b"x"}), 24, b"\x05\0\0\0"), "ends too early"),
    "through a link": (zipped({"link/x": b"x"}), "leads out of the folder"),
    "flipped": (zipped({"x.wav": BODY}).replace(BODY[5000:5010], BODY[5010:5020]), "not a sound zip"),
    "cut": (zipped(CLIPS)[:-30], "not a sound zip"),
    "page": (b"<!DOCTYPE html><title>Sorry</title>", "not a sound zip.*begins with b'<!DOCTYPE html>"),
    "empty": (b"", "not a sound zip"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_and_damaged_archives_leave_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(unpack, "SMALL", 100_000)
    packed, said = HOSTILE[kind]
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    root.mkdir()
    (root / "link").symlink_to(outside)
    with pytest.raises(DataError, match=rf"(?s)clips\.zip.*{said}"):
        fetched(world, root, archived(world, packed, size=None, checksum=""))
    assert (under(root), parts(root)) == ({}, {})
    assert not list(outside.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"root", "outside"}
    fetched(world, root, archived(world, zipped(CLIPS), size=None, checksum=""))  # and the next try is a fresh one
    assert under(root) == CLIPS


def test_what_a_killed_run_has_unpacked_is_not_in_the_way(world: World, tmp_path: Path) -> None:
    (tmp_path / ".unpacking-clips.zip" / next(iter(CLIPS))).mkdir(parents=True)
    fetched(world, tmp_path, archived(world, zipped(CLIPS)))
    complete(tmp_path, CLIPS)


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MEMBERS", 3)
    (tmp_path / "x.zip").write_bytes(zipped(CLIPS))
    with pytest.raises(DataError, match="4 files; at most 3 are unpacked"):
        unpack.unpack(tmp_path / "x.zip", tmp_path / "out")


def test_flipped_bytes_make_an_error_or_the_same_files(tmp_path: Path) -> None:
    packed, rng, damaged = zipped({"a/x.wav": BODY[:300], "y.wav": bytes(500)}), random.Random(1), 0
    for n in range(150):
        spoilt = bytearray(packed)
        for _ in range(rng.randint(1, 3)):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        folder = tmp_path / str(n)
        folder.mkdir()
        (folder / ".x.zip").write_bytes(spoilt)
        try:
            unpack.unpack(folder / ".x.zip", folder)
        except DataError:
            damaged += 1
            assert under(folder) == {}
        assert set(under(folder).values()) <= {BODY[:300], bytes(500)}
        assert parts(folder) == {".x.zip": len(spoilt)}
    assert damaged > 50


def test_a_page_in_place_of_a_known_archive_keeps_the_part(world: World, tmp_path: Path) -> None:
    packed = zipped(CLIPS)
    world.routes["/x"] = serves(packed, cuts=[1000] * 3)
    what = one(world, packed, path="clips.zip")
    with pytest.raises(DataError):
        fetched(world, tmp_path, what)
    world.routes["/x"] = serves(b"<html>", kind="text/html", ranges=False)
    with pytest.raises(DataError, match=r"offers 6 bytes \(text/html\), wanted"):
        fetched(world, tmp_path, what)
    world.routes["/x"] = serves(packed)
    fetched(world, tmp_path, what)
    assert world.ranges("/x")[-1] == "bytes=3000-"
    assert under(tmp_path) == CLIPS


# The machine


def test_a_full_disk_is_one_message_and_goes_on(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DataError, match=r"cannot write .*: File too large\. Make room, or choose another --root"):
            fetched(world, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (under(tmp_path), parts(tmp_path)) == ({}, {".x.wav.part": 100_000})
    fetched(world, tmp_path)
    assert world.ranges("/x")[-1] == "bytes=100000-"
    assert under(tmp_path) == {"a/x.wav": BODY}


def test_a_full_disk_while_unpacking_leaves_the_archive(world: World, tmp_path: Path) -> None:
    clips = {"small.wav": b"x" * 10, "x.wav": bytes(500_000)}
    what = archived(world, zipped(clips))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DataError, match=r"cannot write .*: File too large"):
            fetched(world, tmp_path, what)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert under(tmp_path) == {}
    assert list(parts(tmp_path)) == [".clips.zip"]
    fetched(world, tmp_path, what)
    assert len(world.asked) == 1
    complete(tmp_path, clips)


DRIVER = """
import json, os, signal, sys
from dataclasses import replace
from pathlib import Path
from embedcache import datasets
from embedcache.dataset import Remote
from embedcache.download import download
remotes, root = [Remote(*fields) for fields in json.loads(sys.argv[1])], Path(sys.argv[2])
spec = replace(datasets.get("ravdess"), remotes=lambda get: remotes)
"""

KILLED_AT_EACH_STEP = (
    DRIVER
    + """
def killing(step, left):
    def before(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*arguments, **options)
    return before

for n in range(1000):
    pid = os.fork()
    if not pid:
        left = [n]
        Path.replace, Path.unlink, os.fsync = (killing(step, left) for step in (Path.replace, Path.unlink, os.fsync))
        download(spec, root / str(n))
        os._exit(0)
    if os.waitpid(pid, 0)[1] == 0:
        print(n)
        break
"""
)


def driven(code: str, what: Dataset, root: Path) -> subprocess.Popen:
    fields = [(r.url, r.path, r.size, r.checksum) for r in what.remotes(lambda url: b"")]
    return subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(fields), str(root)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_before_any_rename_sync_or_removal_it_goes_on(world: World, tmp_path: Path) -> None:
    clips = dict(list(CLIPS.items())[:2])
    packed = zipped(clips)
    world.routes["/zip"], world.routes["/x"] = serves(packed), serves(BODY)
    archive = Remote(f"{world.url}/zip", "clips.zip", len(packed), md5(packed))
    what = spec(archive, Remote(f"{world.url}/x", "more/x.wav", len(BODY), md5(BODY)))
    everything = clips | {"more/x.wav": BODY}
    told, errors = driven(KILLED_AT_EACH_STEP, what, tmp_path).communicate(timeout=60)
    assert told.strip().isdecimal(), errors
    steps = int(told)
    assert steps > 15
    for n in range(steps):
        assert under(tmp_path / str(n)).items() <= everything.items()
        fetched(world, tmp_path / str(n), what)
        complete(tmp_path / str(n), everything)


def test_killed_in_mid_download_it_goes_on_from_there(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY, pause=0.05)
    process = driven(DRIVER + "download(spec, root)", one(world), tmp_path)
    part = tmp_path / "a" / ".x.wav.part"
    while not (part.exists() and part.stat().st_size > 50_000):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert under(tmp_path) == {}
    size = part.stat().st_size
    assert 50_000 < size < 300_000
    world.routes["/x"] = serves(BODY)
    fetched(world, tmp_path)
    assert world.ranges("/x") == [None, f"bytes={size}-"]
    complete(tmp_path, {"a/x.wav": BODY})


# The datasets


def test_every_remote_is_well_formed() -> None:
    speech, song = (datasets.get(name).remotes(lambda url: b"") for name in ("ravdess", "ravdess-song"))
    clips = _remotes.cremad(lambda url: b"")
    for remote in [*speech, *song, *clips, *_remotes.emodb(lambda url: b"")]:
        assert remote.url.startswith(("https://", "http://emodb.bilderbar.info/"))
        kind, _, digest = remote.checksum.partition(":")
        assert len(digest) == {"md5": 32, "sha256": 64, "": 0}[kind]
    assert (len(clips), sum(clip.size or 0 for clip in clips)) == (7443, 605_899_936)
    assert len({clip.path for clip in clips}) == 7443
    sums = _remotes.cremad_checksums()
    assert len(sums) == 7442
    assert sums["1001_DFA_ANG_XX"].startswith("c6f94b25")
    for same in ("1006_TIE_HAP 1006_TIE_NEU", "1013_WSI_DIS 1013_WSI_SAD", "1017_IWW_ANG 1017_IWW_FEA"):
        first, second = same.split()
        assert sums[f"{first}_XX"] == sums[f"{second}_XX"]


def listing(*files: dict) -> Callable[[str], bytes]:
    return lambda url: json.dumps({"status": "OK", "data": {"latestVersion": {"files": files}}}).encode()


def entry(number: int, name: str, **more: object) -> dict:
    return {"label": name, "dataFile": {"id": number, "filename": name, "filesize": 3, "md5": "0" * 32}, **more}


def test_tess_is_read_from_its_listing(world: World, tmp_path: Path) -> None:
    files = [entry(7, "OAF_back_angry.wav", directoryLabel="OAF_angry"), entry(8, "YAF_x_sad.WAV"), entry(9, "a.pdf")]
    assert _remotes.tess(listing(*files)) == [
        Remote(f"{_remotes.BOREALIS}/access/datafile/7", "OAF_angry/OAF_back_angry.wav", 3, "md5:" + "0" * 32),
        Remote(f"{_remotes.BOREALIS}/access/datafile/8", "YAF_x_sad.WAV", 3, "md5:" + "0" * 32),
    ]
    for strange in (b"<html>", b"[]", b'{"data": {}}', b"[" * 100_000, b"\xff"):
        with pytest.raises(DataError, match="is not the list of TESS's files"):
            _remotes.tess(lambda url, strange=strange: strange)
    for wrong in ({"id": "7/../8"}, {"id": None}, {"filename": 3}, {"filesize": float("inf")}):
        broken = entry(7, "x.wav")
        broken["dataFile"] |= wrong
        with pytest.raises(DataError, match="is not the list of TESS's files"):
            _remotes.tess(listing(broken))
    outside = replace(datasets.get("ravdess"), remotes=lambda get: _remotes.tess(listing(entry(7, "../x.wav"))))
    with pytest.raises(DataError, match="what the server lists is no dataset"):
        fetched(world, tmp_path / "root", outside)


def test_a_listing_is_fetched_with_patience_and_bounds(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedcache.download.http.LARGEST_DOCUMENT", 1000)
    world.routes["/x"] = serves(BODY)

    def listed(get: Callable[[str], bytes]) -> list[Remote]:
        words = json.loads(get(f"{world.url}/list"))
        return [Remote(f"{world.url}/x", words[0], len(BODY), md5(BODY))]

    what = replace(datasets.get("ravdess"), remotes=listed)
    world.routes["/list"] = status(503, times=1, then=serves(b'["x.wav"]', cuts=[3]))
    fetched(world, tmp_path, what)
    assert under(tmp_path) == {"x.wav": BODY}
    world.routes["/list"] = serves(bytes(5000))
    with pytest.raises(DataError, match="more than 1,000 bytes; wanted a listing"):
        fetched(world, tmp_path, what)


# The command


def told(monkeypatch: pytest.MonkeyPatch, what: Dataset, *options: object) -> int:
    monkeypatch.setattr(datasets, "get", lambda name: what)
    monkeypatch.setattr(sys, "argv", ["ser", "download", what.name, *map(str, options)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_command_says_where_it_is_and_what_comes_next(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    what = archived(world, zipped(CLIPS))
    assert told(monkeypatch, what, "--root", tmp_path) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"ravdess: {tmp_path} is complete",
        "files fetched now: 1, 4 unpacked from archives; there before: 0",
        "licence: CC BY-NC-SA 4.0",
        f"cite:    {what.citation}",
    ]
    assert f"Next: ser audit --dataset ravdess --root {tmp_path}" in said.err
    assert f"ser extract --dataset ravdess --root {tmp_path}" in said.err
    assert told(monkeypatch, what, "--root", tmp_path) == 0
    assert "files fetched now: 0; there before: 1" in capsys.readouterr().out
    assert len(datasets.get("ravdess").manifest(tmp_path)) == 4


def test_what_nobody_may_fetch_says_how_to_apply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    asked = replace(datasets.get("ravdess"), name="savee", remotes=None, apply="Register at Surrey.")
    assert told(monkeypatch, asked, "--root", tmp_path / "new") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: savee cannot be fetched by a command. Register at Surrey.\nPut its files into ")
    assert not (tmp_path / "new").exists()
    monkeypatch.undo()
    assert told(monkeypatch, datasets.get("folder")) == 1
    assert "label>/<speaker>_<anything>.wav" in capsys.readouterr().err


def test_the_folder_is_where_it_will_be_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ravdess = datasets.get("ravdess")
    assert home_of(ravdess) == Path("data/ravdess")
    monkeypatch.setenv("SER_DATA", str(tmp_path))
    assert home_of(ravdess) == tmp_path / "ravdess"
    assert home_of(ravdess, "here") == Path("here")
